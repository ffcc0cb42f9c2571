"""Where `ddpo generate` and `ddpo label` run: here, as one share of many, in several processes, or on Ray."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aifeedback_dpo.errors import UserError

if TYPE_CHECKING:
    from aifeedback_dpo.engine import Place

Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do share I (from 0) of N and leave the others to other machines. \\[default: all; in a Slurm array its task]",
        rich_help_panel="Many machines",
    ),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="Run here, or on Ray: on the cluster of RAY_ADDRESS, else on this machine.",
        rich_help_panel="Many machines",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="So many workers at once, each with a model of its own. \\[default: 1; on Ray one for each GPU]",
        rich_help_panel="Many machines",
    ),
]
ARRAY = "SLURM_ARRAY_TASK"
SLURM = (f"{ARRAY}_ID", f"{ARRAY}_COUNT")


@dataclass(frozen=True)
class Chosen:
    """The place, and how many processes are to be started here; `why` says what chose a share that was not asked for."""

    place: "Place"
    processes: int = 1
    why: str | None = None


def chosen(shard: str | None, engine: str, workers: int | None, *, environment: Mapping[str, str]) -> Chosen:
    """Raises UserError for options that contradict each other, and for what is no share."""
    from aifeedback_dpo.engine import Here, OnRay

    count = environment.get("SLURM_ARRAY_TASK_COUNT", "1")
    if count != "1" and (engine == "ray" or workers is not None):
        raise UserError(
            f"each of the {count} tasks of this Slurm array would start workers for all there is to do; leave --workers and "
            "--engine out, and each task is a share, or unset SLURM_ARRAY_TASK_COUNT"
        )
    if shard is not None and (engine == "ray" or workers is not None):
        other = "--engine ray" if engine == "ray" else f"--workers {workers}"
        raise UserError(f"--shard {shard} is the share of one process, and {other} starts several; leave one out")
    if engine == "ray":
        return Chosen(OnRay(workers))
    if shard is not None:
        return Chosen(Here(share(shard)))
    if workers is not None:
        return Chosen(Here(), workers)
    if all(name in environment for name in SLURM):
        found = _of_slurm(environment)
        return Chosen(Here(found), why=f"share {found[0]} of {found[1]}, as the Slurm array says")
    return Chosen(Here())


def share(text: str) -> tuple[int, int]:
    """Of `I/N`."""
    number, _, count = text.partition("/")
    if not (_is_number(number) and _is_number(count) and int(number) < int(count)):
        raise UserError(f"--shard {text} is no share; write I/N with I from 0 to N - 1, as in 0/4 and 3/4")
    return int(number), int(count)


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    """Of an array's task: they are numbered from the first to the last, in steps, and none is left out."""
    task, count = (environment[name] for name in SLURM)
    first, step = (environment.get(name, default) for name, default in ((f"{ARRAY}_MIN", "0"), (f"{ARRAY}_STEP", "1")))
    last = environment.get(f"{ARRAY}_MAX")
    known = [text for text in (task, count, first, step, last) if text is not None]
    if all(map(_is_number, known)) and int(count) and int(step):
        at, left = divmod(int(task) - int(first), int(step))
        whole = last is None or int(last) - int(first) == (int(count) - 1) * int(step)
        if whole and not left and 0 <= at < int(count):
            return at, int(count)
    raise UserError(
        f"SLURM_ARRAY_TASK_ID={task} of SLURM_ARRAY_TASK_COUNT={count}, the first being {first}, is no share; an array "
        "with gaps needs --shard I/N"
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None
