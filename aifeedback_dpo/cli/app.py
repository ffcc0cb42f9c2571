"""`ddpo`: the commands, in the order in which they are used."""

from importlib import metadata
from typing import Annotated

import typer

from aifeedback_dpo.cli import (
    annotate,
    compare,
    demo,
    doctor,
    export,
    generate,
    import_,
    label,
    recipes,
    scorers,
    status,
    study,
    train,
    verify,
)

app = typer.Typer(
    name="ddpo",
    help="Can AI feedback replace human feedback in aligning text-to-image diffusion models? Generate pairs, label them, "
    "train Diffusion-DPO on any judge's labels, and compare.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(rich_help_panel="The loop")(generate.generate)
app.command(rich_help_panel="The loop")(label.label)
app.command(rich_help_panel="The loop")(train.train)
app.command(rich_help_panel="The loop")(compare.compare)
app.command(rich_help_panel="The loop")(study.study)
app.command(rich_help_panel="People")(annotate.annotate)
app.command("import", rich_help_panel="People")(import_.import_)
app.command(rich_help_panel="People")(export.export)
app.command(rich_help_panel="Look around")(demo.demo)
app.command(rich_help_panel="Look around")(status.status)
app.command(rich_help_panel="Look around")(verify.verify)
app.command(rich_help_panel="Look around")(recipes.recipes)
app.command(rich_help_panel="Look around")(doctor.doctor)
app.add_typer(scorers.app, name="scorers", rich_help_panel="Look around")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("aifeedback_dpo"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before a command."""
