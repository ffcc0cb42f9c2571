"""Judges against judges: how far they agree, whether their P means what it says, and what else they may be going by."""

from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from aifeedback_dpo import engine, preferences
from aifeedback_dpo.compare import agreement, calibration, intervals, people, pixels, ranking, tau
from aifeedback_dpo.compare.slices import Table, slices
from aifeedback_dpo.compare.views import known, read
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONTROL
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run

__all__ = ["judges", "known"]
DIGITS = 6  # of p_a, which is kept in float32


def judges(run: Run, names: Sequence[str], progress: engine.Progress) -> dict[str, Any]:
    """Everything about these judges, in the report's words. Raises UserError where the run has no pairs."""
    views = read(run, names)
    if not views.pairs.num_rows:
        raise UserError(f"{run.root} has no pairs; run `ddpo generate` or `ddpo import` first")
    settings = run.recipe.compare
    seed = derive(run.recipe.seed, "bootstrap")
    table = Table(views, names, {"resamples": settings.resamples, "confidence": settings.confidence, "seed": seed})
    twos = list(combinations(table.people_first, 2))
    return {
        "names": list(names),
        "pairs": views.pairs.num_rows,
        "said": [_said(table, name) for name in names],
        "rules": agreement.RULES,
        "matrix": _agreements(table, twos),
        "tau": _taus(table, twos),
        "calibration": [_calibration(table, name) for name in table.others if table.truth and name != CONTROL],
        "slices": slices(table),
        "bias": _bias(table, progress),
        "people": people.ceiling(views, table.boot),
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


def _agreements(table: Table, twos: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """All of one resampling."""
    said, measures = table.views.said, []
    for one, other in twos:
        votes = table.votes(one)
        measures += agreement.measures(said[one].p_a, said[other].p_a, table.views.numbers, votes=votes)
    found, each = table.estimates(measures), len(agreement.RULES) + 1
    rows = []
    for at, (one, other) in enumerate(twos):
        told = agreement.told(said[one].p_a, said[other].p_a, found[at * each : (at + 1) * each])
        weighted = one == table.truth and table.weighted(table.both(one, other))
        rows.append({"first": one, "second": other, **told.to_dict(), "weighted_by_votes": weighted})
    return rows


def _taus(table: Table, twos: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    said, (image_a, image_b) = table.views.said, table.views.pictures
    measures = [
        tau.measure(said[one].p_a, said[other].p_a, table.views.numbers, image_a, image_b) for one, other in twos
    ]
    return [
        {"first": one, "second": other, "prompts": found.prompts, "tau": found.to_dict()}
        for (one, other), found in zip(twos, table.estimates(measures), strict=True)
    ]


def _calibration(table: Table, name: str) -> dict[str, Any]:
    assert table.truth
    kept, numbers, votes = table.both(table.truth, name), table.views.numbers, table.views.votes
    p_a, margin = (
        np.where(kept, column, np.nan) for column in (table.views.said[name].p_a, table.views.said[name].margin)
    )
    weights = votes.sum(axis=1)
    human = np.divide(votes @ [0.0, 0.5, 1.0], weights, out=np.full(len(votes), np.nan), where=kept & (weights > 0))
    row: dict[str, Any] = {"judge": name, "against": table.truth, "pairs": int(kept.sum())}
    row |= {"ece": None, "ece_by_chance": None, "bins": [], "logit_slope": None}
    row |= {"slope": None, "set_it": None, "why_not": None, "no_slope": None}
    if not kept.any():
        row["why_not"] = f"it has no pair in common with {table.truth}"
    elif len(np.setdiff1d(np.unique(p_a[kept]), [0.0, 0.5, 1.0])):
        row |= calibration.calibration(p_a, human, numbers, weights=weights, **table.boot).to_dict()
        sure = {"weights": weights, "confidence": table.boot["confidence"]}
        row["logit_slope"] = calibration.logit_slope(p_a, human, numbers, **sure).to_dict()
    else:
        row["why_not"] = "it takes sides and gives no probability"
    try:
        fit = preferences.fit_slope(margin, table.views.said[table.truth].p_a, table.views.prompts.tolist())
    except UserError as error:
        row["no_slope"] = str(error)
        return row
    z = NormalDist().inv_cdf((1 + table.boot["confidence"]) / 2)
    row["slope"] = {
        "value": fit.slope,
        "low": fit.slope - z * fit.error,
        "high": fit.slope + z * fit.error,
        "prompts": len(np.unique(numbers[~np.isnan(margin)])),
    }
    # a judge that is asked answers with a probability, which has no slope to set
    if name in table.views.run.recipe.label.scorers and not table.views.run.parts("answers", name):
        row["set_it"] = f"label.scorers.{name}.slope={fit.slope:.4g}"
    return row


def _bias(table: Table, progress: engine.Progress) -> list[dict[str, Any]]:
    """How often a judge prefers the first place, and the picture that has more of each feature of its pixels."""
    first = np.ones(table.views.pairs.num_rows)
    leanings = [("position", "the picture in the first place; one half where places were drawn by chance", first)]
    leanings += pixels.compared(table.views, table.boot["seed"], progress)
    rows, measures = [], []
    for feature, about, more in leanings:
        for name in table.names:
            p_a = table.views.said[name].p_a
            votes = agreement.one_each(p_a) if name != table.truth else table.views.votes
            ahead = np.where(np.isnan(more) | (more == 0), 0.5, more > 0)  # one half as of a judge that says tie
            hits, number = agreement.with_people(votes, ahead)
            measures.append(intervals.share(hits, number, table.views.numbers))
            rows.append({"judge": name, "feature": feature, "about": about, "pairs": int((number > 0).sum())})
    return [row | {"share": found.to_dict()} for row, found in zip(rows, table.estimates(measures), strict=True)]


def _rankings(table: Table) -> list[dict[str, Any]]:
    """Of the models that drew, or why there is none; pictures of different prompts never meet, so they have no ranking."""
    one, other = table.views.models
    rows = []
    for name in table.names:
        p_a = table.views.said[name].p_a
        found = ranking.bradley_terry(one, other, p_a, table.views.numbers, **table.boot)
        met = (one != other) & ~np.isnan(p_a)
        items = [
            {"item": item, "score": score.to_dict(), "pairs": int((met & ((one == item) | (other == item))).sum())}
            for item, score in found.scores.items()
        ]
        row = {"judge": name, "of": "models", "items": items}
        rows.append(row | {"why_not": found.why_not, "no_interval": found.no_interval})
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
    sure = (np.abs(one.p_a - 0.5) + np.abs(other.p_a - 0.5)).round(DIGITS)
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
