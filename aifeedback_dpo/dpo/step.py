"""One step: what the networks see, the errors they make, and the gradient of the objective for every judge.

A batch holds images a in the first half of its rows and images b in the second, whoever won: one forward pass of the
reference serves all judges, and each turns the errors round by its own labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from aifeedback_dpo.dpo import losses, noise
from aifeedback_dpo.dpo.batches import Floats, Visit, decided
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.losses import Objective, PairErrors
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.models.schedules import Schedule
from aifeedback_dpo.settings.training import Train

Predict = Callable[[Tensor, Tensor, Rows], Tensor]

BINS = 4
ALWAYS = ("loss", "winner_error", "loser_error")
AGAINST = ("implicit_accuracy", "margin", "gradient_factor", "winner_drift", "loser_drift")


@dataclass(frozen=True)
class Batch:
    """Both images of each pair share time, noise, caption and mirror. `depth` is how far into the noise a time is."""

    noisy: Float[Tensor, "b2 c h w"]
    times: Shaped[Tensor, " b2"]
    conditions: Rows
    target: Float[Tensor, "b2 c h w"]
    weight: Float[Tensor, " b2"]
    depth: Float[Tensor, " b2"]

    def __len__(self) -> int:
        return len(self.times) // 2

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; from pinned memory without waiting for it."""
        if device.type == "cpu":
            return self

        def moved(tensor: Any) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        conditions = {name: moved(value) for name, value in self.conditions.items()}
        parts = (self.target, self.weight, self.depth)
        return Batch(moved(self.noisy), moved(self.times), conditions, *(moved(part) for part in parts))


class Labels(NamedTuple):
    """A judge's view of a batch: the pairs it decided, in which of them a won, and P(winner preferred)."""

    pairs: Int[Tensor, " n"]
    a_wins: Bool[Tensor, " n"]
    preferred: Float[Tensor, " n"]

    def to(self, device: torch.device) -> "Labels":
        """The same on a device."""
        return Labels(*(part.to(device, non_blocking=True) for part in self))


@dataclass(frozen=True)
class Part:
    """A micro-batch: its `own` pairs, that at least one judge decided, and each judge's view of them.

    Visits that follow those fill it up, where all batches must have one shape or no process may have none: nobody's labels
    point at them. The reference is to be called where it has not said everything of those `asked`.
    """

    visits: list[Visit]
    own: int
    batch: Batch
    labels: list[Labels]
    asked: list[Visit]


@dataclass(frozen=True, eq=False)
class Located:
    """The run's pairs, and where their latents and prompts are in the cache."""

    pair_ids: pa.ChunkedArray
    prompts: Int[np.ndarray, " n"]
    images: Int[np.ndarray, "2 n"]

    def draws(self, visits: Sequence[Visit]) -> list[noise.Draw]:
        """The visits by pair id."""
        return [(str(self.pair_ids[row]), number) for row, number in visits]


def make_batch(
    schedule: Schedule,
    cache: Cache,
    located: Located,
    visits: Sequence[Visit],
    *,
    settings: Train,
    seed: int,
    depth: float | None = None,
) -> Batch:
    """The pairs of these (row, draw): one time, noise, mirror and caption (or none) for both images of a pair.

    With a `depth` the time is that far into the noise, every caption is kept and nothing is mirrored.
    """
    draws, rows = located.draws(visits), [row for row, _ in visits]
    size = cache.shape
    time = schedule.times(settings.timesteps, settings.shift, (size[1], size[2]))
    times, drawn = noise.draw(seed, draws, shape=size, time=time)
    prompts, mirror = located.prompts[rows], np.zeros(len(rows), bool)
    if depth is not None:
        times = schedule.at(depth).expand(len(rows))
    else:
        prompts = np.where(noise.dropped(seed, draws, settings.caption_dropout), 0, prompts)
        if settings.flip:
            mirror = np.array(noise.flipped(seed, draws))
    images = located.images[:, rows].reshape(-1)
    latents = cache.latents(images, np.tile(mirror, 2))
    times, drawn = times.repeat(2), drawn.repeat(2, 1, 1, 1)
    return Batch(
        noisy=schedule.add_noise(latents, drawn, times),
        times=times,
        conditions=cache.conditions(np.tile(prompts, 2), images),
        target=schedule.target(latents, drawn, times),
        weight=schedule.weight(times, settings.weighting),
        depth=schedule.depth(times),
    )


def view(p_a: Floats, *, soft: bool) -> Labels:
    """What a judge makes of the pairs of a batch, by its p_a of them."""
    pairs = torch.from_numpy(np.flatnonzero(decided(p_a)))
    chosen = torch.from_numpy(p_a)[pairs]
    preferred = torch.maximum(chosen, 1 - chosen) if soft else torch.ones_like(chosen)
    return Labels(pairs, chosen > 0.5, preferred)


def errors(predict: Predict, batch: Batch) -> Float[Tensor, "2 b"]:
    """A network's mean squared errors on a and on b of every pair, unweighted; all images in one forward pass.

    Pairs that are ties of the judge who is asked are not left out: libraries choose how to sum by the shape of a batch, so a
    policy that equals its reference has the reference's errors only in a batch of the same shape.
    """
    return losses.squared_error(predict(batch.noisy, batch.times, batch.conditions), batch.target).view(2, -1)


def turned(found: Float[Tensor, "2 b"], batch: Batch, labels: Labels) -> PairErrors:
    """Errors on a and b of a batch as errors on winner and loser of the decided pairs, each times the weight of its time."""
    weighted = (found * batch.weight.view(2, -1))[:, labels.pairs]
    return PairErrors(*torch.where(labels.a_wins, weighted, weighted.flip(0)))


def backpropagate(
    batch: Batch,
    labels: Labels,
    *,
    predict: Predict,
    reference: Float[Tensor, "2 b"] | None,
    objective: Objective,
    zero_point: Float[Tensor, ""],
    settings: Train,
    total: int,
    backward: Callable[[Tensor], None],
) -> Float[Tensor, " metrics"]:
    """A judge's share of a batch: backpropagates the sum of its losses over `total`, and gives its sums of the metrics.

    `reference` has the errors of the whole batch; `total` counts the judge's pairs of the step. Nothing is read back here.
    """
    output, half = predict(batch.noisy, batch.times, batch.conditions), len(batch)
    policy = turned(losses.squared_error(output, batch.target).view(2, -1), batch, labels)
    held = turned(reference, batch, labels) if reference is not None else None
    guarded = policy
    if settings.safeguard:
        alike = losses.overlap(*(output.detach().float() - batch.target.float()).chunk(2))
        guarded = losses.safeguarded(policy, (batch.weight[:half] * alike)[labels.pairs], mu=settings.safeguard)
    loss = objective(guarded, held, labels.preferred, zero_point)
    backward(loss.sum() / total)
    with torch.no_grad():
        return measure(loss, policy, held, batch.depth[:half][labels.pairs], beta=settings.beta)


def measure(
    loss: Float[Tensor, " b"],
    policy: PairErrors,
    reference: PairErrors | None,
    depth: Float[Tensor, " b"],
    *,
    beta: float,
) -> Float[Tensor, " metrics"]:
    """The sums over pairs of ALWAYS and, with a reference, of AGAINST, and then right answers and pairs met by depth."""
    sums = [loss.sum(), policy.win.sum(), policy.lose.sum()]
    if reference is None:
        return torch.stack(sums)
    right = losses.implicit_accuracy(policy, reference)
    drift = (policy.win - reference.win, policy.lose - reference.lose)
    sums += [right.sum(), losses.implicit_margin(policy, reference).sum()]
    sums += [losses.gradient_factor(policy, reference, beta=beta).sum(), drift[0].sum(), drift[1].sum()]
    place = torch.nn.functional.one_hot((depth * BINS).long().clamp(max=BINS - 1), BINS).to(right)
    return torch.cat([torch.stack(sums), right @ place, place.sum(dim=0)])


def means(sums: Sequence[float], pairs: int) -> dict[str, Any]:
    """The metrics of a step by name, from the sums over its pairs; accuracy by depth is null where no pair fell."""
    names = (*ALWAYS, *AGAINST) if len(sums) > len(ALWAYS) else ALWAYS
    row: dict[str, Any] = {name: value / pairs for name, value in zip(names, sums, strict=False)}
    if len(sums) > len(ALWAYS):
        right, met = sums[len(names) : -BINS], [round(count) for count in sums[-BINS:]]
        row["accuracy_by_depth"] = [value / count if count else None for value, count in zip(right, met, strict=True)]
        row["pairs_by_depth"] = met
    return row


def width(*, reference: bool) -> int:
    """How many sums `measure` gives."""
    return len(ALWAYS) + (len(AGAINST) + 2 * BINS if reference else 0)
