"""Times (steps, or noise levels) and noises, one of each for a pair: a draw is a function of (seed, pair, visit) alone.

So neither the judge, nor the order, nor the batch changes it: policies trained on other labels see the same draws, and
comparing them is a paired comparison.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from aifeedback_dpo.seeds import derive, uniform


def draw(
    seed: int, visits: Sequence[tuple[str, int]], *, shape: tuple[int, ...], time: Callable[[torch.Generator], Tensor]
) -> tuple[Shaped[Tensor, " b"], Float[Tensor, "b c h w"]]:
    """For each (pair id, visit): a time, as `time` draws it, and a standard normal noise of `shape` (c, h, w)."""
    times, noises = [], []
    for pair_id, visit in visits:
        generator = torch.Generator().manual_seed(derive(seed, "draw", pair_id, visit))
        times.append(time(generator))
        noises.append(torch.randn(shape, generator=generator))
    return torch.stack(times), torch.stack(noises)


def dropped(seed: int, visits: Sequence[tuple[str, int]], rate: float) -> list[bool]:
    """Whether the caption is dropped on this visit, for both images of the pair."""
    return [uniform(seed, "caption", pair_id, visit) < rate for pair_id, visit in visits]
