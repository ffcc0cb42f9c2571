"""Who wins on the same prompts and seeds, as pure functions of score columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import TEN, Estimate, cluster_sums, over_prompts, over_seeds, widened

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """A win rate and the mean difference behind it."""

    win_rate: Estimate
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {"win_rate": self.win_rate.to_dict(), "difference": self.difference.to_dict()}


@dataclass(frozen=True)
class Duel:
    """One policy against another under one metric. Ties count half in the win rate, and are shown.

    `here` is of these very policies, over prompts; `over_seeds` of policies trained like them, over training seeds too, and
    None of one seed. `prompts_won`, `tied` and `lost` count prompts, all their pictures and training seeds together, and the
    exact sign test is of these, without the ties.
    """

    here: Sides
    over_seeds: Sides | None
    wins: int
    ties: int
    losses: int
    prompts_won: int
    prompts_tied: int
    prompts_lost: int
    sign_test: float
    win_rate_by_seed: list[float]
    seed_sd: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.here.to_dict(),
            "over_seeds": self.over_seeds.to_dict() if self.over_seeds else None,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "prompts_won": self.prompts_won,
            "prompts_tied": self.prompts_tied,
            "prompts_lost": self.prompts_lost,
            "sign_test": self.sign_test,
            "win_rate_by_seed": self.win_rate_by_seed,
            "seed_sd": self.seed_sd,
        }


def duel(ours: Array, theirs: Array, prompts: Sequence[str], *, resamples: int, confidence: float, seed: int) -> Duel:
    """`ours` and `theirs` are (training seeds, pictures), paired in both; a side with one seed (the base) is repeated.

    `prompts` has the prompt of each picture: what belongs to one is resampled, and tested, together.
    """
    boot = partial(over_prompts, clusters=prompts, resamples=resamples, confidence=confidence, seed=seed)
    ours, theirs = np.broadcast_arrays(ours, theirs)
    margin = ours - theirs
    outcome = (np.sign(margin) + 1) / 2
    net = np.sign(cluster_sums(np.sign(margin).sum(axis=0)[:, None], prompts)[:, 0])
    won, lost = int((net > 0).sum()), int((net < 0).sum())
    here = Sides(widened(boot(outcome), won=won, lost=lost, confidence=confidence), boot(margin))
    by_seed = outcome.mean(axis=1)
    return Duel(
        here=here,
        over_seeds=_over_seeds(here, outcome, margin, prompts, confidence, few=min(won, lost) < TEN)
        if len(ours) > 1
        else None,
        wins=int((outcome == 1).sum()),
        ties=int((outcome == 0.5).sum()),
        losses=int((outcome == 0).sum()),
        prompts_won=won,
        prompts_tied=len(net) - won - lost,
        prompts_lost=lost,
        sign_test=sign_test(won, lost),
        win_rate_by_seed=[float(share) for share in by_seed],
        seed_sd=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
    )


def _over_seeds(
    here: Sides, outcome: Array, margin: Array, prompts: Sequence[str], confidence: float, *, few: bool
) -> Sides:
    """A share stays in [0, 1]; of few wins or losses it is never surer than that of these very policies."""
    found = over_seeds(outcome, prompts, confidence=confidence)
    low, high = found.low, found.high
    if few:
        low, high = min(low, here.win_rate.low), max(high, here.win_rate.high)
    share = replace(found, low=max(low, 0.0), high=min(high, 1.0))
    return Sides(share, over_seeds(margin, prompts, confidence=confidence))


def best(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What sentences and marks go by in a duel's row: the estimate over training seeds, or of one seed over prompts."""
    found: dict[str, Any] = (row["over_seeds"] or row)[key]
    return found


def sign_test(won: int, lost: int) -> float:
    """The two-sided exact p of so many won and lost prompts under a fair coin; 1 where none is decided."""
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of several tests (Holm 1979): the chance of any false alarm stays below the level.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than the one before it.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]
