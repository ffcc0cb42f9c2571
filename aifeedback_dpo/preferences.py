"""Scores to preferences, as pure functions of columns. The rule is recorded with every row.

    slope defined     p_a = sigmoid(slope * (score_a - score_b)); |p_a - 1/2| <= tie_band is a tie
    no slope          p_a = 1 where score_a is higher, 0 where score_b is; tie_band does not apply

Equal scores are a tie under every rule: a tie never becomes a win. A missing score gives a missing preference (NaN).
"""

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]


def from_scores(score_a: Column, score_b: Column, *, slope: float | None, tie_band: float) -> Column:
    """P(a preferred) for each pair, 0.5 exactly where it is a tie."""
    difference = np.asarray(score_a, dtype=np.float64) - np.asarray(score_b, dtype=np.float64)
    if slope is None:
        return np.where(np.isnan(difference), np.nan, (np.sign(difference) + 1) / 2)
    p_a: Column = 0.5 * (1 + np.tanh(0.5 * slope * difference))
    return np.where(np.abs(p_a - 0.5) <= tie_band, 0.5, p_a)


def rule(*, slope: float | None, tie_band: float) -> str:
    """The rule in words, as it is recorded."""
    if slope is None:
        return "the higher score; equal is a tie"
    return f"sigmoid({slope:g} * (score_a - score_b)); a tie if |p_a - 1/2| <= {tie_band:g}"
