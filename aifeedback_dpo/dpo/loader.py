"""The batches of a training in their order: this process's share of each, in micro-batches, made ahead of the networks."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aifeedback_dpo.dpo import batches, step
from aifeedback_dpo.dpo.batches import Visit
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.dpo.references import References
from aifeedback_dpo.dpo.step import Located, Part
from aifeedback_dpo.models.schedules import Schedule
from aifeedback_dpo.settings.training import Train


@dataclass(frozen=True, eq=False)
class Loader:
    """The pairs of these jobs for process `process` of `processes`.

    `decided` marks the pairs that the networks see: those of which some judge that is asked for took a side, were its policy
    finished already. What is left of a group goes on in the same batches, and so to the same bits.
    """

    schedule: Schedule
    cache: Cache
    located: Located
    jobs: Sequence[Job]
    decided: npt.NDArray[np.bool_]
    settings: Train
    seed: int
    process: int
    processes: int
    sharded: bool

    @property
    def share(self) -> int:
        """How many pairs of a batch are this process's."""
        return self.settings.batch_size // self.processes

    @property
    def micro(self) -> int:
        """How many pairs are in a forward pass."""
        return self.settings.micro_batch_size or self.share

    def needs(self, references: References, start: int) -> bool:
        """Whether the steps from `start` on need the reference itself, and not only what it has said before."""
        return not all(references.complete(self.wanted(visits)) for visits in self._order(start))

    def ahead(self, start: int) -> Generator[tuple[list[Visit], list[Part]]]:
        """The batches of the steps from `start` on, each made while the networks work on the one before."""
        with ThreadPoolExecutor(1) as working:
            waiting = None
            for visits in self._order(start):
                made = working.submit(self._parts, visits)
                if waiting:
                    yield waiting[0], waiting[1].result()
                waiting = visits, made
            if waiting:
                yield waiting[0], waiting[1].result()

    def wanted(self, visits: Sequence[Visit]) -> list[Visit]:
        """Those of pairs that some judge decided."""
        return [visit for visit in visits if self.decided[visit[0]]]

    def _order(self, start: int) -> Iterator[list[Visit]]:
        settings = self.settings
        return batches.schedule(
            self.located.pair_ids,
            size=settings.batch_size,
            steps=settings.steps,
            seed=self.seed,
            draws=settings.draws,
            start=start,
        )

    def _parts(self, visits: list[Visit]) -> list[Part]:
        """This process's share of a batch, in micro-batches, of pairs that some judge decided."""
        mine, parts = visits[self.process * self.share :][: self.share], []
        soft = self.settings.labels == "soft"
        for at in range(0, len(mine), self.micro):
            chunk = mine[at : at + self.micro]
            kept = self.wanted(chunk)
            own = len(kept)
            if self.sharded and not kept:  # all processes must call the network equally often
                kept = self.wanted(visits)[:1]
            if not kept:
                continue
            if self.settings.compile:
                kept += kept[:1] * (len(chunk) - len(kept))
            batch = step.make_batch(
                self.schedule, self.cache, self.located, kept, settings=self.settings, seed=self.seed
            )
            labels = [step.view(job.said(kept[:own]), soft=soft) for job in self.jobs]
            asked = self._everywhere(visits, at) if self.sharded else kept
            parts.append(Part(kept, own, batch, labels, asked))
        return parts

    def _everywhere(self, visits: list[Visit], at: int) -> list[Visit]:
        """What all processes have in the micro-batch that begins `at` so many pairs of their share, and some judge decided."""
        starts = range(at, len(visits), self.share)
        return self.wanted([visit for start in starts for visit in visits[start : start + self.micro]])
