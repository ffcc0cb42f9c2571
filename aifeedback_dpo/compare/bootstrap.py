"""Intervals by bootstrap (percentile) over prompts: whatever belongs to one prompt is drawn together, a cluster bootstrap."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TEN = 10
CELLS = 4_000_000
"""Draws that are made at a time: 32 MB."""
KEPT = 64_000_000
"""Draws that are kept, a byte each, for the next statistics of the same prompts."""
MOST = 255  # times that one prompt is drawn in one resample, as a byte holds; of 2 prompts or more, never in practice


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many prompts it rests on."""

    value: float
    low: float
    high: float
    prompts: int

    def to_dict(self) -> dict[str, float | None]:
        """For JSON; what is undefined (NaN) becomes None."""
        return {key: None if math.isnan(value) else value for key, value in asdict(self).items()}


def clear_of(told: Mapping[str, Any] | None, level: float) -> int:
    """+1 where the whole interval lies above the level, -1 below, 0 where it holds it or there is none.

    `told` is an estimate as `to_dict` gives it.
    """
    low, high = (math.nan if (told or {}).get(key) is None else (told or {})[key] for key in ("low", "high"))
    return int(low > level) - int(high < level)


def cluster_sums(rows: Array, clusters: Sequence[str]) -> Array:
    """Rows (n k) added up per cluster, in order of first appearance."""
    order = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    return by_prompt(rows, np.array([order[cluster] for cluster in clusters], dtype=np.int64))


def by_prompt(rows: Array, numbers: NDArray[np.int64]) -> Array:
    """The same for clusters that are numbered 0, 1, ..."""
    count = int(numbers.max()) + 1 if len(numbers) else 0
    sums = [np.bincount(numbers, weights=rows[:, at], minlength=count) for at in range(rows.shape[1])]
    return np.stack(sums, axis=1).astype(np.float64)


def estimate(
    sums: Array, statistic: Callable[[Array], Array], *, resamples: int, confidence: float, seed: int
) -> Estimate:
    """A statistic of column totals, with its interval over resampled clusters.

    `sums` is (clusters, k); `statistic` maps totals (m, k) to m values. NaN (a resample in which it is undefined) is left out.
    """
    if not len(sums):
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    if len(sums) == 1:  # one prompt tells nothing of others
        return Estimate(value, math.nan, math.nan, 1)
    drawn = [statistic(counts @ sums) for counts in resampled(len(sums), resamples, seed)]
    return _interval(value, np.concatenate(drawn), confidence, len(sums))


def over_prompts(values: Array, clusters: Sequence[str], *, resamples: int, confidence: float, seed: int) -> Estimate:
    """The mean of values (training seeds, pictures) of these very policies: what other prompts would have given.

    A prompt's pictures, under all training seeds, are drawn together.
    """
    rows = np.stack([values.mean(axis=0), np.ones(values.shape[1])], axis=1)
    return estimate(cluster_sums(rows, clusters), ratio, resamples=resamples, confidence=confidence, seed=seed)


def over_seeds(values: Array, clusters: Sequence[str], *, confidence: float) -> Estimate:
    """The same mean, and what other training seeds and other prompts would have given, both at random.

    Two-way random effects without replication: with mean squares MS of seeds, prompts and the rest, of S x P cells,

        half width^2 = (t(S-1)^2 max(MS_seeds - m MS_rest, 0) + t(P-1)^2 MS_prompts) / (S P)

    half widths of independent parts add up by their squares, each by Student's t of its own degrees of freedom (Howe 1974,
    J. Am. Stat. Assoc. 69, 789); m is the median of F, so that seeds that differ by chance alone seem not to in half of all
    cases. Training seeds are few, and a bootstrap of three says too little about a fourth: `benchmarks/coverage.py` has how
    often each holds the truth. Two seeds are too few for either. NaN where there is one seed, or one prompt.
    """
    from scipy.stats import f, t

    sizes = cluster_sums(np.ones((values.shape[1], 1)), clusters)
    cells: Array = (cluster_sums(values.T, clusters) / sizes).T  # (seeds, prompts)
    seeds, prompts = cells.shape
    mean = float(cells.mean())
    if seeds < 2 or prompts < 2:
        return Estimate(mean, math.nan, math.nan, prompts)
    by_seed, by_prompt = cells.mean(axis=1), cells.mean(axis=0)
    freedom = (seeds - 1) * (prompts - 1)
    rest = float(((cells - by_seed[:, None] - by_prompt + mean) ** 2).sum()) / freedom
    of_seeds, of_prompts = prompts * by_seed.var(ddof=1), seeds * by_prompt.var(ddof=1)
    more = max(of_seeds - f.median(seeds - 1, freedom) * rest, 0.0)
    seeds_t, prompts_t = (t.ppf((1 + confidence) / 2, count - 1) for count in (seeds, prompts))
    half = float(np.sqrt((seeds_t**2 * more + prompts_t**2 * of_prompts) / (seeds * prompts)))
    return Estimate(mean, mean - half, mean + half, prompts)


def resampled(count: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of `count` prompts is drawn, (m, count) at a time; drawn once for all statistics where they fit."""
    parts = _kept(count, resamples, seed) if count * resamples <= KEPT else _drawn(count, resamples, seed)
    for part in parts:
        yield part.astype(np.float64)


@lru_cache(maxsize=4)
def _kept(count: int, resamples: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(_drawn(count, resamples, seed))


def _drawn(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    rng, most = np.random.default_rng(seed), max(1, CELLS // count)
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        at = rng.integers(0, count, size=(size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(at.ravel(), minlength=size * count).clip(max=MOST).astype(np.uint8).reshape(size, count)


def _interval(value: float, drawn: Array, confidence: float, prompts: int) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), prompts)


def widened(share: Estimate, *, won: int, lost: int, confidence: float) -> Estimate:
    """A win rate's interval, at least the exact one (Clopper and Pearson 1934) of the decided prompts, ties fixed at one half.

    A bootstrap of four wins out of four says 100 to 100; four tosses of a coin do not. The exact interval and the exact sign
    test never disagree. With TEN prompts won and TEN lost the bootstrap knows enough.
    """
    from scipy.stats import beta

    decided, tail = won + lost, (1 - confidence) / 2
    if not decided or min(won, lost) >= TEN:
        return share
    weight = decided / share.prompts
    wins = min(max(decided * (0.5 + (share.value - 0.5) / weight), 0.0), float(decided))  # a part, of several pictures
    edges = (
        beta.ppf(tail, wins, decided - wins + 1) if wins > 0 else 0.0,
        beta.ppf(1 - tail, wins + 1, decided - wins) if wins < decided else 1.0,
    )
    low, high = (float(0.5 + weight * (edge - 0.5)) for edge in edges)
    return Estimate(share.value, float(np.fmin(share.low, low)), float(np.fmax(share.high, high)), share.prompts)


def ratio(totals: Array) -> Array:
    """First column over second: a mean, an accuracy, a win rate."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Array = totals[:, 0] / totals[:, 1]
    return share
