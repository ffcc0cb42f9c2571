"""How far two judges agree on the same pairs, as pure functions of their p_a columns.

"Accuracy" has four meanings in what is published, by what becomes of a tie, and they differ by points on the same answers:
RULES names them, with the code that each is from. With votes, each vote on a pair is an observation: a pair counts as often as
it was voted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate, ratio

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
    rules: dict[str, Estimate]
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

    By the rule "ties wrong" the first is the one to agree with.
    """
    boot = partial(estimate, resamples=resamples, confidence=confidence, seed=seed)
    counted = np.ones(len(first)) if weights is None else np.asarray(weights, dtype=np.float64)
    one, two = np.sign(first - 0.5), np.sign(second - 0.5)
    earned = _credits(one, two)
    cells = np.zeros((len(one), 9))
    cells[np.arange(len(one)), ((one + 1) * 3 + two + 1).astype(int)] = counted
    rules = {}
    for name, (credit, kept) in earned.items():
        rows = np.stack([credit * kept * counted, kept * counted], axis=1)
        rules[name] = boot(cluster_sums(rows, prompts), ratio)
    return Agreement(
        pairs=len(one),
        decided=int(((one != 0) & (two != 0)).sum()),
        rules=rules,
        kappa=boot(cluster_sums(cells, prompts), cohen_kappa),
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
    """Cohen's kappa of confusion counts, m x 9 (three classes by three): (observed - chance) / (1 - chance)."""
    table = cells.reshape(-1, 3, 3)
    total = table.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(table, axis1=1, axis2=2) / total
        chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
        kappa: Array = (observed - chance) / (1 - chance)
    return kappa


def share(hits: Array, counted: Array, prompts: Sequence[str], **boot: Any) -> Estimate:
    """A weighted share of hits (n) among what counts (n), with its interval over prompts."""
    rows = np.stack([hits * counted, counted], axis=1)
    return estimate(cluster_sums(rows, prompts), ratio, **boot)


def quantile_parts(values: Array) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Values in at most PARTS parts of about equal size, as (low, high, which); fewer where many are the same."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)))
    if len(edges) == 1:
        return [(float(edges[0]), float(edges[0]), np.ones(len(values), dtype=bool))]
    return [
        (float(low), float(high), (values >= low) & ((values < high) | (high == edges[-1])))
        for low, high in pairwise(edges)
    ]


def tau(rank_one: Array, rank_two: Array) -> float:
    """Kendall's tau-b of two rankings of the same few pictures; NaN where one of them ranks nothing."""
    from scipy.stats import kendalltau

    if len(rank_one) < 2 or len(set(rank_one)) < 2 or len(set(rank_two)) < 2:
        return float("nan")
    return float(kendalltau(rank_one, rank_two).statistic)
