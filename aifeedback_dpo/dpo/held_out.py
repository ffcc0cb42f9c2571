"""Pairs that no policy trains on, at fixed times and noises: how many a policy tells right, and by what margin."""

from collections.abc import Sequence

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
    """The grid of (pair, depth) and what the reference makes of it; asked of one policy of the network at a time."""

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
        self.accelerator, self.whole = accelerator, settings.compile
        size = settings.micro_batch_size or settings.batch_size
        mine = list(range(len(located.pair_ids)))[accelerator.process_index :: accelerator.num_processes]
        self.batches: list[tuple[Batch, list[Labels]]] = []
        for at in range(0, len(mine), size):
            rows = mine[at : at + size]
            labels = [step.view(job.held_p_a[rows], soft=False) for job in jobs]
            for number, depth in enumerate(DEPTHS):
                visits = [(row, number) for row in rows]
                seed = derive(run_seed, "held-out")
                batch = step.make_batch(schedule, cache, located, visits, settings=settings, seed=seed, depth=depth)
                self.batches.append((batch, labels))
        self.references: list[Tensor] = []

    def ask(self, network: Network, policy: int) -> dict[str, float]:
        """Its accuracy and margin over the grid, on the pairs that its judge decided. Nothing where it decided none."""
        device = self.accelerator.device
        if not self.references:
            self.references = [
                step.errors(network.reference, batch.to(device), torch.arange(len(batch)))[0]
                for batch, _ in self.batches
            ]
        sums = torch.zeros(3, device=device)
        with torch.no_grad():
            for (batch, labels), held in zip(self.batches, self.references, strict=True):
                view, there = labels[policy].to(device), batch.to(device)
                if not len(view.pairs):
                    continue
                found, some = step.errors(
                    lambda *seen: network.predict(policy, *seen), there, view.pairs, whole=self.whole
                )
                pair = step.turned(found, some, view), step.turned(held[:, view.pairs], some, view)
                right, margin = losses.implicit_accuracy(*pair), losses.implicit_margin(*pair)
                sums += torch.stack([right.sum(), margin.sum(), right.new_tensor(len(right))])
        right, margin, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        return {"held_out_accuracy": right / count, "held_out_margin": margin / count} if count else {}
