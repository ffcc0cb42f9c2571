"""The steps of a group of policies: one batch, one reference pass, and every judge's gradient of it.

Each policy's trajectory is that of training it alone, and a pair costs the reference once, however many judges there are.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from aifeedback_dpo import engine
from aifeedback_dpo.dpo import batches, checkpoint, losses, step, tracking
from aifeedback_dpo.dpo.batches import Visit
from aifeedback_dpo.dpo.held_out import HeldOut
from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.dpo.loader import Loader
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.dpo.policy import Policy
from aifeedback_dpo.dpo.references import Errors, References
from aifeedback_dpo.dpo.stability import Watch
from aifeedback_dpo.dpo.step import Part
from aifeedback_dpo.settings.training import Train
from aifeedback_dpo.store import Run

REDUCED_AT_ONCE = 1 << 26


@dataclass
class Member:
    """A policy of the group, its files and how it does.

    `good` is the last step that nothing was wrong with, which speaks for the state that it began at; `ended` says why the
    policy stopped before its last step.
    """

    policy: Policy
    watch: Watch
    log: IO[str]
    last: dict[str, Any] | None = None
    ended: str | None = None
    failed: str | None = None
    good: int = field(init=False)

    def __post_init__(self) -> None:
        self.good = self.last["step"] if self.last else 0

    @property
    def job(self) -> Job:
        return self.policy.job

    @property
    def going(self) -> bool:
        return not self.ended and not self.failed


@dataclass
class Group:
    """Policies that are trained together: all of one seed, or one whose every weight is trained."""

    run: Run
    settings: Train
    network: Network
    members: list[Member]
    loader: Loader
    references: References | None
    held_out: HeldOut | None
    accelerator: Accelerator
    show: Callable[["Group", int], None]
    stop: Callable[[], bool]
    objective: losses.Objective = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.objective = losses.objective(
            settings.objective, beta=settings.beta, smoothing=settings.smoothing, alpha=settings.alpha
        )

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.accelerator.is_main_process)

    def train(self, start: int, bar: engine.Bar) -> None:
        """Steps `start` to the last. A step whose pairs are all ties of a judge changes nothing for that judge.

        Raises KeyboardInterrupt, after a step that is saved, where a stop was asked for before the last one.
        """
        settings = self.settings
        try:
            with closing(self.loader.ahead(start)) as made:
                for number, (visits, parts) in zip(range(start, settings.steps), made, strict=True):
                    if not any(member.going for member in self.members):
                        break
                    self._step(number, visits, parts)
                    stopping = self.stop() and number + 1 < settings.steps
                    self._between(number + 1, stopping=stopping)
                    bar.advance(1)
                    if stopping:
                        raise KeyboardInterrupt
        finally:
            if self.references:
                self.references.commit()

    def _step(self, number: int, visits: list[Visit], parts: list[Part]) -> None:
        started = time.perf_counter()
        totals = [int(batches.decided(member.job.said(visits)).sum()) for member in self.members]
        device = self.accelerator.device
        sums: dict[int, Tensor] = {}
        fresh: list[tuple[Part, Tensor]] = []
        for part in parts:
            batch = part.batch.to(device)
            held = self._reference(part, batch, fresh)
            for at, member in enumerate(self.members):
                labels = part.labels[at].to(device)
                met = totals[at] if self.network.sharded else len(labels.pairs)
                if not member.going or not met:
                    continue
                found = step.backpropagate(
                    batch,
                    labels,
                    predict=lambda *seen, at=at: self.network.predict(at, *seen),
                    reference=held,
                    objective=self.objective,
                    zero_point=member.policy.zero_point,
                    settings=self.settings,
                    total=totals[at],
                    backward=member.policy.backward,
                )
                sums[at] = sums[at] + found if at in sums else found
        stepped = [at for at, member in enumerate(self.members) if member.going and totals[at]]
        self._add_up_gradients(stepped)
        if not stepped:
            return
        nothing = torch.zeros(step.width(reference=self.references is not None), device=device)
        table = torch.stack([sums.get(at, nothing) for at in stepped])
        table = self.accelerator.reduce(table, reduction="sum")
        rates = [self.members[at].policy.rate.get_last_lr()[0] for at in stepped]
        norms = torch.stack([torch.as_tensor(self.members[at].policy.step()) for at in stepped])
        table = torch.cat([table, norms.to(table).view(-1, 1)], dim=1)
        asked = [errors.view(-1) for _, errors in fresh]
        read = torch.cat([table.view(-1), *asked]).cpu()  # the one wait for the device
        told, *answers = read.split([table.numel(), *map(len, asked)])
        said = [(part, errors.view(2, -1).numpy()) for (part, _), errors in zip(fresh, answers, strict=True)]
        self._learn(visits, said)
        seconds = time.perf_counter() - started
        for at, values, rate in zip(stepped, told.view_as(table).tolist(), rates, strict=True):
            row = {"step": number, "pairs": totals[at], **step.means(values[:-1], totals[at])}
            row |= {"gradient_norm": values[-1], "learning_rate": rate}
            speed = {"step": number, "pairs": totals[at], "policies": len(stepped), "seconds": seconds}
            self._note(self.members[at], row, speed)

    def _reference(self, part: Part, batch: step.Batch, fresh: list[tuple[Part, Tensor]]) -> Tensor | None:
        """(2, pairs): the reference's errors, from the cache or asked for now; None where the objective has no reference."""
        if self.references is None:
            return None
        held = torch.from_numpy(self.references.known(part.visits)).to(batch.weight.device, non_blocking=True)
        if not self.references.complete(part.asked):
            said = step.errors(self.network.reference, batch)
            held = torch.where(held.isnan(), said, held)
            fresh.append((part, said))
        return held

    def _learn(self, visits: Sequence[Visit], fresh: Sequence[tuple[Part, Errors]]) -> None:
        """Takes up what the reference said of a batch, in every process what it said in all of them."""
        if self.references is None or self.references.complete(self.loader.wanted(visits)):
            return
        said = []
        for part, errors in fresh:
            missing = np.flatnonzero(np.isnan(self.references.known(part.visits[: part.own])).any(axis=0))
            said.append(([part.visits[at] for at in missing], errors[:, missing]))
        if self.accelerator.num_processes > 1:
            said = gather_object(said)
        for seen, errors in said:
            self.references.learn(seen, errors)

    def _add_up_gradients(self, stepped: Sequence[int]) -> None:
        """One sum over the processes for a step, however many micro-batches and policies it had."""
        if self.accelerator.num_processes == 1 or (self.network.sharded and self.settings.method == "full"):
            return  # the backward pass of sharded weights adds up theirs
        parameters = [parameter for at in stepped for parameter in self.members[at].policy.parameters]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        while gradients:
            some: list[Any] = []
            while gradients and (not some or sum(each.numel() for each in some) < REDUCED_AT_ONCE):
                some.append(gradients.pop(0))
            flat = self.accelerator.reduce(torch.cat([each.reshape(-1) for each in some]), reduction="sum")
            for each, value in zip(some, flat.split([each.numel() for each in some]), strict=True):
                each.copy_(value.view_as(each))

    def _note(self, member: Member, row: dict[str, Any], speed: dict[str, Any]) -> None:
        """Takes up a step of a policy, and stops it where its watch says so."""
        if "winner_drift" in row:
            gained = -(row["winner_drift"] + row["loser_drift"]) / 2
            member.policy.zero_point.fill_(max(gained, 0.0))
        member.last = row
        if reason := member.watch.broken(row):
            member.failed = f"step {row['step']}: {reason}"
        else:
            member.good, member.ended = row["step"], member.watch.see(row)
        if self.main:
            with (member.job.folder / "speed.jsonl").open("a") as timed:
                timed.write(json.dumps(speed) + "\n")

    def _between(self, done: int, *, stopping: bool) -> None:
        """What happens after a step: a look at the held-out pairs, the log, pictures, a checkpoint."""
        settings, last = self.settings, done == self.settings.steps
        fresh = [at for at, each in enumerate(self.members) if each.last and each.last["step"] == done - 1]
        asked: dict[int, dict[str, float]] = {}
        ended = any(self.members[at].ended for at in fresh)
        if self.held_out and (done % settings.held_out.every == 0 or last or ended):
            asked = self.held_out.ask(self.network, fresh)
        for at in fresh:
            member = self.members[at]
            row = member.last = {**(member.last or {}), **asked.get(at, {})}
            if self.main:
                member.log.write(json.dumps(row) + "\n")
                member.log.flush()
                tracking.log(self.accelerator, member.job.name, row)
        self._keep([self.members[at] for at in fresh], done, stopping=stopping)
        self.show(self, done)

    def _keep(self, fresh: Sequence[Member], done: int, *, stopping: bool) -> None:
        """Saves what goes on; drops what a failed step began at, and all but the last few once a step has followed them."""
        settings = self.settings
        for member in fresh if self.main else ():
            if member.failed:
                checkpoint.drop(member.job, after=member.good)
            elif (done - 1) % settings.checkpoint_steps == 0:
                checkpoint.prune(member.job, keep=settings.keep_checkpoints)
        due = stopping or (done % settings.checkpoint_steps == 0 and done < settings.steps)
        if due and (self.main or self.network.sharded):
            if self.references:
                self.references.commit()
            for member in self.members:
                if member.going and member.policy.finite():
                    state = member.policy.state()
                    if self.main:
                        checkpoint.save(self.run, member.job, done, state)
