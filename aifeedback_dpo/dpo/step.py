"""One batch: what both networks see, the errors they make, and the gradient of the objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aifeedback_dpo.dpo import noise
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.losses import PairErrors, dpo_loss, implicit_accuracy, implicit_margin, squared_error
from aifeedback_dpo.models.sd import StableDiffusion

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]

METRICS = ("loss", "implicit_accuracy", "margin", "winner_error", "loser_error", "winner_drift", "loser_drift")


@dataclass(frozen=True)
class Batch:
    """Winners in the first half of the rows, losers in the second, in the same order; the halves share all that is random."""

    noisy: Float[Tensor, "b2 c h w"]
    timesteps: Int[Tensor, " b2"]
    embeddings: Float[Tensor, "b2 n d"]
    target: Float[Tensor, "b2 c h w"]

    def __len__(self) -> int:
        return len(self.timesteps) // 2

    def split(self, size: int) -> list["Batch"]:
        """Micro-batches of `size` pairs."""
        parts = []
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)), device=self.timesteps.device)
            rows = torch.cat([rows, rows + len(self)])
            parts.append(Batch(self.noisy[rows], self.timesteps[rows], self.embeddings[rows], self.target[rows]))
        return parts


def make_batch(
    model: StableDiffusion, cache: Cache, visits: Sequence[tuple[Pair, int]], *, seed: int, caption_dropout: float
) -> Batch:
    """The pairs of these visits: one timestep, one noise and one caption (or none) for both images of a pair."""
    keys = [(pair.pair_id, visit) for pair, visit in visits]
    winners = [cache.image_rows[pair.winner] for pair, _ in visits]
    losers = [cache.image_rows[pair.loser] for pair, _ in visits]
    latents = cache.latents[winners + losers]
    timesteps, drawn = noise.draw(seed, keys, shape=tuple(latents.shape[1:]), timesteps=model.train_timesteps)
    drop = noise.dropped(seed, keys, caption_dropout)
    captions = [0 if gone else cache.prompt_rows[pair.prompt_id] for (pair, _), gone in zip(visits, drop, strict=True)]
    timesteps, target = timesteps.repeat(2), drawn.repeat(2, 1, 1, 1)
    noisy = model.add_noise(latents, target, timesteps)
    return Batch(*(rows.to(model.device) for rows in (noisy, timesteps, cache.embeddings[captions * 2], target)))


def pair_errors(predict: Predict, batch: Batch) -> PairErrors:
    """Winners and losers in one forward pass."""
    error = squared_error(predict(batch.noisy, batch.timesteps, batch.embeddings), batch.target)
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
    sums = torch.zeros(len(METRICS), device=batch.timesteps.device)
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
