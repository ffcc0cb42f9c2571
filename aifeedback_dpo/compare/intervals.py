"""Intervals of many statistics by one bootstrap over prompts: what belongs to a prompt is drawn together, for all at once.

They are expanded percentile intervals (Hesterberg 2015, doi:10.1080/00031305.2015.1089789): the percentiles are those at
which Student's t of as many prompts would cut, for a bootstrap of few is narrow by sqrt((n - 1) / n) and knows no t. Of ten
prompts the plain ones hold the truth in 90 %, these in 95; kappa and tau of judges that hardly ever differ want a hundred
(`benchmarks/coverage_judges.py`). Of one there is none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import TEN, Estimate, by_prompt, ratio, resampled

Array = NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.int64]

CELLS = 4_000_000
"""Prompts times columns that are weighed at a time: 32 MB."""
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Measure:
    """Columns summed by prompt (prompts, k), and the statistic of their totals: (m, k) to m values.

    A share in [0, 1], the first column of the second, has an interval that knows it is one (`floor`). A statistic for which
    percentiles are wrong brings its own: `bounds` of its value, the resampled totals (m, k) and the tail.
    """

    sums: Array
    statistic: Callable[[Array], Array] = ratio
    is_share: bool = False
    bounds: Callable[[float, Array, float], tuple[float, float]] | None = None

    @property
    def there(self) -> NDArray[np.bool_]:
        """The prompts that it rests on."""
        found: NDArray[np.bool_] = (self.sums != 0).any(axis=1)
        return found


def numbered(prompts: Sequence[str] | NDArray[Any]) -> Numbers:
    """The prompt of each row as 0, 1, ...; numbers of `numbered` stay as they are."""
    names = np.asarray(prompts)
    if names.dtype == np.int64:
        return names
    found: Numbers = np.unique(names, return_inverse=True)[1].astype(np.int64).reshape(-1)
    return found


def share(hits: Array, counted: Array, prompts: Numbers) -> Measure:
    """A weighted share of hits (n, in [0, 1]) among what counts (n)."""
    return Measure(by_prompt(np.stack([hits * counted, counted], axis=1), prompts), is_share=True)


def mean(values: Array, there: NDArray[np.bool_]) -> Measure:
    """The mean of one value a prompt, of those that are there."""
    return Measure(np.stack([np.where(there, values, 0.0), there], axis=1))


def estimates(measures: Sequence[Measure], *, resamples: int, confidence: float, seed: int) -> list[Estimate]:
    """Each measure with its interval; all of one resampling, so of the same prompts in the same order.

    A resample in which a statistic is undefined is left out. Of one prompt only a share has an interval.
    """
    found: list[Estimate] = []
    start = 0
    while start < len(measures):  # as many at a time as memory allows
        width = end = 0
        prompts = len(measures[start].sums)
        for end in range(start, len(measures)):
            assert len(measures[end].sums) == prompts, "measures of different prompts"
            width += measures[end].sums.shape[1]
            if width * prompts > CELLS and end > start:
                break
        else:
            end += 1
        found += _estimates(measures[start:end], resamples, confidence, seed)
        start = end
    return found


def _estimates(measures: Sequence[Measure], resamples: int, confidence: float, seed: int) -> list[Estimate]:
    prompts = len(measures[0].sums)
    edges = np.cumsum([0, *(measure.sums.shape[1] for measure in measures)])
    values = (
        [float(measure.statistic(measure.sums.sum(axis=0, keepdims=True))[0]) for measure in measures]
        if prompts
        else []
    )
    if not prompts:
        return [Estimate(math.nan, math.nan, math.nan, 0)] * len(measures)
    stacked = np.concatenate([measure.sums for measure in measures], axis=1)
    drawn: list[list[Array]] = [[] for _ in measures]
    for counts in resampled(prompts, resamples, seed):
        totals = counts @ stacked
        for at, measure in enumerate(measures):
            part = totals[:, edges[at] : edges[at + 1]]
            drawn[at].append(part if measure.bounds else measure.statistic(part))
    return [
        _interval(measure, value, np.concatenate(each), confidence)
        for measure, value, each in zip(measures, values, drawn, strict=True)
    ]


def _interval(measure: Measure, value: float, drawn: Array, confidence: float) -> Estimate:
    prompts = int(measure.there.sum())
    low = high = math.nan
    tail = expanded((1 - confidence) / 2, prompts) if prompts > 1 else math.nan
    if prompts == 1 and measure.is_share:
        low = high = value
    elif prompts > 1 and measure.bounds:
        low, high = measure.bounds(value, drawn, tail)
    elif prompts > 1 and (defined := drawn[np.isfinite(drawn)]).size:
        low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
    found = Estimate(value, low, high, prompts)
    return floor(found, measure.sums, confidence) if measure.is_share and prompts else found


def expanded(tail: float, prompts: int) -> float:
    """The percentile that stands for a tail: where a normal curve cuts at sqrt(n / (n - 1)) of Student's t of n prompts."""
    from scipy.stats import norm, t

    return float(norm.cdf(math.sqrt(prompts / (prompts - 1)) * t.ppf(tail, prompts - 1)))


def floor(found: Estimate, sums: Array, confidence: float) -> Estimate:
    """A share at least as wide as Wilson's (1927) where fewer than TEN prompts have a hit, or a miss.

    A bootstrap of twelve hits in twelve says 100 to 100. Pairs of a prompt are not as many observations: if three misses lie in
    two prompts, two thirds of the pairs are; if there is no miss, or no hit, or one prompt, nobody knows, and only prompts are.
    """
    sums = sums[sums[:, 1] > 0]
    total, hits = sums[:, 1].sum(), sums[:, 0].sum()
    part = sums[:, 0] / sums[:, 1]
    few, rare = min(
        (int((part > ROUNDING).sum()), hits), (int((part < 1 - ROUNDING).sum()), total - hits), key=lambda side: side[0]
    )
    if few >= TEN:
        return found
    alone = not few or len(sums) == 1
    count = float(len(sums) if alone else min(total * few / rare, total))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (found.value + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(found.value * (1 - found.value) / count + (z / (2 * count)) ** 2)
    return replace(found, low=min(found.low, float(centre - half)), high=max(found.high, float(centre + half)))
