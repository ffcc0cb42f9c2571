"""Kendall's tau-b between two judges' orders of the pictures of one prompt, over prompts, as pure functions of columns.

Pictures of different prompts never meet, so there is one order for each prompt: by the mean of +1 for each pair in which a
picture is preferred, -1 for each in which the other is, 0 for a tie; a mean, because not every two pictures meet.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.agreement import bounded
from aifeedback_dpo.compare.bootstrap import Estimate, estimate, ratio

Array = NDArray[np.float64]
Names: TypeAlias = Sequence[str] | NDArray[np.str_]


def tau(first: Array, second: Array, prompts: Names, image_a: Names, image_b: Names, **boot: Any) -> Estimate:
    """The mean of the prompts' tau-b; `first` and `second` are p_a of the same pairs.

    Prompts with one pair are left out (there is nothing to order), and those of whose pictures a judge prefers none: its
    tau-b is undefined.
    """
    if not len(first):
        return Estimate(math.nan, math.nan, math.nan, 0)
    within = np.unique(np.array(prompts, dtype=str), return_inverse=True)[1]
    pictures = np.unique(np.concatenate([image_a, image_b]).astype(str), return_inverse=True)[1]
    # each prompt's pictures, in a row; a picture counts anew for each prompt that it was judged for
    shown, at = np.unique(np.tile(within, 2) * len(pictures) + pictures, return_inverse=True)
    orders = [_won(p_a, at) / np.bincount(at) for p_a in (first, second)]
    starts, sizes = np.unique(shown // len(pictures), return_index=True, return_counts=True)[1:]
    found = []
    for size in np.unique(sizes):
        rows = starts[(sizes == size) & (np.bincount(within) > 1)][:, None] + np.arange(size)
        found.append(tau_b(orders[0][rows], orders[1][rows]))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    return bounded(estimate(np.stack([values, np.ones(len(values))], axis=1), ratio, **boot))


def tau_b(one: Array, other: Array) -> Array:
    """Kendall's tau-b (1945) of each row of two (m, k) arrays; NaN where a row of either is one value."""
    left, right = np.triu_indices(one.shape[1], 1)
    steps, others = np.sign(one[:, left] - one[:, right]), np.sign(other[:, left] - other[:, right])
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Array = (steps * others).sum(axis=1) / np.sqrt((steps**2).sum(axis=1) * (others**2).sum(axis=1))
    return value


def _won(p_a: Array, at: NDArray[np.int_]) -> Array:
    side = np.sign(p_a - 0.5)
    won: Array = np.bincount(at, weights=np.concatenate([side, -side])).astype(np.float64)
    return won
