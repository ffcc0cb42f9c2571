"""How far two judges agree on the same pairs, as pure functions of their p_a columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate, ratio

Array = NDArray[np.float64]

TIE_RULE = "a pair that either judge calls a tie is left out"
HALF_CREDIT_RULE = "half credit when exactly one of the two calls a tie, full when both do (PickScore's evaluation)"


@dataclass(frozen=True)
class Bin:
    """Accuracy among pairs whose margin lies in one quarter of the second judge's margins."""

    low: float
    high: float
    pairs: int
    accuracy: Estimate


@dataclass(frozen=True)
class Agreement:
    """Two judges on the pairs that both judged."""

    pairs: int
    decided: int
    accuracy: Estimate
    accuracy_with_ties: Estimate
    kappa: Estimate
    by_margin: list[Bin]

    def to_dict(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "decided": self.decided,
            "accuracy": self.accuracy.to_dict() | {"ties": TIE_RULE},
            "accuracy_with_ties": self.accuracy_with_ties.to_dict() | {"ties": HALF_CREDIT_RULE},
            "kappa": self.kappa.to_dict() | {"classes": "a, tie, b"},
            "by_margin": [
                {"low": part.low, "high": part.high, "pairs": part.pairs, "accuracy": part.accuracy.to_dict()}
                for part in self.by_margin
            ],
        }


def agreement(
    first: Array, second: Array, margin: Array, prompts: Sequence[str], *, resamples: int, confidence: float, seed: int
) -> Agreement:
    """`first` and `second` are p_a of the same pairs, `margin` the second judge's, `prompts` the pairs' clusters."""
    boot = partial(estimate, resamples=resamples, confidence=confidence, seed=seed)
    one, two = np.sign(first - 0.5), np.sign(second - 0.5)
    decided = (one != 0) & (two != 0)
    same = (one == two).astype(np.float64)
    credit = np.where(decided | (one == two), same, 0.5)
    cells = np.zeros((len(one), 9))
    cells[np.arange(len(one)), ((one + 1) * 3 + two + 1).astype(int)] = 1
    accuracy = _share(same, decided, prompts, boot)
    return Agreement(
        pairs=len(one),
        decided=int(decided.sum()),
        accuracy=accuracy,
        accuracy_with_ties=_share(credit, np.ones(len(one), dtype=bool), prompts, boot),
        kappa=boot(cluster_sums(cells, prompts), cohen_kappa),
        by_margin=_by_margin(same, decided, np.abs(margin), prompts, boot),
    )


def cohen_kappa(cells: Array) -> Array:
    """Cohen's kappa of confusion counts, m x 9 (three classes by three): (observed - chance) / (1 - chance)."""
    table = cells.reshape(-1, 3, 3)
    total = table.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(table, axis1=1, axis2=2) / total
        chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
        kappa: Array = (observed - chance) / (1 - chance)
    return kappa


def _share(hits: Array, counted: NDArray[np.bool_], prompts: Sequence[str], boot: Any) -> Estimate:
    rows = np.stack([hits * counted, counted.astype(np.float64)], axis=1)
    made: Estimate = boot(cluster_sums(rows, prompts), ratio)
    return made


def _by_margin(same: Array, decided: NDArray[np.bool_], margin: Array, prompts: Sequence[str], boot: Any) -> list[Bin]:
    if decided.sum() < 8:
        return []
    edges = np.unique(np.quantile(margin[decided], [0, 0.25, 0.5, 0.75, 1]))
    bins = []
    for low, high in pairwise(edges):
        inside = decided & (margin >= low) & ((margin < high) | (high == edges[-1]))
        bins.append(Bin(float(low), float(high), int(inside.sum()), _share(same, inside, prompts, boot)))
    return bins
