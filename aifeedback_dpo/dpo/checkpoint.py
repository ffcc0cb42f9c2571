"""A policy in training, on disk: what is trained, its optimizer, its rate, the step. Never the frozen base.

Draws and orders are counted and not drawn from a state, so this is all that a resumed run needs to end as a straight one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps of the job that `made_from` identifies."""

    made_from: str
    step: int
    state: dict[str, Any]


def save(run: Run, job: Job, step: int, state: dict[str, Any]) -> None:
    """Whole or not at all: a crash while it is written leaves the ones before."""
    made = Checkpoint(job.made_from, step, state)
    run.write(job.checkpoint(step), lambda file: torch.save(vars(made), file))


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
        with ZipFile(path) as records:
            if damaged := records.testzip():  # torch writes sums of what it saves, and does not look at them
                raise BadZipFile(f"{damaged} is not what was written")
        found = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (BadZipFile, OSError, RuntimeError, TypeError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is corrupted ({reason}); delete it and run `ddpo train` again") from error
    if (found.made_from, found.step) != (job.made_from, step):
        raise DataError(f"{path} is of another training; delete it and run `ddpo train` again")
    return found


def history(path: Path, step: int, *, cut: bool = True) -> list[dict[str, Any]]:
    """The rows of a log up to this step; later ones, of steps that are done again, are cut off in the file as well."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if row["step"] >= step:
            break
        rows.append(row)
    if cut:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows
