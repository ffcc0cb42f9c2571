"""How far judges agree with people on parts of the pairs: by margin, pair of models, length of the prompt, category."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import agreement
from aifeedback_dpo.compare.agreement import quantile_parts
from aifeedback_dpo.compare.bootstrap import Estimate
from aifeedback_dpo.compare.intervals import Measure, estimates, share
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

    def estimates(self, measures: Sequence[Measure]) -> list[Estimate]:
        return estimates(measures, **self.boot)

    def votes(self, judge: str) -> Array | None:
        """People's votes on each pair (n, 3), where it is they; None for others, of whom each says one thing of a pair."""
        return self.views.votes if judge == self.truth else None

    def weighted(self, kept: NDArray[np.bool_]) -> bool:
        """Whether more than one vote stands behind one of these pairs of people's, or a part of one."""
        votes = self.views.votes[kept]
        return bool((votes != agreement.one_each(self.views.said[HUMAN].p_a[kept])).any())


def slices(table: Table) -> list[dict[str, Any]]:
    """Accuracy among pairs that both decided, by margin, pair of models, length and category, against people."""
    if table.truth is None:
        return []
    words, categories = table.views.words(), table.views.categories()
    one, other = table.views.models
    drawn = np.array([" | ".join(sorted(pair)) for pair in zip(one.tolist(), other.tolist(), strict=True)], dtype=str)
    rows, measures = [], []
    for name in table.others:
        said = table.views.said[name].p_a
        hits, number = agreement.with_people(table.views.votes * table.both(table.truth, name)[:, None], said)
        decided = number > 0
        if not decided.any():
            continue
        margin = np.abs(table.views.said[name].margin)
        found: list[tuple[str, str, NDArray[np.bool_]]] = []
        found += _parts("margin", margin, decided, _span)
        found += _parts("length", words, decided, _words)
        found += _groups("models", drawn, decided, MANY_MODELS)
        found += _groups("category", categories, decided) if categories is not None else []
        for by, part, inside in found:
            measures.append(share(hits, number * inside, table.views.numbers))
            rows.append({"judge": name, "against": table.truth, "by": by, "slice": part, "pairs": int(inside.sum())})
    return [row | {"accuracy": found.to_dict()} for row, found in zip(rows, table.estimates(measures), strict=True)]


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
