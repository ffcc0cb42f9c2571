"""Who wins on the same prompts and seeds, as pure functions of score columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate, ratio, widened

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

    The interval is over prompts: each prompt's outcomes under all training seeds are drawn together. How far training
    seeds differ is another matter, told by `seed_win_rates`; the headline gives no verdict where they fall on both sides.
    """
    boot = partial(estimate, resamples=resamples, confidence=confidence, seed=seed)
    ours, theirs = np.broadcast_arrays(ours, theirs)
    margin = ours - theirs
    outcome = (np.sign(margin) + 1) / 2
    count = np.ones(margin.shape[1])
    won = cluster_sums(np.stack([outcome.mean(axis=0), count], axis=1), prompts)
    gained = cluster_sums(np.stack([margin.mean(axis=0), count], axis=1), prompts)
    return Duel(
        win_rate=widened(boot(won, ratio), decided=int((outcome != 0.5).any(axis=0).sum()), confidence=confidence),
        difference=boot(gained, ratio),
        wins=int((outcome == 1).sum()),
        ties=int((outcome == 0.5).sum()),
        losses=int((outcome == 0).sum()),
        seed_win_rates=[float(row.mean()) for row in outcome],
    )


def mean(values: Array, prompts: Sequence[str], *, resamples: int, confidence: float, seed: int) -> Estimate:
    """The mean of (training seeds, prompts), with its interval over prompts."""
    rows = np.stack([values.mean(axis=0), np.ones(values.shape[1])], axis=1)
    return estimate(cluster_sums(rows, prompts), ratio, resamples=resamples, confidence=confidence, seed=seed)
