"""Whether a judge that says 80 % is right with people in 80 % of pairs, as pure functions of columns.

A pair is counted from both of its sides, as p and as 1 - p: which picture is `a` is a coin toss and must not matter. People's
p_a is what was observed; a tie is one half, and votes weigh. The error of a few pairs is too high: chance takes a bin's share
away from its confidence, and never back. `by_chance` is what it would be of a calibrated judge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.bootstrap import Estimate, by_prompt
from aifeedback_dpo.compare.intervals import Measure, Numbers, numbered

Array = NDArray[np.float64]

DIGITS = 6  # p_a is kept in float32: 0.8 and 1 - 0.2 must be in one bin
EDGES = np.linspace(0.5, 1, 6).round(DIGITS)
"""Of the bins, of one width, in the confidence of the judge: the larger of p and 1 - p."""
NEAR = 1e-7  # float32 keeps no p_a nearer to 1 but 1 itself
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


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
    by_chance: float  # the error that a calibrated judge would be expected to show on these pairs
    bins: list[Bin]

    def to_dict(self) -> dict[str, Any]:
        return {
            "ece": self.ece.to_dict(),
            "ece_by_chance": None if math.isnan(self.by_chance) else self.by_chance,
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
    judge: Array, people: Array, prompts: Sequence[str] | Numbers, *, weights: Array | None = None, **boot: Any
) -> Calibration:
    """`judge` and `people` are p_a of the same pairs; a pair that the judge calls a tie has confidence one half.

    `weights` are votes on each pair; NaN of either leaves a pair out.
    """
    (error, *shares), bins = measures(judge, people, numbered(prompts), weights=weights)
    ece, *found = intervals.estimates([error, *shares], **boot)
    told = [replace(part, share=share) for part, share in zip(bins, found, strict=True)]
    return Calibration(ece, _by_chance(error.sums), told)


def measures(
    judge: Array, people: Array, prompts: Numbers, *, weights: Array | None = None
) -> tuple[list[Measure], list[Bin]]:
    """Of the error, then of each bin's share; and the bins, still without those."""
    there = ~np.isnan(judge) & ~np.isnan(people)
    counted = np.where(there, np.ones(len(judge)) if weights is None else weights, 0.0)
    sure = np.where(there, np.maximum(judge, 1 - judge), 0.5).round(DIGITS)
    agreed = np.where(judge >= 0.5, people, 1 - people)
    agreed = np.where(there, np.where(judge == 0.5, 0.5, agreed), 0.0)
    at = np.clip(np.searchsorted(EDGES, sure, side="right") - 1, 0, len(EDGES) - 2)
    found, bins = [_error(sure, agreed, counted, at, prompts)], []
    for part, (low, high) in enumerate(pairwise(EDGES)):
        inside = there & (at == part)
        if inside.any():
            weight = counted * inside
            mean = float((sure * weight).sum() / weight.sum())
            bins.append(Bin(float(low), float(high), mean, UNKNOWN, int(inside.sum())))
            found.append(intervals.share(agreed, weight, prompts))
    return found, bins


def _error(sure: Array, agreed: Array, counted: Array, at: NDArray[np.int_], prompts: Numbers) -> Measure:
    """Sum over bins of |mean confidence - share agreed|, by weight."""
    bins = len(EDGES) - 1
    columns = np.zeros((len(at), 2 * bins))
    rows = np.arange(len(at))
    columns[rows, at] = (sure - agreed) * counted
    columns[rows, bins + at] = counted
    sums = by_prompt(columns, prompts)
    return Measure(sums, _off, bounds=partial(_bounds, sums.sum(axis=0)))


def _off(totals: Array) -> Array:
    bins = totals.shape[1] // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        error: Array = np.abs(totals[:, :bins]).sum(axis=1) / totals[:, bins:].sum(axis=1)
    return error


def _bounds(observed: Array, value: float, totals: Array, tail: float) -> tuple[float, float]:
    """Percentiles of a sum of absolute values lie too high twice: a resample adds chance to what chance has added.

    So the lower is set down by twice of what resampling adds, and to 0 where a calibrated judge, whose bins differ by chance
    alone, would show as much.
    """
    bins, totals = len(observed) // 2, totals[totals.any(axis=1)]  # without resamples that hold none of the pairs
    drawn = _off(totals)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    share = totals[:, bins:].sum(axis=1) / observed[bins:].sum()
    alone = totals - np.concatenate([observed[:bins], np.zeros(bins)]) * share[:, None]
    if value <= np.quantile(_off(alone), 1 - tail):
        return 0.0, float(high)
    return max(0.0, float(low - 2 * (drawn.mean() - value))), float(high)


def _by_chance(sums: Array) -> float:
    """The mean of |x| is sqrt(2 / pi) standard deviations: of each bin's sum, which prompts add to independently."""
    bins = sums.shape[1] // 2
    off, weight = sums[:, :bins], sums[:, bins:]
    totals = weight.sum(axis=0)
    if not totals.any():
        return math.nan
    mean = np.divide(off.sum(axis=0), totals, out=np.zeros(bins), where=totals > 0)
    spread = np.sqrt(((off - weight * mean) ** 2).sum(axis=0))
    return float(math.sqrt(2 / math.pi) * spread.sum() / totals.sum())


def logit_slope(
    judge: Array, people: Array, prompts: Sequence[str] | Numbers, *, weights: Array | None = None, confidence: float
) -> Estimate:
    """The slope of people's votes on logit(p_a), without intercept (Cox 1958): 1 is calibrated, below 1 too sure, 0 is chance.

    The interval allows for pairs of one prompt that hang together (Liang and Zeger 1986), by Student's t of so many prompts. A
    p_a nearer to 0 or 1 than float32 tells apart counts as that near. NaN where no finite slope is likeliest.
    """
    from scipy.optimize import brentq
    from scipy.stats import t

    there = ~np.isnan(judge) & ~np.isnan(people)
    weight = np.ones(int(there.sum())) if weights is None else weights[there]
    p_a = np.clip(judge[there], NEAR, 1 - NEAR)
    logit, chosen = np.log(p_a / (1 - p_a)), people[there]
    members = np.unique(numbered(prompts)[there], return_inverse=True)[1].reshape(-1)
    count = int(members.max(initial=-1)) + 1

    def gradient(slope: float) -> float:
        return float((weight * logit * (_sigmoid(slope * logit) - chosen)).sum())

    steepest = 2.0**10
    if not logit.any() or gradient(-steepest) >= 0 or gradient(steepest) <= 0:
        return Estimate(math.nan, math.nan, math.nan, count)
    slope = float(brentq(gradient, -steepest, steepest, xtol=1e-12, rtol=1e-12))
    if count < 2:
        return Estimate(slope, math.nan, math.nan, count)
    expected = _sigmoid(slope * logit)
    spread = np.bincount(members, weights=weight * logit * (expected - chosen))
    bend = float((weight * logit**2 * expected * (1 - expected)).sum())
    error = math.sqrt(count / (count - 1) * float((spread**2).sum())) / bend
    half = float(t.ppf((1 + confidence) / 2, count - 1)) * error
    return Estimate(slope, slope - half, slope + half, count)


def _sigmoid(logit: Array) -> Array:
    probability: Array = 0.5 * (1 + np.tanh(0.5 * logit))
    return probability
