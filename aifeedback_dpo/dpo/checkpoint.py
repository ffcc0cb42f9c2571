"""A policy in training, on disk: what is trained, the optimizer, the rate, the step. Never the frozen base.

Draws and orders are counted and not drawn from a state, so this is all that a resumed run needs to end as a straight one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run

FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps of the job that `made_from` identifies."""

    made_from: str
    step: int
    state: dict[str, Any]


def save(run: Run, folder: Path, checkpoint: Checkpoint) -> None:
    """Whole or not at all: a crash while it is written leaves the one before."""
    run.write(folder / FILE, lambda file: torch.save(vars(checkpoint), file))


def load(folder: Path, made_from: str) -> Checkpoint | None:
    """The last one of this very job; None where there is none, or one of another job. Raises DataError for a broken one."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is corrupted ({reason}); delete {folder} and run `ddpo train` again") from error
    return found if found.made_from == made_from else None


def metrics(path: Path, step: int) -> list[dict[str, float]]:
    """The rows of a metrics file up to this step; later ones, of steps that are done again, are cut off."""
    if not path.exists():
        return []
    rows: list[dict[str, float]] = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if row["step"] >= step:
            break
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows
