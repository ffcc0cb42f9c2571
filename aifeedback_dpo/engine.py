"""Where units of work run, and how a stop loses nothing: a fixed plan, minus what is committed, slice by slice.

The plan is cut into slices before anything is known about what is done. A slice is computed whole and committed as one
part named after it, so a run that was killed and run again, or that many machines have worked on, holds the same files, byte
for byte, as a straight one. Nobody coordinates: a shard takes every n-th slice, and processes that know nothing of each other
may do one twice, which gives the same file.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo import workers
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run

Unit = TypeVar("Unit")


class Finding(Protocol):
    """What a worker tells of a unit that it could not do: a picture, and why."""

    @property
    def image_id(self) -> str: ...


Found = TypeVar("Found", bound=Finding)
Found_co = TypeVar("Found_co", bound=Finding, covariant=True)


class Bar(Protocol):
    """One task under way."""

    def advance(self, count: int) -> None: ...


class Progress(Protocol):
    """Shows how far each task is. The command line has one for a terminal and one for a log.

    A `total` of None is not known.
    """

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0) -> Iterator[Bar]: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Shows nothing: for library use."""

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        yield self

    def advance(self, count: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


# -- the plan --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """A fixed stretch of a plan, as places in it; `name` is the same whenever the ids there are.

    `asked` is for whom it is done, where several share a plan, such as scorers.
    """

    name: str
    at: Sequence[int]
    asked: tuple[str, ...] = ()

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """Its units."""
        return [units[at] for at in self.at]

    @property
    def work(self) -> int:
        """How much is to be done: its units, once for each who asked."""
        return len(self.at) * max(1, len(self.asked))


def left(
    ids: NDArray[np.bytes_], missing: NDArray[np.bool_], size: int, share: tuple[int, int] = (0, 1)
) -> list[Slice]:
    """The slices of `size` units that have any missing; where a plan grew, the rest of one as a slice of its own.

    `share` (i, n) are those number i, i + n, ... of all slices, done or not.
    """
    found = []
    for number in range(share[0], -(-len(ids) // size), share[1]):
        start, end = number * size, min((number + 1) * size, len(ids))
        here = missing[start:end]
        if here.all():
            found.append(Slice(_name(number, ids[start:end]), range(start, end)))
        elif here.any():
            at = (start + np.flatnonzero(here)).tolist()
            found.append(Slice(_name(0, ids[at]), at))
    return found


def _name(number: int, ids: NDArray[np.bytes_]) -> str:
    return f"{number:06d}-{content_id(*(name.decode() for name in ids))[:12]}"


# -- the work --------------------------------------------------------------------------------------------------------


class Worker(Protocol[Found_co]):
    """Does slices one after the other, with all that it needs loaded, and commits each by itself."""

    def __call__(self, part: Slice, following: Slice | None) -> Sequence[Found_co]:
        """Computes a slice, which may be committed, and the following one read, while others are computed."""

    def settle(self) -> None:
        """Waits until everything that was computed is committed. Raises what went wrong there."""


class Job(Protocol[Found]):
    """What is to be done with a plan: small, so that it can be sent to another process, which loads what it takes."""

    @property
    def run(self) -> Run: ...

    @property
    def command(self) -> str: ...

    @property
    def title(self) -> str: ...

    def elsewhere(self, run: Run) -> "Job[Found]":
        """The same on the run as another process finds it, without what is loaded here."""

    def committed(self, part: Slice) -> bool:
        """Whether somebody has done this slice since the plan was made."""

    def begin(self, progress: Progress) -> AbstractContextManager[Worker[Found]]:
        """Loads what it takes, and lets go of it at the end."""


# -- where it runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """In this process: the whole plan, or share (i, n) of it."""

    shard: tuple[int, int] = (0, 1)

    @property
    def whole(self) -> bool:
        """Whether nobody else has a share."""
        return self.shard[1] == 1


@dataclass(frozen=True)
class OnRay:
    """On Ray, with so many workers; None is one for each device that there is."""

    workers: int | None = None
    whole = True
    shard = (0, 1)


Place = Here | OnRay


@dataclass(frozen=True)
class Asked(Generic[Found]):
    """A job and what is left of its plan here; `total` and `done` count units, of the whole plan.

    `begun` is called once a worker has loaded what it takes, so that one that cannot leaves nothing. `told` are the ids that
    this command has found to be of no use in a job before.
    """

    job: Job[Found]
    parts: Sequence[Slice]
    total: int
    done: int
    begun: Callable[[], None] = lambda: None
    told: Sequence[str] = ()


def run(asked: Asked[Found], progress: Progress, place: Place) -> list[Found]:
    """Works off what is left, if anything; everything is committed when it returns. Gives what a worker here found."""
    if not asked.parts:
        return []
    if isinstance(place, OnRay):
        from aifeedback_dpo import ray_engine

        ray_engine.run(asked, progress, place.workers)
        return []
    return _here(asked, progress, place)


def _here(asked: Asked[Found], progress: Progress, place: Here) -> list[Found]:
    job, found = asked.job, list[Found]()
    own = sum(part.work for part in asked.parts)
    total, done = (asked.total, asked.done) if place.whole else (own, 0)
    others = workers.at_work(job.run, job.command) if place.whole else []
    if others:
        progress.note(f"{others[0]} is at work on this run as well; the work is shared between the two")
    parts = _from_elsewhere(asked.parts) if others else asked.parts
    with job.begin(progress) as worker:
        asked.begun()
        with (
            workers.working(job.run, job.command, place.shard, own) as said,
            progress.task(job.title, total, done) as bar,
        ):
            said.worker.told += asked.told
            for part, following in zip_longest(parts, parts[1:]):
                if not job.committed(part):
                    told = worker(part, following)
                    said.worker.told += [one.image_id for one in told]
                    found += told
                said.advance(part.work)
                bar.advance(part.work)
            worker.settle()
    return found


def _from_elsewhere(parts: Sequence[Slice]) -> Sequence[Slice]:
    """The same slices from another one on, so that processes that share a plan seldom meet."""
    start = int(content_id("start", os.getpid()), 16) % len(parts)
    return [*parts[start:], *parts[:start]]
