"""A policy in training, on disk: what is trained, its optimizer, its rate, the step. Never the frozen base.

Draws and orders are counted and not drawn from a state, so this is all that a resumed run needs to end as a straight one.
"""

import hashlib
import json
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, cast

import torch

from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps of the job that `made_from` identifies."""

    made_from: str
    step: int
    state: dict[str, Any]


class _Summed:
    """A file and the SHA-256 of what was written to it; torch writes from the first byte to the last."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sum = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def save(run: Run, job: Job, step: int, state: dict[str, Any]) -> None:
    """Whole or not at all: a crash while it is written leaves the ones before. The file ends with the SHA-256 of the rest."""
    made = Checkpoint(job.made_from, step, state)

    def fill(file: IO[bytes]) -> None:
        summed = _Summed(file)
        try:
            torch.save(vars(made), cast(IO[bytes], summed))
        except RuntimeError as error:  # of a file that is too short, in place of why it is
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.write(summed.sum.digest())

    run.write(job.checkpoint(step), fill)


def prune(job: Job, *, keep: int) -> None:
    """Drops all but the last `keep`; to be called when a step has shown that the last of them is good."""
    for old in job.checkpoints()[:-keep]:
        job.checkpoint(old).unlink()


def drop(job: Job, *, after: int) -> None:
    """Drops those after this step: states that no good step has begun at."""
    for later in [step for step in job.checkpoints() if step > after]:
        job.checkpoint(later).unlink()


def load(job: Job, step: int) -> Checkpoint:
    """The one after this step. Raises DataError for a broken one, were it a single bit."""
    path = job.checkpoint(step)
    try:
        if not _is_whole(path):
            raise DataError(f"{path} is corrupted: it is not what was written; delete it and run `ddpo train` again")
        found = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise DdpoError(f"{path} cannot be read: {error.strerror}") from error
    except (UnpicklingError, TypeError) as error:  # whole, and not written here
        raise DataError(
            f"{path} holds more than tensors and is not read; delete it and run `ddpo train` again"
        ) from error
    if (found.made_from, found.step) != (job.made_from, step):
        raise DataError(f"{path} is of another training; delete it and run `ddpo train` again")
    return found


def cut(run: Run, path: Path, step: int) -> None:
    """Takes the rows off a log that are of steps from this one on, which are done again, and the line that a kill cut short."""
    there = path.read_text() if path.exists() else ""
    kept = "".join(json.dumps(row) + "\n" for row in _before(there, step))
    if there != kept:
        run.write_text(path, kept)


def history(path: Path, step: int) -> list[dict[str, Any]]:
    """The rows of a log up to this step."""
    return _before(path.read_text(), step) if path.exists() else []


def _before(log: str, step: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line in log.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if row["step"] >= step:
            break
        rows.append(row)
    return rows


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint ends with the sum of what comes before."""
    size = hashlib.sha256().digest_size
    if path.stat().st_size <= size:
        return False
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as pages, memoryview(pages) as data:
        return hashlib.sha256(data[:-size]).digest() == data[-size:]
