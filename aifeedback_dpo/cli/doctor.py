"""ddpo doctor"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json

if TYPE_CHECKING:
    from aifeedback_dpo.doctor import Machine, Needs

One = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        metavar="NAME|PATH",
        help="Tell of this recipe alone. \\[default: all that ship]",
        autocompletion=options.complete_recipe,
    ),
]


@options.guarded
def doctor(recipe: One = None, json: Json = False) -> None:
    """Say what this machine can run: versions, memory, disk, the hub, and what each recipe, or the one named, lacks."""
    from aifeedback_dpo import config, doctor
    from aifeedback_dpo.cli.quiet import hush

    hush()
    here = doctor.machine()
    needs = [doctor.needs(name, here) for name in ([recipe] if recipe else config.names())]
    if json:
        options.emit({"machine": asdict(here), "recipes": [asdict(need) for need in needs]})
        return
    for line in _machine(here):
        typer.echo(line)
    typer.echo(
        "\nMemory for weights, gradients and optimizer, computed from parameter counts; activations come on top."
    )
    rows = [(need.recipe, _memory(need, here), _missing(need)) for need in needs]
    if sys.stdout.isatty():
        _table(rows)
    else:
        for name, memory, missing in rows:
            typer.echo(f"{name:24} {memory:34} {missing}")
    if fetch := list(dict.fromkeys(command for need in needs for command in need.fetch)):
        typer.echo(
            "\nA run fetches what it lacks, of a set of prompts the prompts alone. To fetch it beforehand, or "
            "on a machine that reaches the hub:"
        )
        for command in fetch:
            typer.echo(f"  {command}")


def _machine(here: "Machine") -> list[str]:
    versions = ", ".join(f"{name} {version or 'MISSING'}" for name, version in here.packages.items())
    runs_on = f"{here.cores} CPU cores, no GPU that torch can use"
    if here.gpu:
        half = "bfloat16" if here.bfloat16 else "no bfloat16"
        many = f"{here.gpus} x " if here.gpus > 1 else ""
        runs_on = f"{many}{here.gpu}, {here.gpu_gb:g} GB, {half}; {here.cores} CPU cores"
    memory = "unknown" if here.memory_gb is None else f"{here.memory_gb:g} GB"
    disk = ", ".join(f"{free:g} GB free at {folder}" for folder, free in here.disk_free_gb.items())
    extras = ", ".join(f"{name} {'installed' if there else 'not installed'}" for name, there in here.extras.items())
    return [
        f"Python {here.python}, {versions}",
        f"Device: {runs_on}",
        f"Memory: {memory}",
        f"Disk: {disk}",
        f"Hub: {here.hub}, {'logged in' if here.logged_in else 'not logged in (gated models need `hf auth login`)'}",
        f"Extras: {extras}",
    ]


def _memory(need: "Needs", here: "Machine") -> str:
    if need.memory_gb is None:
        return "unknown"
    verdict = {True: "fits", False: "does not fit", None: "unknown here"}[need.enough]
    slow = ", slow without a GPU" if need.enough and need.memory_gb >= 1 and not here.gpu else ""
    return f"{need.memory_gb:g} GB, {verdict}{slow}"


def _missing(need: "Needs") -> str:
    lacks = [*need.missing, *([f"prompts of {need.hub_prompts}"] if need.hub_prompts else [])]
    return f"not here: {', '.join(lacks)}" if lacks else "all here"


def _table(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, memory, missing in rows:
        colour = "green" if memory.endswith("fits") else "yellow"
        table.add_row(f"[bold]{name}[/]", f"[{colour}]{memory}[/]", missing)
    Console().print(table)
