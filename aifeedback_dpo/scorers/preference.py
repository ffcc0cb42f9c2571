"""From two raw scores of one prompt to a probability, where a scorer's model defines one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aifeedback_dpo.errors import UserError


@dataclass(frozen=True)
class Preference:
    """P(a preferred) = sigmoid(slope * (score_a - score_b)), or not defined (`slope` None). `why` says from where.

    Every published model that defines a probability defines this one: a softmax over two scaled cosines, or over two
    rewards, is a sigmoid of their difference.
    """

    slope: float | None
    why: str

    def __call__(self, score_a: ArrayLike, score_b: ArrayLike) -> NDArray[np.float64]:
        """One probability a pair; NaN where a score is missing. Raises UserError where none is defined."""
        if self.slope is None:
            raise UserError(f"no preference probability is defined: {self.why}. Set a slope, or take the higher score")
        difference = np.asarray(score_a, dtype=np.float64) - np.asarray(score_b, dtype=np.float64)
        probability: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * self.slope * difference))
        return probability
