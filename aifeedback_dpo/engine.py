"""Where units of work run, and how a stop loses nothing: a fixed plan, minus what is committed, slice by slice.

The plan is cut into slices before anything is known about what is done. A slice is computed whole and committed as one
part named after it, so a run that was killed and run again holds the same files, byte for byte, as a straight one.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from aifeedback_dpo.records import content_id

Unit = TypeVar("Unit")


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


@dataclass(frozen=True)
class Slice(Generic[Unit]):
    """A fixed stretch of a plan; `name` is the same whenever its units are."""

    name: str
    units: Sequence[Unit]


def cut(units: Sequence[Unit], size: int, key: Callable[[Unit], str]) -> list[Slice[Unit]]:
    """The plan in slices of `size`, each named by its place and a hash of its ids."""
    slices = []
    for start in range(0, len(units), size):
        part = units[start : start + size]
        slices.append(Slice(f"{start // size:06d}-{content_id(*map(key, part))[:12]}", part))
    return slices


def rest(part: Slice[Unit], done: Collection[str], key: Callable[[Unit], str]) -> Slice[Unit] | None:
    """What of a slice is not done: all of it, nothing (None), or some, as where a plan grew."""
    left = [unit for unit in part.units if key(unit) not in done]
    if len(left) in (0, len(part.units)):
        return part if left else None
    return cut(left, len(left), key)[0]


def run(
    units: Sequence[Unit],
    *,
    key: Callable[[Unit], str],
    done: Collection[str],
    size: int,
    work: Callable[[Slice[Unit]], None],
    progress: Progress,
    name: str,
) -> int:
    """Works off every slice that has units left, and says how many units were computed.

    `work` commits its own slice, or what of it is not done yet.
    """
    computed = 0
    ready = sum(key(unit) in done for unit in units)
    with progress.task(name, len(units), ready) as bar:
        for part in cut(units, size, key):
            left = rest(part, done, key)
            if left is None:
                continue
            work(left)
            computed += len(left.units)
            bar.advance(len(left.units))
    return computed
