"""Whether a judge that says 80 % is right with people in 80 % of pairs, as pure functions of columns.

A pair is counted from both of its sides, as p and as 1 - p: which picture is `a` is a coin toss and must not matter. People's
p_a is what was observed; a tie is one half, and votes weigh. The error of a few pairs is too high, and so is its interval:
chance takes a bin's share away from its confidence, and never back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.bootstrap import Estimate
from aifeedback_dpo.compare.intervals import Measure, Numbers, by_prompt, numbered

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
    judge: Array, people: Array, prompts: Sequence[str] | Numbers, *, weights: Array | None = None, **boot: Any
) -> Calibration:
    """`judge` and `people` are p_a of the same pairs; a pair that the judge calls a tie has confidence one half.

    `weights` are votes on each pair; NaN of either leaves a pair out.
    """
    measured, bins = measures(judge, people, numbered(prompts), weights=weights)
    return told(bins, intervals.estimates(measured, **boot))


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


def told(bins: Sequence[Bin], found: Sequence[Estimate]) -> Calibration:
    """The estimates of `measures`, in their bins."""
    return Calibration(found[0], [replace(part, share=share) for part, share in zip(bins, found[1:], strict=True)])


def _error(sure: Array, agreed: Array, counted: Array, at: NDArray[np.int_], prompts: Numbers) -> Measure:
    """Sum over bins of |mean confidence - share agreed|, by weight; biased upward where bins are small."""
    bins = len(EDGES) - 1
    columns = np.zeros((len(at), 2 * bins))
    rows = np.arange(len(at))
    columns[rows, at] = (sure - agreed) * counted
    columns[rows, bins + at] = counted

    def error(totals: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            made: Array = np.abs(totals[:, :bins]).sum(axis=1) / totals[:, bins:].sum(axis=1)
        return made

    return Measure(by_prompt(columns, prompts), error)


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
