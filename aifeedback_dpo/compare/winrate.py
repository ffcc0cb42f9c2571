"""Who wins on the same prompts and seeds, as pure functions of score columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, crossed, widened

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Duel:
    """One policy against another under one metric. Ties count half in the win rate and are shown."""

    win_rate: Estimate
    difference: Estimate
    wins: int
    ties: int
    losses: int
    seed_win_rates: list[float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "win_rate": self.win_rate.to_dict(),
            "difference": self.difference.to_dict(),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "win_rate_by_training_seed": self.seed_win_rates,
        }


def duel(ours: Array, theirs: Array, prompts: Sequence[str], *, resamples: int, confidence: float, seed: int) -> Duel:
    """`ours` and `theirs` are (training seeds, prompts), paired in both; a side with one seed (the base) is repeated.

    Intervals are over prompts and training seeds, both.
    """
    boot = partial(crossed, clusters=prompts, resamples=resamples, confidence=confidence, seed=seed)
    ours, theirs = np.broadcast_arrays(ours, theirs)
    margin = ours - theirs
    outcome = (np.sign(margin) + 1) / 2
    return Duel(
        win_rate=widened(boot(outcome), decided=int((outcome != 0.5).any(axis=0).sum()), confidence=confidence),
        difference=boot(margin),
        wins=int((outcome == 1).sum()),
        ties=int((outcome == 0.5).sum()),
        losses=int((outcome == 0).sum()),
        seed_win_rates=[float(row.mean()) for row in outcome],
    )
