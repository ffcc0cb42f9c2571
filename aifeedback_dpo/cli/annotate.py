"""ddpo annotate"""

from pathlib import Path
from typing import Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Overrides, Recipe, RunFolder


@options.guarded
def annotate(
    overrides: Overrides = None,
    annotator: Annotated[
        list[str] | None,
        typer.Option(
            "--annotator", "-a", metavar="NAME", help="A person to invite; repeat for several, each with a link."
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=1, help="How many people see a pair. \\[default: 1, or 2 with --overlap-share]")
    ] = None,
    overlap_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="The share of pairs that so many people see. \\[default: 1]")
    ] = None,
    repeats: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="The share of a person's pairs that come back. \\[default: 0.05]"),
    ] = None,
    attention: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.5, help="The share of pairs with a spoiled picture, to see who looks. \\[default: 0]"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many pairs, drawn by seed. \\[default: all]")] = None,
    blur: Annotated[bool, typer.Option("--blur/--no-blur", help="Blur pictures until a key or click.")] = False,
    instructions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What people read first: Markdown or text.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any that is free.")] = 8008,
    browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the first link here. \\[default: at a terminal]")
    ] = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    report: Annotated[bool, typer.Option("--report", help="Say how people agree, and serve nothing.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let people vote on the pairs, on a web page of this machine.

    Every vote is kept the moment it is given; Ctrl-C ends, the same command goes on.
    The votes become judge human, which `ddpo train` and `ddpo compare` take like any other.
    """
    from aifeedback_dpo.cli import voting

    opened = options.open_run(run, recipe, overrides)
    if report:
        voting.report(opened, json)
        return
    asked = voting.Asked(annotator or [], overlap, overlap_share, repeats, attention, limit, blur, instructions)
    if dry_run:
        voting.plan(opened, asked, json)
    else:
        voting.serve(opened, asked, host, port, browser)
