"""Whether a judge that says 80 % is right with people in 80 % of pairs, as pure functions of columns.

A pair is counted from both of its sides, as p and as 1 - p: which picture is `a` is a coin toss and must not matter. People's
p_a is what was observed; a tie is one half, and votes weigh. The error of a few pairs is too high, and so is its interval:
chance takes a bin's share away from its confidence, and never back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.agreement import bounded, share
from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate

Array = NDArray[np.float64]

DIGITS = 6  # p_a is kept in float32: 0.8 and 1 - 0.2 must be in one bin
EDGES = np.linspace(0.5, 1, 6).round(DIGITS)
"""Of the bins, of one width, in the confidence of the judge: the larger of p and 1 - p."""


@dataclass(frozen=True)
class Bin:
    """Pairs whose confidence lies between two edges: its mean, and the share in which people agreed, ties one half."""

    low: float
    high: float
    mean_p: float
    share: Estimate
    pairs: int


@dataclass(frozen=True)
class Calibration:
    """The curve and the expected calibration error (Guo et al. 2017, arXiv:1706.04599), the bins weighted by their votes."""

    ece: Estimate
    bins: list[Bin]

    def to_dict(self) -> dict[str, Any]:
        return {
            "ece": self.ece.to_dict(),
            "bins": [
                {
                    "low": part.low,
                    "high": part.high,
                    "mean_p": part.mean_p,
                    "share": part.share.to_dict(),
                    "pairs": part.pairs,
                }
                for part in self.bins
            ],
        }


def calibration(
    judge: Array, people: Array, prompts: Sequence[str], *, weights: Array | None = None, **boot: Any
) -> Calibration:
    """`judge` and `people` are p_a of the same pairs; a pair that the judge calls a tie has confidence one half."""
    counted = np.ones(len(judge)) if weights is None else np.asarray(weights, dtype=np.float64)
    confidence = np.maximum(judge, 1 - judge).round(DIGITS)
    agreed = np.where(judge >= 0.5, people, 1 - people)
    agreed = np.where(judge == 0.5, 0.5, agreed)
    at = np.clip(np.searchsorted(EDGES, confidence, side="right") - 1, 0, len(EDGES) - 2)
    bins = []
    for part, (low, high) in enumerate(pairwise(EDGES)):
        inside = at == part
        if not inside.any():
            continue
        kept = [prompt for prompt, chosen in zip(prompts, inside, strict=True) if chosen]
        weight = counted[inside]
        found = share(agreed[inside], weight, kept, **boot)
        mean = float((confidence[inside] * weight).sum() / weight.sum())
        bins.append(Bin(float(low), float(high), mean, found, int(inside.sum())))
    return Calibration(_error(confidence, agreed, counted, at, prompts, boot), bins)


def _error(
    confidence: Array, agreed: Array, counted: Array, at: NDArray[np.int_], prompts: Sequence[str], boot: Any
) -> Estimate:
    """Sum over bins of |mean confidence - share agreed|, by weight; biased upward where bins are small."""
    bins = len(EDGES) - 1
    columns = np.zeros((len(at), 2 * bins))
    rows = np.arange(len(at))
    columns[rows, at] = (confidence - agreed) * counted
    columns[rows, bins + at] = counted

    def error(totals: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            made: Array = np.abs(totals[:, :bins]).sum(axis=1) / totals[:, bins:].sum(axis=1)
        return made

    return bounded(estimate(cluster_sums(columns, prompts), error, **boot))
