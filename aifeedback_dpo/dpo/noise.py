"""Timesteps and noises, one of each for a pair, from a counter: the draw is a function of (seed, pair, visit) alone.

So neither the judge, nor the order, nor the batch changes it: policies trained on other labels see the same draws, and
comparing them is a paired comparison.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aifeedback_dpo.seeds import derive, uniform


def draw(
    seed: int, visits: Sequence[tuple[str, int]], *, shape: tuple[int, ...], timesteps: int
) -> tuple[Int[Tensor, " b"], Float[Tensor, "b c h w"]]:
    """For each (pair id, visit): a timestep uniform in [0, timesteps) and a standard normal noise of `shape` (c, h, w)."""
    steps, noises = [], []
    for pair_id, visit in visits:
        generator = torch.Generator().manual_seed(derive(seed, "draw", pair_id, visit))
        steps.append(torch.randint(0, timesteps, (), generator=generator))
        noises.append(torch.randn(shape, generator=generator))
    return torch.stack(steps), torch.stack(noises)


def dropped(seed: int, visits: Sequence[tuple[str, int]], rate: float) -> list[bool]:
    """Whether the caption is dropped on this visit, for both images of the pair."""
    return [uniform(seed, "caption", pair_id, visit) < rate for pair_id, visit in visits]
