"""How far judges agree with people on parts of the pairs: by margin, pair of models, length of the prompt, category."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.agreement import quantile_parts, share
from aifeedback_dpo.compare.views import Views
from aifeedback_dpo.records import HUMAN

Array = NDArray[np.float64]
MANY_MODELS = 12
"""Pairs of models that are shown apart, the most frequent."""


@dataclass(frozen=True)
class Table:
    """The views of the judges that are compared, and how intervals are made."""

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

    @property
    def people_first(self) -> list[str]:
        """As people are whom one agrees with, in whichever order judges were named."""
        return [*([self.truth] if self.truth else []), *self.others]

    def both(self, one: str, other: str) -> NDArray[np.bool_]:
        return self.views.said[one].there & self.views.said[other].there

    def prompts(self, kept: NDArray[np.bool_]) -> list[str]:
        return list(map(str, self.views.prompts[kept].tolist()))

    def weights(self, one: str, other: str, kept: NDArray[np.bool_]) -> Array | None:
        """Votes on each pair where people are one of the two and some pair has several; None where each counts once."""
        votes = self.views.said[self.truth].votes[kept] if self.truth in (one, other) and self.truth else np.ones(0)
        return votes if (votes > 1).any() else None


def slices(table: Table) -> list[dict[str, Any]]:
    """Accuracy among pairs that both decided, by margin, pair of models, length and category, against people."""
    if table.truth is None:
        return []
    words, categories = table.views.words(), table.views.categories()
    one, other = table.views.models
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
        found += _parts("margin", margin, decided, _span)
        found += _parts("length", words, decided, _words)
        found += _groups("models", drawn, decided, MANY_MODELS)
        found += _groups("category", categories, decided) if categories is not None else []
        for by, part, inside in found:
            hits = (sides[0] == sides[1])[inside].astype(np.float64)
            weights = table.weights(table.truth, name, inside)
            counted = np.ones(len(hits)) if weights is None else weights
            accuracy = share(hits, counted, table.prompts(inside), **table.boot)
            about = {"judge": name, "against": table.truth, "by": by, "slice": part, "pairs": len(hits)}
            rows.append(about | {"accuracy": accuracy.to_dict()})
    return rows


Part = tuple[str, str, NDArray[np.bool_]]


def _parts(by: str, values: Array, decided: NDArray[np.bool_], tell: Callable[[float, float], str]) -> list[Part]:
    """Quarters of the decided pairs by a number; nothing where it is the same for all."""
    rows = np.flatnonzero(decided & ~np.isnan(values))
    parts = quantile_parts(values[rows])
    found = []
    for low, high, inside in parts if len(parts) > 1 else []:
        which = np.zeros(len(values), dtype=bool)
        which[rows[inside]] = True
        found.append((by, tell(low, high), which))
    return found


def _words(low: float, high: float) -> str:
    return f"{_span(low, high, '.0f')} {'word' if high == 1 else 'words'}"


def _span(low: float, high: float, digits: str = ".3g") -> str:
    return f"{low:{digits}} to {high:{digits}}" if low < high else f"{low:{digits}}"


def _groups(by: str, names: NDArray[np.str_], decided: NDArray[np.bool_], most: int | None = None) -> list[Part]:
    """Pairs by a name, the most frequent first, all after the first `most` as one; nothing where it is one for all."""
    found, counts = np.unique(names[decided], return_counts=True)
    order = found[np.argsort(-counts, kind="stable")]
    if len(order) < 2:
        return []
    parts = [(by, str(name), decided & (names == name)) for name in order[:most]]
    if rest := len(order) - len(parts):
        parts.append((by, f"{rest} others", decided & ~np.isin(names, order[:most])))
    return parts
