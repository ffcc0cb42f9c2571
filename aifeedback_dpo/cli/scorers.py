"""ddpo scorers, and ddpo scorers check"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json, Recipe, RunFolder

if TYPE_CHECKING:
    from aifeedback_dpo.settings import ScorerWeights

app = typer.Typer(invoke_without_command=True)

COLUMNS = ("licence", "size", "range", "preference", "accuracy", "about")
Name = Annotated[str, typer.Argument(metavar="SCORER", help="A scorer by name.")]


@app.callback()
@options.guarded
def scorers(context: typer.Context, json: Json = False) -> None:
    """List the scorers, their published weights, and whether those are on this machine.

    `ddpo scorers check NAME` runs fixed inputs through one of them and compares with fixed values.
    """
    if context.invoked_subcommand is not None:
        return
    from aifeedback_dpo.scorers.catalogue import CATALOGUE

    listed = {name: _described(name) for name in CATALOGUE}
    if json:
        options.emit(listed)
    elif sys.stdout.isatty():
        _table(listed)
    else:
        typer.echo("\t".join(("scorer", "state", "weights", *COLUMNS)))
        for name, entry in listed.items():
            state = "here" if entry["here"] else "absent"
            typer.echo("\t".join((name, state, _where(entry), *(entry[column] or "-" for column in COLUMNS))))


@app.command()
@options.guarded
def check(name: Name, recipe: Recipe = None, run: RunFolder = None, json: Json = False) -> None:
    """Run fixed pictures and prompts through a scorer and tell whether anything has drifted.

    Its weights are those of the recipe or the run, or else the published ones.
    Leaves with 3 where something drifted, with 4 where weights are missing; what needs none is checked all the same.
    """
    from aifeedback_dpo.cli.quiet import hush
    from aifeedback_dpo.errors import DataError, ModelMissing

    hush()
    weights = _weights(name, recipe, run)
    from aifeedback_dpo.scorers import drift

    lines, missing = drift.check(name, weights)
    if json:
        options.emit({"scorer": name, "checks": [asdict(line) for line in lines], "missing": missing})
    for line in () if json else lines:
        apart = "" if line.difference is None else f", largest difference {line.difference:.2g}"
        typer.echo(f"{line.what}: {line.reference}{apart}, {line.verdict}")
    if drifted := [line.what for line in lines if not line.holds]:
        raise DataError(f"{name} does not compute what it did: {', '.join(drifted)}. See which package was updated")
    if missing:
        raise ModelMissing(missing)


def _weights(name: str, recipe: str | None, run: Any) -> "ScorerWeights":
    from aifeedback_dpo import scorers as known
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.scorers.catalogue import CATALOGUE
    from aifeedback_dpo.settings import ScorerWeights

    opened = options.open_run(run, recipe, None) if recipe or run else None
    if opened and recipe is None and opened.saved() is None:
        raise UserError(f"{opened.root} is not a run; `ddpo generate` makes one")
    own = opened.recipe.label.scorers if opened else {}
    if name in own:
        return own[name]
    known.check(name)
    return CATALOGUE[name].weights if name in CATALOGUE else ScorerWeights(id="none", uses=name)


def _described(name: str) -> dict[str, Any]:
    from aifeedback_dpo.scorers import presence
    from aifeedback_dpo.scorers.catalogue import CATALOGUE

    entry = CATALOGUE[name]
    steps = presence.missing(name, entry.weights)
    facts = {key: value for key, value in asdict(entry).items() if key not in ("code", "weights")}
    base = entry.weights.base
    return facts | {
        "weights": entry.weights.id,
        "file": entry.weights.file,
        "base": base.id if base else None,
        "defines_preference": not entry.preference.startswith("not defined"),
        "here": not steps,
        "to_get": steps,
        "embedded": presence.is_embedded(name),
    }


def _where(entry: dict[str, Any]) -> str:
    return ", ".join(filter(None, (entry["weights"], entry["file"], entry["base"] and f"on {entry['base']}")))


def _table(listed: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, entry in listed.items():
        embedded = "; the embedded world has its own (id: shapes)" if entry["embedded"] else ""
        agrees = f". Agrees with people: {entry['accuracy']}" if entry["accuracy"] else ""
        state = "[green]here[/]" if entry["here"] else "[yellow]not here[/]"
        table.add_row(
            f"[bold]{name}[/]\n{state}",
            f"{entry['about']}\n[dim]{_where(entry)}, {entry['size']}, {entry['licence']}{embedded}\n"
            f"Score: {entry['range']}. Preference: {entry['preference']}{agrees}[/]",
        )
    Console().print(table)
