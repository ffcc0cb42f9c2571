"""What each process that works on a run says of itself: a small file in `workers/`, for `ddpo status` to read.

Nothing that is computed depends on these files, but for one thing: by the pictures that other shares could not read, the last
one knows that all is done. The times in them are only shown: clocks differ between machines, and jump.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aifeedback_dpo import provenance
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.store import Run

AT_WORK, DONE, INTERRUPTED, FAILED, GONE = "at work", "done", "interrupted", "failed", "gone"
POOL = "in a pool"
EVERY = 1.0  # seconds between two writings of the same file


@dataclass
class Worker:
    """One process: its command, the share (i, n) of the plan that it does, and how far it is, in units of its share.

    `told` are the ids of what it could not use, such as pictures that cannot be read.
    """

    command: str
    shard: tuple[int, int]
    of: int
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    place: str = "here"
    done: int = 0
    status: str = AT_WORK
    error: str | None = None
    started: str = field(default_factory=provenance.now)
    seen: str = field(default_factory=provenance.now)
    told: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its file: a share keeps it when it is run again."""
        number, count = self.shard
        who = f"{number}-of-{count}" if count > 1 else f"{self.host}-{self.pid}"
        return f"{self.command}-{who}"

    @property
    def is_gone(self) -> bool:
        """Whether it said that it was at work and there is no such process any more; of another machine nobody knows."""
        return self.status == AT_WORK and self.host == socket.gethostname() and not _alive(self.pid)

    def __str__(self) -> str:
        number, count = self.shard
        share = f" --shard {number}/{count}" if count > 1 else ""
        return f"`ddpo {self.command}{share}` (process {self.pid} on {self.host})"


class Said:
    """A worker's own hand on its file."""

    def __init__(self, run: Run, worker: Worker) -> None:
        self.run, self.worker = run, worker
        self._next = 0.0
        self.write()

    def advance(self, count: int) -> None:
        """So many units more are done."""
        self.worker.done += count
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Puts it down now."""
        self.worker.seen = provenance.now()
        text = json.dumps(asdict(self.worker)) + "\n"
        path = _folder(self.run) / f"{self.worker.name}.json"
        self.run.write(path, lambda file: file.write(text.encode()), kept=False)  # between two slices, perhaps over NFS
        self._next = time.monotonic() + EVERY

    def remove(self) -> None:
        """Takes the file away."""
        (_folder(self.run) / f"{self.worker.name}.json").unlink(missing_ok=True)


@contextmanager
def working(run: Run, command: str, shard: tuple[int, int], of: int) -> Iterator[Said]:
    """Says how this process fares. Of a whole plan that was worked off nothing is left to say, and the file goes."""
    if shard[1] == 1:
        _tidy(run, command)
    said = Said(run, Worker(command, shard, of))
    try:
        yield said
    except BaseException as error:
        said.worker.status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
        said.worker.error = str(error) if isinstance(error, DdpoError) else type(error).__name__
        with suppress(DdpoError):  # on a full disk this cannot be said, and why must be
            said.write()
        raise
    if shard[1] == 1:
        said.remove()
    else:
        said.worker.status = DONE
        said.write()


def in_pool(run: Run, command: str) -> Said:
    """Says how this process fares in a pool, which nobody knows the share of."""
    return Said(run, Worker(command, (0, 1), 0, place=POOL))


@contextmanager
def pool(run: Run, command: str) -> Iterator[None]:
    """While a pool is at work on all of it. Its workers are ended from outside, and what they have left is taken away."""
    _remove(run, [worker for worker in read(run) if (worker.command, worker.place) == (command, POOL)])
    try:
        yield
    finally:
        _remove(run, [worker for worker in read(run) if (worker.command, worker.place) == (command, POOL)])


def read(run: Run) -> list[Worker]:
    """All that there are, by name; one whose process has gone says so. A file that is being written is left out."""
    found = []
    for path in sorted(_folder(run).glob("*.json")):
        try:
            said = json.loads(path.read_text())
            worker = Worker(**(said | {"shard": tuple(said["shard"])}))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if worker.is_gone:
            worker.status = GONE
        found.append(worker)
    return found


def at_work(run: Run, command: str) -> list[Worker]:
    """The others that are known to be at work on the same with the whole plan, on this machine."""
    here = socket.gethostname()
    return [
        worker
        for worker in read(run)
        if (worker.command, worker.status, worker.host) == (command, AT_WORK, here)
        and worker.pid != os.getpid()
        and worker.shard[1] == 1
    ]


def told(workers: Sequence[Worker], command: str) -> set[str]:
    """The ids of what they could not use."""
    return {name for worker in workers if worker.command == command for name in worker.told}


def _tidy(run: Run, command: str) -> None:
    """Takes away what processes have left that are no more: the whole plan is gone through again."""
    _remove(run, [worker for worker in read(run) if worker.command == command and worker.status != AT_WORK])


def _remove(run: Run, workers: Sequence[Worker]) -> None:
    for worker in workers:
        (_folder(run) / f"{worker.name}.json").unlink(missing_ok=True)


def _folder(run: Run) -> Path:
    return run.root / "workers"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
