"""Intervals by bootstrap over prompts: whatever belongs to one prompt is drawn together (cluster bootstrap, percentile)."""

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
    share = np.full(len(sums), 1 / len(sums))
    chunks = (min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK))
    drawn = np.concatenate(
        [statistic(rng.multinomial(len(sums), share, size=size).astype(np.float64) @ sums) for size in chunks]
    )
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), len(sums))


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
