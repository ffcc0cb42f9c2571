"""ddpo recipes"""

import sys
from typing import Annotated, Any

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="Print the YAML of this one, to copy and change.",
        autocompletion=options.complete_recipe,
        show_default=False,
    ),
]


@options.guarded
def recipes(name: Name = None, json: Json = False) -> None:
    """List the recipes that ship with the package, or print one of them."""
    from aifeedback_dpo import config

    if name is not None:
        text = config.source(name)
        if json:
            options.emit(config.load(name).model_dump(mode="json"))
        else:
            typer.echo(text, nl=False)
        return
    found = {known: _described(known) for known in config.names()}
    if json:
        options.emit(found)
    elif sys.stdout.isatty():
        _table(found)
    else:
        for known, entry in found.items():
            typer.echo(f"{known:24} {entry['model']:50} {entry['about']}")


def _described(name: str) -> dict[str, Any]:
    from aifeedback_dpo import config

    recipe = config.load(name)
    opening = [line.removeprefix("# ") for line in config.source(name).splitlines() if line.startswith("# ddpo ")]
    return {
        "about": recipe.about,
        "model": recipe.model.id,
        "pool": [drawer.id for drawer in recipe.generate.pool],
        "prompts": recipe.prompts.source,
        "scorers": list(recipe.label.scorers),
        "judges": list(recipe.train.judges),
        "method": recipe.train.method,
        "commands": opening,
    }


def _table(found: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, entry in found.items():
        table.add_row(f"[bold]{name}[/]", f"{entry['about']}\n[dim]{entry['model']}, {entry['method']}[/]")
    Console().print(table)
    typer.echo("\n`ddpo recipes NAME` prints one, `ddpo generate --recipe NAME` begins with it.")
