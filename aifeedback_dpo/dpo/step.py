"""One batch: what both networks see, the errors they make, and the gradient of the objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from aifeedback_dpo.dpo import noise
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.losses import PairErrors, dpo_loss, implicit_accuracy, implicit_margin, squared_error
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.models.schedules import Schedule
from aifeedback_dpo.settings import Train

Predict = Callable[[Tensor, Tensor, Rows], Tensor]

METRICS = ("loss", "implicit_accuracy", "margin", "winner_error", "loser_error", "winner_drift", "loser_drift")


@dataclass(frozen=True)
class Batch:
    """Winners in the first half of the rows, losers in the second, in the same order; the halves share all that is random."""

    noisy: Float[Tensor, "b2 c h w"]
    times: Shaped[Tensor, " b2"]
    conditions: Rows
    target: Float[Tensor, "b2 c h w"]
    weight: Float[Tensor, " b2"]

    def __len__(self) -> int:
        return len(self.times) // 2

    def split(self, size: int) -> list["Batch"]:
        """Micro-batches of `size` pairs."""
        parts = []
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)), device=self.times.device)
            rows = torch.cat([rows, rows + len(self)])
            conditions = {name: value[rows] for name, value in self.conditions.items()}
            parts.append(Batch(self.noisy[rows], self.times[rows], conditions, self.target[rows], self.weight[rows]))
        return parts

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        conditions = {name: value.to(device) for name, value in self.conditions.items()}
        noisy, times, target, weight = (x.to(device) for x in (self.noisy, self.times, self.target, self.weight))
        return Batch(noisy, times, conditions, target, weight)


def make_batch(
    schedule: Schedule, cache: Cache, visits: Sequence[tuple[Pair, int]], *, settings: Train, seed: int
) -> Batch:
    """The pairs of these visits: one time, one noise and one caption (or none) for both images of a pair."""
    keys = [(pair.pair_id, visit) for pair, visit in visits]
    images = [cache.image_rows[pair.winner] for pair, _ in visits] + [
        cache.image_rows[pair.loser] for pair, _ in visits
    ]
    latents = cache.latents[images]
    time = schedule.times(settings.timesteps, settings.shift, (latents.shape[2], latents.shape[3]))
    times, drawn = noise.draw(seed, keys, shape=tuple(latents.shape[1:]), time=time)
    drop = noise.dropped(seed, keys, settings.caption_dropout)
    captions = [0 if gone else cache.prompt_rows[pair.prompt_id] for (pair, _), gone in zip(visits, drop, strict=True)]
    times, drawn = times.repeat(2), drawn.repeat(2, 1, 1, 1)
    return Batch(
        noisy=schedule.add_noise(latents, drawn, times),
        times=times,
        conditions=cache.conditions(captions * 2, images),
        target=schedule.target(latents, drawn, times),
        weight=schedule.weight(times, settings.weighting),
    )


def pair_errors(predict: Predict, batch: Batch) -> PairErrors:
    """Winners and losers in one forward pass, each error times the weight of its time."""
    error = batch.weight * squared_error(predict(batch.noisy, batch.times, batch.conditions), batch.target)
    return PairErrors(*error.chunk(2))


def accumulate(
    batch: Batch,
    *,
    policy: Predict,
    reference: Predict,
    beta: float,
    micro_batch_size: int,
    backward: Callable[[Tensor], None],
) -> Float[Tensor, " metrics"]:
    """Backpropagates the batch's mean loss, micro-batch by micro-batch, and gives the means of METRICS without a sync."""
    sums = torch.zeros(len(METRICS), device=batch.times.device)
    for part in batch.split(micro_batch_size):
        with torch.no_grad():
            held = pair_errors(reference, part)
        errors = pair_errors(policy, part)
        loss = dpo_loss(errors, held, beta=beta)
        backward(loss.sum() / len(batch))
        with torch.no_grad():
            columns = (
                loss,
                implicit_accuracy(errors, held),
                implicit_margin(errors, held),
                errors.win,
                errors.lose,
                errors.win - held.win,
                errors.lose - held.lose,
            )
            sums += torch.stack([column.sum() for column in columns])
    return sums / len(batch)
