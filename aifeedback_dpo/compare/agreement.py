"""How far two judges agree on the same pairs, as pure functions of their p_a columns.

"Accuracy" has four meanings in what is published, by what becomes of a tie, and they differ by points on the same answers:
RULES names them, with the code that each is from.

Each vote is an observation: a pair on which two people said a and one said b counts as three, and a judge that says a agrees
with two of them. Where only p_a and a number of votes are known, p_a * votes of them were for a and the rest for b.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.bootstrap import Estimate, by_prompt
from aifeedback_dpo.compare.intervals import Measure, Numbers, numbered

Array = NDArray[np.float64]

RULES = {
    "decided": "pairs that either calls a tie are left out (imscore's benchmark, for ties of people; the usual reading)",
    "half credit": "one half where one of the two calls a tie, one where both do (PickScore, eval_preference_predictor.py)",
    "ties wrong": "ties of the first are left out, of the second count as wrong (HPSv2, training/train.py, calc_ImageReward)",
    "inversions": "only opposite sides count as wrong, a tie of either as right (HPSv2, training/train.py, inversion_score)",
}
CREDIT = {  # by what the first said (b, tie, a: a row each) and the second (a column each): what is earned, and what counts
    "decided": ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], [[1, 0, 1], [0, 0, 0], [1, 0, 1]]),
    "half credit": ([[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    "ties wrong": ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], [[1, 1, 1], [0, 0, 0], [1, 1, 1]]),
    "inversions": ([[1, 1, 0], [1, 1, 1], [0, 1, 1]], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
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
    first: Array, second: Array, prompts: Sequence[str] | Numbers, *, votes: Array | None = None, **boot: Any
) -> Agreement:
    """`first` and `second` are p_a of the same pairs, 0.5 a tie and NaN no view; `prompts` are their clusters.

    `votes` are the first's, of each pair, for b, tie and a (n, 3); by default one each, as p_a says. By the rule "ties wrong"
    the first is the one to agree with; by all others, and for kappa, the order is nothing.
    """
    measured = measures(first, second, numbered(prompts), votes=votes)
    return told(first, second, intervals.estimates(measured, **boot))


def measures(first: Array, second: Array, prompts: Numbers, *, votes: Array | None = None) -> list[Measure]:
    """One for each of RULES, then kappa."""
    said = one_each(first) if votes is None else votes * ~np.isnan(first)[:, None]
    cells = by_prompt((said[:, :, None] * one_each(second)[:, None, :]).reshape(-1, 9), prompts)
    shares = [cells @ np.array(CREDIT[rule], dtype=np.float64).reshape(2, 9).T for rule in RULES]
    return [*(Measure(share, is_share=True) for share in shares), Measure(cells, cohen_kappa)]


def told(first: Array, second: Array, found: Sequence[Estimate]) -> Agreement:
    """The estimates of `measures`, with how many pairs there are."""
    both = ~np.isnan(first) & ~np.isnan(second)
    decided = both & (first != 0.5) & (second != 0.5)
    return Agreement(int(both.sum()), int(decided.sum()), dict(zip(RULES, found[:-1], strict=True)), found[-1])


def one_each(p_a: Array) -> Array:
    """One vote a pair, for b, tie or a (n, 3); none where p_a is NaN."""
    return np.stack([p_a < 0.5, p_a == 0.5, p_a > 0.5], axis=1).astype(np.float64)


def counted(p_a: Array, votes: Array) -> Array:
    """Votes for b, tie and a (n, 3) from their mean and number: p_a * votes for a, the rest for b.

    A mean of one half is a tie of one vote; of several nobody knows which were, so that half of them are for each side.
    """
    whole = ((p_a == 0.5) & (votes <= 1)) | (p_a == 0) | (p_a == 1) | np.isnan(p_a)
    shared = np.stack([1 - p_a, np.zeros(len(p_a)), p_a], axis=1)
    found: Array = np.where(whole[:, None], one_each(p_a), shared) * votes[:, None]
    return found


def cohen_kappa(cells: Array) -> Array:
    """Cohen's kappa (1960) of confusion counts, m x 9 (b, tie, a by the same): (observed - chance) / (1 - chance).

    NaN where both said one and the same of all, of which chance would make as much.
    """
    table = cells.reshape(-1, 3, 3)
    total = table.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(table, axis1=1, axis2=2) / total
        chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
        kappa: Array = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    return kappa


def with_people(votes: Array, second: Array) -> tuple[Array, Array]:
    """Of each pair, the share of deciding votes (n, 3) that a deciding judge agrees with, and their number, else 0."""
    deciding = votes[:, 0] + votes[:, 2]
    number = np.where(np.isnan(second) | (second == 0.5), 0.0, deciding)
    agreed = np.where(second > 0.5, votes[:, 2], votes[:, 0])
    return np.divide(agreed, deciding, out=np.zeros(len(votes)), where=deciding > 0), number


def share(hits: Array, counted: Array, prompts: Sequence[str] | Numbers, **boot: Any) -> Estimate:
    """A weighted share of hits (n, in [0, 1]) among what counts (n), with its interval over the prompts that count."""
    return intervals.estimates([intervals.share(hits, counted, numbered(prompts))], **boot)[0]


def quantile_parts(values: Array) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Values in at most PARTS parts of about equal size, as (lowest, highest, which); fewer where many are the same."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)))
    at = np.searchsorted(edges[1:-1], values, side="right")
    parts = [at == part for part in np.unique(at)]
    return [(float(values[which].min()), float(values[which].max()), which) for which in parts]
