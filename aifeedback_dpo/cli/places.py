"""Where `ddpo generate` and `ddpo label` run: here, as one share of many, in several processes, or on Ray."""

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
SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Chosen:
    """The place, and how many processes are to be started here; `why` says what chose a share that was not asked for."""

    place: "Place"
    processes: int = 1
    why: str | None = None


def chosen(shard: str | None, engine: str, workers: int | None, *, environment: Mapping[str, str]) -> Chosen:
    """Raises UserError for options that contradict each other, and for what is no share."""
    from aifeedback_dpo.engine import Here, OnRay

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
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise UserError(f"--shard {text} is no share; write I/N with I from 0 to N - 1, as in 0/4 and 3/4")
    return int(number), int(count)


def _of_slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    task, count = (environment[name] for name in SLURM)
    first, step = (
        environment.get(f"SLURM_ARRAY_TASK_{name}", default) for name, default in (("MIN", "0"), ("STEP", "1"))
    )
    numbers = [int(text) if text.isdecimal() else -1 for text in (task, count, first, step)]
    at, of, start, every = numbers
    if min(numbers) < 0 or not every or (at - start) % every or not 0 <= (at - start) // every < of:
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={task} of SLURM_ARRAY_TASK_COUNT={count}, the first being {first}, is no share; an array "
            "with gaps needs --shard I/N"
        )
    return (at - start) // every, of
