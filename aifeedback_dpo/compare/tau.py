"""Kendall's tau-b between two judges' orders of the pictures of one prompt, over prompts, as pure functions of columns.

Pictures of different prompts never meet, so there is one order for each prompt: by the mean of +1 for each pair in which a
picture is preferred, -1 for each in which the other is, 0 for a tie; a mean, because not every two pictures meet.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.bootstrap import Estimate
from aifeedback_dpo.compare.intervals import Measure, Numbers, numbered

Array = NDArray[np.float64]
Names: TypeAlias = Sequence[str] | NDArray[Any]


def tau(first: Array, second: Array, prompts: Names, image_a: Names, image_b: Names, **boot: Any) -> Estimate:
    """The mean of the prompts' tau-b; `first` and `second` are p_a of the same pairs, NaN no view."""
    pictures = numbered(np.concatenate([image_a, image_b]))
    one, other = pictures[: len(first)], pictures[len(first) :]
    return intervals.estimates([measure(first, second, numbered(prompts), one, other)], **boot)[0]


def measure(first: Array, second: Array, prompts: Numbers, image_a: Numbers, image_b: Numbers) -> Measure:
    """The same, over pairs that both judged.

    Prompts with one such pair are left out (there is nothing to order), and those of whose pictures a judge prefers none: its
    tau-b is undefined.
    """
    kept = ~np.isnan(first) & ~np.isnan(second)
    count = int(prompts.max()) + 1 if len(prompts) else 0
    found = np.full(count, np.nan)
    within, pairs = prompts[kept], np.bincount(prompts[kept], minlength=count)
    sides = np.concatenate([image_a[kept], image_b[kept]])
    # each prompt's pictures, in a row; a picture counts anew for each prompt that it was judged for
    most = int(sides.max()) + 1 if len(sides) else 1
    shown, at = np.unique(np.tile(within, 2) * most + sides, return_inverse=True)
    orders = [_won(p_a[kept], at) / np.bincount(at) for p_a in (first, second)]
    owners, starts, sizes = np.unique(shown // most, return_index=True, return_counts=True)
    for size in np.unique(sizes):
        these = (sizes == size) & (pairs[owners] > 1)
        rows = starts[these][:, None] + np.arange(size)
        found[owners[these]] = tau_b(orders[0][rows], orders[1][rows])
    there = ~np.isnan(found)
    return intervals.mean(np.where(there, found, 0.0), there)


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
