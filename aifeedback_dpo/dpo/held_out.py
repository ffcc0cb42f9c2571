"""Pairs that no policy trains on, at fixed times and noises: how many a policy tells right, and by what margin."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from aifeedback_dpo.dpo import losses, step
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.dpo.step import Batch, Labels, Located
from aifeedback_dpo.models.schedules import Schedule
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings.training import Train

DEPTHS = (0.125, 0.375, 0.625, 0.875)


class HeldOut:
    """The grid of (pair, depth); what the reference makes of it is kept, the batches are not."""

    def __init__(
        self,
        schedule: Schedule,
        cache: Cache,
        located: Located,
        jobs: Sequence[Job],
        *,
        settings: Train,
        accelerator: Accelerator,
        run_seed: int,
    ) -> None:
        self.schedule, self.cache, self.located, self.jobs = schedule, cache, located, jobs
        self.settings, self.accelerator, self.seed = settings, accelerator, derive(run_seed, "held-out")
        every = [row for row, image in enumerate(located.images[0]) if image >= 0]
        share, processes = -(-len(every) // accelerator.num_processes), accelerator.num_processes
        padded = every + every[:1] * (share * processes - len(every))
        self.rows = padded[accelerator.process_index :: processes]
        self.own = np.arange(len(padded))[accelerator.process_index :: processes] < len(every)
        self.references: list[Tensor] = []

    def ask(self, network: Network, policies: Sequence[int]) -> dict[int, dict[str, float]]:
        """Each policy's accuracy and margin over the grid, on the pairs that its judge decided; none where it decided none."""
        sums = torch.zeros(len(policies), 3, device=self.accelerator.device)
        with torch.no_grad():
            for number, (batch, labels) in enumerate(self._batches()):
                if number == len(self.references):
                    self.references.append(step.errors(network.reference, batch))
                held = self.references[number]
                for place, policy in enumerate(policies):
                    view = labels[policy].to(batch.times.device)
                    if not len(view.pairs) and not network.sharded:
                        continue
                    found = step.errors(lambda *seen, policy=policy: network.predict(policy, *seen), batch)
                    pair = step.turned(found, batch, view), step.turned(held, batch, view)
                    right, margin = losses.implicit_accuracy(*pair), losses.implicit_margin(*pair)
                    sums[place] += torch.stack([right.sum(), margin.sum(), right.new_tensor(len(right))])
        told = self.accelerator.reduce(sums, reduction="sum").tolist()
        return {
            policy: {"held_out_accuracy": right / count, "held_out_margin": margin / count}
            for policy, (right, margin, count) in zip(policies, told, strict=True)
            if count
        }

    def _batches(self) -> Iterator[tuple[Batch, list[Labels]]]:
        """This process's share of the grid, and each judge's view of it."""
        size = self.settings.micro_batch_size or self.settings.batch_size // self.accelerator.num_processes
        for at in range(0, len(self.rows), size):
            rows, own = self.rows[at : at + size], self.own[at : at + size]
            told = [np.where(own, job.held_p_a[rows], np.float32("nan")) for job in self.jobs]
            labels = [step.view(p_a, soft=False) for p_a in told]
            for number, depth in enumerate(DEPTHS):
                visits = [(row, number) for row in rows]
                batch = step.make_batch(
                    self.schedule,
                    self.cache,
                    self.located,
                    visits,
                    settings=self.settings,
                    seed=self.seed,
                    depth=depth,
                )
                yield batch.to(self.accelerator.device), labels
