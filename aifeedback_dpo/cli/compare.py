"""ddpo compare"""

from typing import Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Recipe, RunFolder

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[POLICY vs POLICY] [KEY=VALUE]...",
        help="Two policies by their judge, as in human vs ai, and by train.name where they have one, as in human vs human+sft. "
        "\\[default: human vs ai]",
        show_default=False,
    ),
]


@options.guarded
def compare(
    names: Names = None, recipe: Recipe = None, run: RunFolder = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Compare two policies on held-out prompts, and the labels that they were trained on.

    Writes report/report.json and report/index.html in the run.
    """
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.compare import policies
    from aifeedback_dpo.compare import run as stage

    meant = [name for name in names or [] if "=" not in name and name != "vs"]
    opened = options.open_run(run, recipe, [name for name in names or [] if "=" in name])
    first, second = policies.two_policies(opened, meant or ["human", "ai"])
    if dry_run:
        plan = stage.plan(opened, first, second)
        if json:
            options.emit(plan)
        else:
            typer.echo(
                f"{plan['images_to_draw']} of {plan['images']} images to draw, {plan['prompts']} held-out prompts, "
                f"policies {', '.join(plan['policies'])}"
            )
        return
    report = stage.compare(opened, first, second, progress())
    if json:
        options.emit(report)
    else:
        for sentence in report["headline"]:
            typer.echo(sentence)
        typer.echo(f"Report: {opened.report / 'index.html'}")
