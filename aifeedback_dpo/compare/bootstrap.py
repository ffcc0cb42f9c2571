"""Intervals by bootstrap over prompts: whatever belongs to one prompt is drawn together (cluster bootstrap, percentile)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


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
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    drawn = statistic(weights.astype(np.float64) @ sums)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), len(sums))


def widened(share: Estimate, *, confidence: float) -> Estimate:
    """A share's interval, made at least as wide as Wilson's for so many prompts (Wilson 1927).

    A bootstrap of four wins out of four says 100 to 100; four tosses of a coin do not.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    count, p = share.prompts, share.value
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return Estimate(p, min(share.low, centre - half), max(share.high, centre + half), count)


def ratio(totals: Array) -> Array:
    """First column over second: a mean, an accuracy, a win rate."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Array = totals[:, 0] / totals[:, 1]
    return share
