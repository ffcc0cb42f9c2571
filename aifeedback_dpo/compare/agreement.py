"""How far two judges agree on the same pairs, as pure functions of their p_a columns.

"Accuracy" has four meanings in what is published, by what becomes of a tie, and they differ by points on the same answers:
RULES names them, with the code that each is from. With votes, a pair counts as often as it was voted on: one with three votes
is three pairs with one vote, all on the side of the majority.

Intervals resample prompts (percentile). `benchmarks/coverage_judges.py` has how often they hold the truth: with 30 prompts
they fall a point or two short of 95 %. Where fewer than ten prompts have a hit, or a miss, shares get Wilson's interval of as
many observations as there are prompts if that is wider; kappa has no such floor, so of judges that never differ it is a point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import TEN, Estimate, cluster_sums, estimate, ratio, widened

Array = NDArray[np.float64]

RULES = {
    "decided": "pairs that either calls a tie are left out (imscore's benchmark, for ties of people; the usual reading)",
    "half credit": "one half where one of the two calls a tie, one where both do (PickScore, eval_preference_predictor.py)",
    "ties wrong": "ties of the first are left out, of the second count as wrong (HPSv2, training/train.py, calc_ImageReward)",
    "inversions": "only opposite sides count as wrong, a tie of either as right (HPSv2, training/train.py, inversion_score)",
}
PARTS = 4


@dataclass(frozen=True)
class Agreement:
    """Two judges on the pairs that both judged; `rules` has the accuracy by each of RULES."""

    pairs: int
    decided: int
    rules: dict[str, Estimate]  # each rests on the prompts of the pairs that it counts
    kappa: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "decided": self.decided,
            "rules": {name: share.to_dict() for name, share in self.rules.items()},
            "kappa": self.kappa.to_dict(),
        }


def agreement(
    first: Array,
    second: Array,
    prompts: Sequence[str],
    *,
    weights: Array | None = None,
    resamples: int,
    confidence: float,
    seed: int,
) -> Agreement:
    """`first` and `second` are p_a of the same pairs, 0.5 a tie; `prompts` are their clusters, `weights` votes on each.

    By the rule "ties wrong" the first is the one to agree with; by all others, and for kappa, the order is nothing.
    """
    boot: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    counted = np.ones(len(first)) if weights is None else np.asarray(weights, dtype=np.float64)
    one, two = np.sign(first - 0.5), np.sign(second - 0.5)
    earned = _credits(one, two)
    cells = np.zeros((len(one), 9))
    cells[np.arange(len(one)), ((one + 1) * 3 + two + 1).astype(int)] = counted
    rules = {}
    for name, (credit, kept) in earned.items():
        rules[name] = share(credit, kept * counted, prompts, **boot)
    return Agreement(
        pairs=len(one),
        decided=int(((one != 0) & (two != 0)).sum()),
        rules=rules,
        kappa=bounded(estimate(cluster_sums(cells, prompts), cohen_kappa, **boot)),
    )


def _credits(one: Array, two: Array) -> dict[str, tuple[Array, Array]]:
    """By rule: what each pair earns, and whether it counts."""
    both, same = (one != 0) & (two != 0), one == two
    every = np.ones(len(one))
    return {
        "decided": (same.astype(np.float64), both.astype(np.float64)),
        "half credit": (np.where(both | same, same, 0.5), every),
        "ties wrong": ((same & both).astype(np.float64), (one != 0).astype(np.float64)),
        "inversions": ((one * two >= 0).astype(np.float64), every),
    }


def cohen_kappa(cells: Array) -> Array:
    """Cohen's kappa (1960) of confusion counts, m x 9 (b, tie, a by the same): (observed - chance) / (1 - chance).

    NaN where both said one and the same of all, of which chance would make as much.
    """
    table = cells.reshape(-1, 3, 3)
    total = table.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(table, axis1=1, axis2=2) / total
        chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
        kappa: Array = (observed - chance) / (1 - chance)
    return kappa


def share(hits: Array, counted: Array, prompts: Sequence[str], **boot: Any) -> Estimate:
    """A weighted share of hits (n, in [0, 1]) among what counts (n), with its interval over the prompts that count.

    With few prompts that have a hit, or a miss, it is at least as wide as Wilson's of so many prompts.
    """
    rows = cluster_sums(np.stack([hits * counted, counted], axis=1), prompts)
    rows = rows[rows[:, 1] > 0]
    found = estimate(rows, ratio, **boot)
    hit, missed = int((rows[:, 0] > 0).sum()), int((rows[:, 0] < rows[:, 1]).sum())
    few = min(hit, missed)
    if few >= TEN:
        return found
    won = few if hit <= missed else found.prompts - few
    return widened(found, won=won, lost=found.prompts - won, confidence=boot["confidence"])


def bounded(found: Estimate) -> Estimate:
    """Without an interval where it rests on one prompt, of which all resamples are alike."""
    return found if found.prompts > 1 else replace(found, low=math.nan, high=math.nan)


def quantile_parts(values: Array) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Values in at most PARTS parts of about equal size, as (lowest, highest, which); fewer where many are the same."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)))
    at = np.searchsorted(edges[1:-1], values, side="right")
    parts = [at == part for part in np.unique(at)]
    return [(float(values[which].min()), float(values[which].max()), which) for which in parts]
