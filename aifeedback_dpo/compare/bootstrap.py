"""Intervals by bootstrap (percentile) over prompts: whatever belongs to one prompt is drawn together, a cluster bootstrap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHUNK = 256
"""Resamples in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many prompts it rests on."""

    value: float
    low: float
    high: float
    prompts: int

    def clear_of(self, level: float) -> int:
        """+1 when the whole interval lies above the level, -1 below, 0 when it holds it."""
        return int(self.low > level) - int(self.high < level)

    def to_dict(self) -> dict[str, float | None]:
        """For JSON; what is undefined (NaN) becomes None."""
        return {key: None if math.isnan(value) else value for key, value in asdict(self).items()}


def cluster_sums(rows: Array, clusters: Sequence[str]) -> Array:
    """Rows (n k) added up per cluster, in order of first appearance."""
    order = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(order), rows.shape[1]))
    np.add.at(sums, [order[cluster] for cluster in clusters], rows)
    return sums


def estimate(
    sums: Array, statistic: Callable[[Array], Array], *, resamples: int, confidence: float, seed: int
) -> Estimate:
    """A statistic of column totals, with its interval over resampled clusters.

    `sums` is (clusters, k); `statistic` maps totals (m, k) to m values. NaN (a resample in which it is undefined) is left out.
    """
    if not len(sums):
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    rng = np.random.default_rng(seed)
    drawn = [statistic(_draws(rng, len(sums), size) @ sums) for size in _chunks(resamples)]
    return _interval(value, np.concatenate(drawn), confidence, len(sums))


def crossed(values: Array, clusters: Sequence[str], *, resamples: int, confidence: float, seed: int) -> Estimate:
    """The mean of values (training seeds, prompts), with prompts and training seeds both resampled.

    The pigeonhole bootstrap (Owen 2007, doi:10.1214/07-AOAS122): another run would draw other prompts and train from
    other seeds. With one training seed there is nothing to tell how seeds differ, and the interval is over prompts alone.
    """
    sums = cluster_sums(values.T, clusters)
    sizes = cluster_sums(np.ones((values.shape[1], 1)), clusters)[:, 0]
    seeds = values.shape[0]
    rng = np.random.default_rng(seed)
    drawn = []
    for size in _chunks(resamples):
        prompts = _draws(rng, len(sums), size)
        drawn.append((prompts @ sums * _draws(rng, seeds, size)).sum(axis=1) / (prompts @ sizes * seeds))
    return _interval(float(values.mean()), np.concatenate(drawn), confidence, len(sums))


def _chunks(resamples: int) -> list[int]:
    return [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]


def _draws(rng: np.random.Generator, count: int, size: int) -> Array:
    """How often each of `count` is drawn, in each of `size` resamples."""
    return rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def _interval(value: float, drawn: Array, confidence: float, prompts: int) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), prompts)


def widened(share: Estimate, *, decided: int, confidence: float) -> Estimate:
    """A win rate's interval, at least as wide as Wilson's (1927) on the `decided` prompts, ties fixed at one half.

    A bootstrap of four wins out of four says 100 to 100; four tosses of a coin do not.
    """
    if not decided:
        return share
    z, weight = NormalDist().inv_cdf((1 + confidence) / 2), decided / share.prompts
    p = min(max(0.5 + (share.value - 0.5) / weight, 0.0), 1.0)
    centre = (p + z * z / (2 * decided)) / (1 + z * z / decided)
    half = z / (1 + z * z / decided) * math.sqrt(p * (1 - p) / decided + z * z / (4 * decided * decided))
    low, high = (0.5 + weight * (edge - 0.5) for edge in (centre - half, centre + half))
    return Estimate(share.value, min(share.low, low), max(share.high, high), share.prompts)


def ratio(totals: Array) -> Array:
    """First column over second: a mean, an accuracy, a win rate."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Array = totals[:, 0] / totals[:, 1]
    return share
