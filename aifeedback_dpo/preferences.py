"""Scores to preferences, and several judges to one, as pure functions of columns. The rule is recorded with every row.

    a slope      p_a = sigmoid(slope * (score_a - score_b)); |p_a - 1/2| <= tie_band is a tie
    no slope     p_a = 1 where score_a is higher, 0 where score_b is; a difference up to `margin` is a tie

Equal scores are a tie under every rule: a tie never becomes a win. What is missing (NaN) stays missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from aifeedback_dpo.errors import UserError

Column = NDArray[np.float64]
ROUNDING = 1e-7  # a mean of p and 1 - p is a tie, although float32, in which they are kept, rounds them
Z = 1.959964  # two-sided 95 %


@dataclass(frozen=True)
class Fit:
    """The slope that people's choices imply, its standard error, and how many choices it stands on."""

    slope: float
    error: float
    votes: int


def from_scores(score_a: Column, score_b: Column, *, slope: float | None, tie_band: float, margin: float = 0) -> Column:
    """P(a preferred) for each pair, 0.5 exactly where it is a tie."""
    difference = np.asarray(score_a, dtype=np.float64) - np.asarray(score_b, dtype=np.float64)
    if slope is None:
        side = np.where(np.abs(difference) <= margin, 0.0, np.sign(difference))
        return np.where(np.isnan(difference), np.nan, (side + 1) / 2)
    p_a = _sigmoid(slope * difference)
    return np.where(np.abs(p_a - 0.5) <= tie_band, 0.5, p_a)


def rule(*, slope: float | None, tie_band: float, margin: float = 0, source: str = "") -> str:
    """The rule in words, as it is recorded; `source` says where the slope came from."""
    if slope is None:
        return "the higher score; " + (f"a difference up to {margin:g} is a tie" if margin else "equal is a tie")
    origin = f", {source}" if source else ""
    return f"sigmoid({slope:g} * (score_a - score_b)){origin}; a tie if |p_a - 1/2| <= {tie_band:g}"


def fit_slope(difference: Column, p_a: Column, clusters: Sequence[str]) -> Fit:
    """Logistic regression, without intercept, of people's p_a on the difference of scores; a tie counts half a vote each.

    The standard error allows for pairs of one cluster (a prompt) that hang together (Liang and Zeger 1986). Pairs without
    a difference or a vote are left out. Raises UserError where people's choices give no slope that is clearly above 0.
    """
    use = ~(np.isnan(difference) | np.isnan(p_a))
    away, chosen = np.asarray(difference, dtype=np.float64)[use], np.asarray(p_a, dtype=np.float64)[use]
    if not away.any():
        raise UserError("people judged no pair on which its scores differ, so no slope can be fitted; set a number")
    scale = float(np.abs(away).max())
    unit = away / scale

    def gradient(slope: float) -> float:
        return float((unit * (_sigmoid(slope * unit) - chosen)).sum())

    if gradient(0) >= 0:
        raise UserError("it does not agree with people more than by chance, so no slope can be fitted; set a number")
    high = 1.0
    while gradient(high) <= 0:
        high *= 2
        if high > 2**20:
            raise UserError(
                "people never disagree with it, so the slope has no bound; set a number, or ask more people"
            )
    slope = float(brentq(gradient, 0, high, xtol=1e-12, rtol=1e-14))
    expected = _sigmoid(slope * unit)
    members = np.unique(np.asarray(clusters)[use], return_inverse=True)[1]
    spread = np.bincount(members, weights=unit * (expected - chosen))
    error = float(np.sqrt((spread**2).sum()) / (unit**2 * expected * (1 - expected)).sum())
    if slope <= Z * error:
        raise UserError(
            f"it does not clearly agree with people: the fitted slope is {slope / scale:.3g} with standard error "
            f"{error / scale:.2g}; set a number, or ask more people"
        )
    return Fit(slope / scale, error / scale, int(use.sum()))


def consensus(
    judges: Sequence[Column], *, rule: Literal["unanimous", "majority", "mean"], tie_band: float
) -> tuple[Column, Column]:
    """What several judges' p_a make of each pair together, and by how much: their mean, less 1/2.

    A judge's tie is no side. NaN where one of them lacks the pair.
    """
    stacked = np.sort(np.stack(judges).astype(np.float64), axis=0)  # sorted, so that the order of judges is nothing
    margin: Column = (stacked - 0.5).mean(axis=0)
    sides = np.sign(stacked - 0.5)
    if rule == "mean":
        p_a = np.where(np.abs(margin) <= tie_band + ROUNDING, 0.5, 0.5 + margin)
    elif rule == "majority":
        p_a = (np.sign(sides.sum(axis=0)) + 1) / 2
    else:
        p_a = np.where(np.abs(sides.sum(axis=0)) == len(stacked), (sides[0] + 1) / 2, 0.5)
    return np.where(np.isnan(margin), np.nan, p_a), margin


def consensus_rule(judges: Sequence[str], *, rule: str, tie_band: float) -> str:
    """The same in words, as it is recorded."""
    how = {
        "unanimous": "all on one side, else a tie",
        "majority": "more on one side than on the other, else a tie",
        "mean": f"the mean of their p_a; a tie if |p_a - 1/2| <= {tie_band:g}",
    }
    return f"{rule} of {', '.join(judges)}: {how[rule]}"


def _sigmoid(logit: Column) -> Column:
    probability: Column = 0.5 * (1 + np.tanh(0.5 * logit))
    return probability
