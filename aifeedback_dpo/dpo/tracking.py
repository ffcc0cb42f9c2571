"""Experiment trackers, through accelerate. `metrics.jsonl` is written whatever is tracked.

    runs/shapes/trackers/       TensorBoard's event files, wandb's folder; trackio keeps its own place

A policy's metric is `<policy>, seed <n>/<metric>`, at the `step` that it has in `metrics.jsonl`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.store import Run

FOLDER = "trackers"


def usable(trackers: Sequence[str]) -> list[str] | None:
    """The trackers, all installed; None for none. Raises UserError for one that is not."""
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise UserError(
                f'train.trackers: {tracker} is not installed; pip install "aifeedback_dpo[{tracker}]", or leave it out '
                "(metrics.jsonl is always written)"
            )
    return list(trackers) or None


def start(accelerator: Accelerator, run: Run) -> None:
    """Opens the trackers that the accelerator was made with, as the project of the recipe's name, and tells them its settings.

    Raises UserError for one that will not start, such as wandb where nobody has logged in.
    """
    if not accelerator.log_with or not accelerator.is_main_process:
        return
    folder = run.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    names = ", ".join(map(str, accelerator.log_with))
    apart = {"wandb": {"dir": str(folder), "name": run.root.name}}
    try:
        with redirect_stdout(sys.stderr):  # trackio says hello on stdout, which is for data
            accelerator.init_trackers(run.recipe.name, config=_settings(run), init_kwargs=apart)
    except Exception as error:  # whatever a service or its client may raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"train.trackers: {names} cannot be started ({reason}); log in as it asks, or leave it out "
            "(metrics.jsonl is always written)"
        ) from error
    for tracker in accelerator.trackers:
        if tracker.name == "wandb":
            tracker.tracker.define_metric("*", step_metric="step")


def log(accelerator: Accelerator, name: str, row: Mapping[str, Any]) -> None:
    """A policy's row of metrics; a list is told element by element, `accuracy_by_depth_1` to `_4`."""
    values = {f"{name}/{key}": value for key, value in _numbers(row)}
    for tracker in accelerator.trackers:
        if tracker.name == "wandb":  # it drops what goes back to an earlier step of its own, as the next seed does
            tracker.log({**values, "step": row["step"]})
        else:
            tracker.log(values, step=row["step"])


def picture(accelerator: Accelerator, name: str, shown: Image.Image, done: int) -> None:
    """What a policy draws after `done` steps."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({name: np.asarray(shown)[None]}, step=done, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log({name: import_module("wandb").Image(shown), "step": done})
        elif tracker.name == "trackio":
            tracker.log({name: import_module("trackio").Image(shown)}, step=done)


def end(accelerator: Accelerator) -> None:
    """Closes the trackers, and the process group."""
    with redirect_stdout(sys.stderr):
        accelerator.end_training()


def _settings(run: Run) -> dict[str, Any]:
    """The recipe by dotted keys, as numbers and text; what is null is left out."""
    said = config.different({}, run.recipe.model_dump(mode="json"))
    return {key: value if isinstance(value, int | float | str) else str(value) for key, (_, value) in said.items()}


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        several = value if isinstance(value, list) else [value]
        for at, number in enumerate(several, start=1):
            if isinstance(number, float):
                yield (f"{key}_{at}" if isinstance(value, list) else key), number
