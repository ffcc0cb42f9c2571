"""How far apart two sets of pictures are, of their rows in some space: torch-fidelity's FID and KID, as functions of arrays.

FID (Heusel et al. 2017, arXiv:1706.08500) is the squared Fréchet distance of two Gaussians; KID (Bińkowski et al. 2018,
arXiv:1801.01401) the squared maximum mean discrepancy under (gamma x.y + 1)**3, unbiased. Both have a meaning in any space of
features; on CLIP's they are better than on Inception's at telling pictures of text-to-image models apart (CMMD, Jayasumana et
al. 2024, arXiv:2401.09603, which takes a Gaussian kernel).
"""

import json
import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.embedding import Eye, Shelf
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run

Features = NDArray[np.floating]

SUBSETS = 100
SUBSET = 1000
"""Pictures of a subset, as published, where there are twice as many."""
FEWEST = 4
VERSION = 1  # of the arithmetic here
Interval = tuple[float, float, float]  # a value, and from where to where


def frechet(one: Features, other: Features) -> float:
    """|mean - mean'|^2 + tr(C + C' - 2 (C C')^(1/2)), of (n, d) and (m, d). NaN for fewer than FEWEST rows."""
    import torch
    from torch_fidelity import metric_fid

    if min(len(one), len(other)) < FEWEST:
        return math.nan
    stats = [metric_fid.fid_features_to_statistics(torch.from_numpy(rows.astype(np.float64))) for rows in (one, other)]
    return float(metric_fid.fid_statistics_to_metric(*stats, verbose=False)[metric_fid.KEY_METRIC_FID])


def kernel(
    one: Features, other: Features, *, confidence: float, gamma: float | None = None, paired: bool = False
) -> Interval:
    """The mean over SUBSETS draws without replacement, and its interval. NaN for fewer than FEWEST rows.

    `gamma` is 1 / d where it is None, as published; 1 makes the kernel of unit vectors (1 + cosine)**3. A subset has SUBSET
    rows, or half of what there are. Rows that are `paired`, of one prompt and seed, are drawn together and not compared with
    each other, as they are more alike than two of a kind: the U-statistic of pairs (Gretton et al. 2012, J. Mach. Learn. Res.
    13, 723, Lemma 6), which has KID's expectation and is 0 for two sets that are the same.

    What subsets of r of n rows vary by is not what the sets themselves do: their variance times r / (n - r) is that of n rows
    (the delete-d jackknife, Shao and Wu 1989, Ann. Statist. 17, 1176).
    """
    import torch
    from torch_fidelity import metric_kid

    fewest = min(len(one), len(other))
    if fewest < FEWEST:
        return math.nan, math.nan, math.nan
    size = min(SUBSET, fewest // 2)
    if paired:
        found = [_of_pairs(one[at], other[at], gamma) for at in _subsets(fewest, size)]
        mean, spread = float(np.mean(found)), float(np.std(found))
    else:
        told = metric_kid.kid_features_to_metric(
            *(torch.from_numpy(rows.astype(np.float64)) for rows in (one, other)),
            kid_subsets=SUBSETS,
            kid_subset_size=size,
            kid_kernel_poly_gamma=gamma,
            verbose=False,
        )
        mean, spread = told[metric_kid.KEY_METRIC_KID_MEAN], told[metric_kid.KEY_METRIC_KID_STD]
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread * math.sqrt(size / (fewest - size))
    return mean, mean - half, mean + half


def _subsets(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return (rng.choice(count, size, replace=False) for _ in range(SUBSETS))


def _of_pairs(one: Features, other: Features, gamma: float | None) -> float:
    from torch_fidelity import metric_kid

    x, y = one.astype(np.float64), other.astype(np.float64)
    within, between, beyond = (
        metric_kid.kernel_poly(*both, kid_kernel_poly_gamma=gamma) for both in ((x, x), (x, y), (y, y))
    )
    return float(metric_kid.mmd2(within, between, beyond, mmd_est="u-statistic"))


def measure(
    run: Run,
    eye: Eye,
    ids: Sequence[str],
    others: Sequence[str],
    shelf: Shelf,
    *,
    kernels: bool,
    gamma: float | None = None,
    paired: bool = False,
) -> Interval:
    """The kernel distance of two sets of pictures, or the Fréchet distance, which has no interval.

    Kept in `cache/distances/`: neither torch nor a row is read where it was measured before. Raises ModelMissing where the
    eye sees nothing.
    """
    confidence = run.recipe.compare.confidence
    how = (VERSION, version("torch-fidelity"), *(("kernel", gamma, confidence, paired) if kernels else ("frechet",)))
    path = run.cache / "distances" / f"{content_id(*how, eye.stamp, ids, others)}.json"
    if (known := _kept(path)) is not None:
        return known
    rows = eye.rows({*ids, *others}, shelf)
    one, other = (np.stack([rows[image] for image in some]) for some in (ids, others))
    if kernels:
        found = kernel(one, other, confidence=confidence, gamma=gamma, paired=paired)
    else:
        found = (frechet(one, other), math.nan, math.nan)
    told = [None if math.isnan(number) else number for number in found]
    run.write_text(path, json.dumps(told) + "\n")
    return found


def _kept(path: Path) -> Interval | None:
    try:
        value, low, high = (math.nan if number is None else float(number) for number in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return value, low, high
