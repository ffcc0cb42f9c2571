"""Times (steps, or noise levels) and noises, one of each for a pair: a draw is a function of (seed, pair, number) alone.

So neither the judge, nor the order, nor the batch changes it: policies trained on other labels see the same draws, comparing
them is a paired comparison, and what the reference makes of a draw need be asked only once.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from aifeedback_dpo.seeds import derive, uniform

Draw = tuple[str, int]
"""A pair's id, and the number of the draw."""


def draw(
    seed: int, draws: Sequence[Draw], *, shape: tuple[int, ...], time: Callable[[torch.Generator], Tensor]
) -> tuple[Shaped[Tensor, " b"], Float[Tensor, "b c h w"]]:
    """For each (pair id, number): a time, as `time` draws it, and a standard normal noise of `shape` (c, h, w)."""
    times, noises = [], torch.empty(len(draws), *shape)
    for at, (pair_id, number) in enumerate(draws):
        generator = torch.Generator().manual_seed(derive(seed, "draw", pair_id, number))
        times.append(time(generator))
        torch.randn(shape, generator=generator, out=noises[at])
    return torch.stack(times), noises


def dropped(seed: int, draws: Sequence[Draw], rate: float) -> list[bool]:
    """Whether the caption is dropped at this draw, for both images of the pair."""
    return [uniform(seed, "caption", pair_id, number) < rate for pair_id, number in draws]


def flipped(seed: int, draws: Sequence[Draw]) -> list[bool]:
    """Whether both images of the pair are mirrored at this draw: one time in two."""
    return [uniform(seed, "flip", pair_id, number) < 0.5 for pair_id, number in draws]
