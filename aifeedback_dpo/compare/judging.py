"""Judges against judges: how far they agree, whether their P means what it says, and what else they may be going by."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo import engine, preferences
from aifeedback_dpo.compare import agreement, people, pixels, ranking
from aifeedback_dpo.compare.bootstrap import estimate, ratio
from aifeedback_dpo.compare.calibration import calibration
from aifeedback_dpo.compare.views import Views, known, read
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONTROL, HUMAN
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run

__all__ = ["judges", "known"]
Array = NDArray[np.float64]
MANY_MODELS = 12  # pairs of models that are shown apart, the most frequent


@dataclass(frozen=True)
class Table:
    """The views, and how intervals are made."""

    views: Views
    names: Sequence[str]
    boot: dict[str, Any]

    @property
    def truth(self) -> str | None:
        """Whom the others are held against: people."""
        return HUMAN if HUMAN in self.names else None

    @property
    def others(self) -> list[str]:
        return [name for name in self.names if name != self.truth]

    def both(self, one: str, other: str) -> NDArray[np.bool_]:
        return self.views.said[one].there & self.views.said[other].there

    def prompts(self, kept: NDArray[np.bool_]) -> list[str]:
        return list(map(str, self.views.prompts[kept].tolist()))

    def weights(self, one: str, other: str, kept: NDArray[np.bool_]) -> Array | None:
        """Votes on each pair where people are one of the two and some pair has several; None where each counts once."""
        votes = self.views.said[self.truth].votes[kept] if self.truth in (one, other) and self.truth else np.ones(0)
        return votes if (votes > 1).any() else None


def judges(run: Run, names: Sequence[str], progress: engine.Progress) -> dict[str, Any]:
    """Everything about these judges, in the report's words. Raises UserError where the run has no pairs."""
    views = read(run, names)
    if not views.pairs.num_rows:
        raise UserError(f"{run.root} has no pairs; run `ddpo generate` or `ddpo import` first")
    settings = run.recipe.compare
    seed = derive(run.recipe.seed, "bootstrap")
    table = Table(views, names, {"resamples": settings.resamples, "confidence": settings.confidence, "seed": seed})
    return {
        "names": list(names),
        "pairs": views.pairs.num_rows,
        "said": [_said(table, name) for name in names],
        "rules": agreement.RULES,
        "matrix": [_agreement(table, *pair) for pair in combinations(names, 2)],
        "tau": [_tau(table, *pair) for pair in combinations(names, 2)],
        "calibration": [_calibration(table, name) for name in table.others if table.truth and name != CONTROL],
        "slices": _slices(table),
        "bias": _bias(table, progress),
        "people": people.ceiling(run, table.boot),
        "ranking": _rankings(table),
        "disputed": _disputed(table),
    }


def _said(table: Table, name: str) -> dict[str, Any]:
    said = table.views.said[name]
    p_a = said.p_a[said.there]
    return {
        "judge": name,
        "pairs": len(p_a),
        "a": int((p_a > 0.5).sum()),
        "b": int((p_a < 0.5).sum()),
        "ties": int((p_a == 0.5).sum()),
        "missing": int((~said.there).sum()),
        "votes": int(said.votes[said.there].sum()) if name == table.truth else None,
        "rule": said.rule,
    }


def _agreement(table: Table, one: str, other: str) -> dict[str, Any]:
    kept = table.both(one, other)
    first, second = (table.views.said[name].p_a[kept] for name in (one, other))
    weights = table.weights(one, other, kept)
    found = agreement.agreement(first, second, table.prompts(kept), weights=weights, **table.boot)
    return {"first": one, "second": other, **found.to_dict(), "weighted_by_votes": weights is not None}


def _tau(table: Table, one: str, other: str) -> dict[str, Any]:
    """Within each prompt the pictures are ranked by how often they are preferred, in pairs that both judged."""
    kept = np.flatnonzero(table.both(one, other))
    sides = table.views.sides()
    by_prompt: dict[str, list[int]] = {}
    for at in kept.tolist():
        by_prompt.setdefault(str(table.views.prompts[at]), []).append(at)
    found = []
    for rows in by_prompt.values():
        if len(rows) > 1:
            pictures = sorted({side[at] for side in sides for at in rows})
            ranked = [_wins(table.views.said[name].p_a, rows, sides, pictures) for name in (one, other)]
            value = agreement.tau(*ranked)
            if not math.isnan(value):
                found.append(value)
    values = np.stack([np.array(found), np.ones(len(found))], axis=1)
    return {
        "first": one,
        "second": other,
        "prompts": len(found),
        "tau": estimate(values, ratio, **table.boot).to_dict(),
    }


def _wins(p_a: Array, rows: Sequence[int], sides: tuple[list[str], list[str]], pictures: Sequence[str]) -> Array:
    """The mean preference for each picture; a mean, because pairs may be missing."""
    won, met = dict.fromkeys(pictures, 0.0), dict.fromkeys(pictures, 0)
    for at in rows:
        for picture, share in ((sides[0][at], p_a[at]), (sides[1][at], 1 - p_a[at])):
            won[picture] += np.sign(share - 0.5)
            met[picture] += 1
    return np.array([won[picture] / met[picture] for picture in pictures])


def _calibration(table: Table, name: str) -> dict[str, Any]:
    assert table.truth
    kept = table.both(table.truth, name)
    human, said = table.views.said[table.truth], table.views.said[name]
    p_a, margin, prompts = said.p_a[kept], said.margin[kept], table.prompts(kept)
    row: dict[str, Any] = {"judge": name, "against": table.truth, "pairs": int(kept.sum())}
    row |= {"ece": None, "bins": [], "slope": None, "set_it": None, "why_not": None, "no_slope": None}
    if len(np.setdiff1d(np.unique(p_a), [0.0, 0.5, 1.0])):
        weights = table.weights(table.truth, name, kept)
        row |= calibration(p_a, human.p_a[kept], prompts, weights=weights, **table.boot).to_dict()
    else:
        row["why_not"] = f"{name} takes sides and gives no probability"
    try:
        fit = preferences.fit_slope(margin, human.p_a[kept], prompts)
    except UserError as error:
        row["no_slope"] = str(error)
        return row
    z = 1.959964
    row["slope"] = {
        "value": fit.slope,
        "low": fit.slope - z * fit.error,
        "high": fit.slope + z * fit.error,
        "prompts": len(set(prompts)),
    }
    if name in table.views.run.recipe.label.scorers:
        row["set_it"] = f"label.scorers.{name}.slope={fit.slope:.4g}"
    return row


def _slices(table: Table) -> list[dict[str, Any]]:
    """Accuracy among pairs that both decided, by margin, pair of models, length and category, against people."""
    if table.truth is None:
        return []
    words, categories = table.views.words(), table.views.categories()
    one, other = table.views.models()
    drawn = np.array([" | ".join(sorted(pair)) for pair in zip(one, other, strict=True)], dtype=str)
    rows = []
    for name in table.others:
        kept = table.both(table.truth, name)
        sides = [np.sign(table.views.said[judge].p_a - 0.5) for judge in (table.truth, name)]
        decided = kept & (np.nan_to_num(sides[0]) != 0) & (np.nan_to_num(sides[1]) != 0)
        if not decided.any():
            continue
        margin = np.abs(table.views.said[name].margin)
        found: list[tuple[str, str, NDArray[np.bool_]]] = []
        found += _parts("margin", margin, decided, lambda low, high: f"{low:.3g} to {high:.3g}")
        found += _parts("length", words, decided, lambda low, high: f"{low:.0f} to {high:.0f} words")
        found += _groups("models", drawn, decided)
        found += _groups("category", categories, decided) if categories is not None else []
        for by, part, inside in found:
            hits = (sides[0] == sides[1])[inside].astype(np.float64)
            weights = table.weights(table.truth, name, inside)
            counted = np.ones(len(hits)) if weights is None else weights
            accuracy = agreement.share(hits, counted, table.prompts(inside), **table.boot)
            about = {"judge": name, "against": table.truth, "by": by, "slice": part, "pairs": len(hits)}
            rows.append(about | {"accuracy": accuracy.to_dict()})
    return rows


Part = tuple[str, str, NDArray[np.bool_]]


def _parts(by: str, values: Array, decided: NDArray[np.bool_], tell: Callable[[float, float], str]) -> list[Part]:
    """Quarters of the decided pairs by a number; nothing where it is the same for all."""
    rows = np.flatnonzero(decided & ~np.isnan(values))
    parts = agreement.quantile_parts(values[rows])
    found = []
    for low, high, inside in parts if len(parts) > 1 else []:
        which = np.zeros(len(values), dtype=bool)
        which[rows[inside]] = True
        found.append((by, tell(low, high), which))
    return found


def _groups(by: str, names: NDArray[np.str_], decided: NDArray[np.bool_]) -> list[Part]:
    """Pairs by a name, the most frequent first; nothing where it is one for all."""
    found, counts = np.unique(names[decided], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MANY_MODELS]
    return [(by, str(found[at]), decided & (names == found[at])) for at in order] if len(found) > 1 else []


def _bias(table: Table, progress: engine.Progress) -> list[dict[str, Any]]:
    """How often a judge prefers the first place, and the picture that has more of each feature of its pixels."""
    first = np.ones(table.views.pairs.num_rows)
    leanings = [("position", "the picture in the first place, which a coin toss chose", first)]
    leanings += pixels.compared(table.views, table.boot["seed"], progress)
    rows = []
    for feature, about, more in leanings:
        for name in table.names:
            p_a = table.views.said[name].p_a
            counted = ~np.isnan(p_a) & (p_a != 0.5) & ~np.isnan(more) & (more != 0)
            hits = ((p_a > 0.5) == (more > 0))[counted].astype(np.float64)
            share = agreement.share(hits, np.ones(len(hits)), table.prompts(counted), **table.boot).to_dict()
            rows.append({"judge": name, "feature": feature, "about": about, "pairs": len(hits), "share": share})
    return rows


def _rankings(table: Table) -> list[dict[str, Any]]:
    """Of the models that drew; pictures of different prompts never meet, so they cannot be ranked."""
    one, other = table.views.models()
    if len({*one, *other}) < 2:
        return []
    rows = []
    for name in table.names:
        p_a = table.views.said[name].p_a
        found = ranking.bradley_terry(one, other, p_a, table.views.prompts.tolist(), **table.boot)
        met = [{first, second} for first, second, share in zip(one, other, p_a, strict=True) if not math.isnan(share)]
        items = [
            {"item": item, "score": score.to_dict(), "pairs": sum(item in pair and len(pair) > 1 for pair in met)}
            for item, score in found.items()
        ]
        rows.append({"judge": name, "of": "models", "items": items})
    return rows


def _disputed(table: Table) -> list[dict[str, Any]]:
    """Pairs on which people and the recipe's `ai` (or the first two judges) took opposite sides, the surest first."""
    ai = table.views.run.recipe.label.ai
    pair = (table.truth, ai) if table.truth and ai in table.names else tuple(table.names[:2])
    if len(pair) < 2:
        return []
    first, second = pair
    one, other = (table.views.said[str(name)] for name in (first, second))
    opposed = np.flatnonzero(np.nan_to_num((one.p_a - 0.5) * (other.p_a - 0.5)) < 0)
    sure = np.abs(one.p_a - 0.5) + np.abs(other.p_a - 0.5)
    order = opposed[np.lexsort((-np.abs(np.nan_to_num(other.margin[opposed])), -sure[opposed]))]
    sides = table.views.sides()
    return [
        {
            "prompt": table.views.texts[str(table.views.prompts[at])],
            "image_a": sides[0][at],
            "image_b": sides[1][at],
            "first": first,
            "second": second,
            "p_first": float(one.p_a[at]),
            "p_second": float(other.p_a[at]),
        }
        for at in order[: table.views.run.recipe.compare.gallery].tolist()
    ]
