"""ddpo study"""

from typing import Annotated, Any

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Overrides, RunFolder
from aifeedback_dpo.errors import DdpoError


@options.guarded
def study(
    overrides: Overrides = None,
    recipe: Annotated[str | None, options.recipe_option("human-vs-ai")] = None,
    run: RunFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Answer the question whole: labels of people and of AI, on pictures of several sources, with controls, in one report.

    Makes a run for each image source of the recipe (generate or import, label, train), then compares all policies on the first
    one's held-out prompts. Stopped at any moment and run again, it goes on where it was.
    """
    from aifeedback_dpo import study as stage
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.cli.quiet import hush

    hush()
    opened = stage.open_study(run, recipe, overrides or [])
    rows = stage.plan(opened)
    if dry_run:
        missing = stage.missing(opened)
        if json:
            options.emit({"run": str(opened.root), "plan": rows, "missing": missing})
        else:
            _show(rows)
            for step in missing:
                typer.echo(f"missing: {step}")
        return
    stage.check(opened)
    if not json:
        _show(rows)
    stopped = stage.make(opened, progress())
    from aifeedback_dpo.compare import run as comparing
    from aifeedback_dpo.compare.asked import Asked

    asked = Asked(stage.compared(opened))
    result = comparing.compare(opened.arms[0].run, asked, progress(), out=opened.report)
    if json:
        options.emit(result)
    else:
        for sentence in (*result["headline"], *result["cautions"]):
            typer.echo(sentence)
        typer.echo(f"Report: {opened.report / 'index.html'}")
    if stopped:
        raise DdpoError(f"the report is without policies that had to be stopped: {'; '.join(stopped)}")
    stage.finish(opened)


def _show(rows: list[dict[str, Any]]) -> None:
    """The plan, a line a stage."""
    for row in rows:
        far = "" if row["of"] == 0 else f"{row['done']} of {row['of']}" if row["of"] else f"{row['done']} so far"
        typer.echo(f"{row['images']:12} {row['stage']:9} {row['what']}{': ' if far else ''}{far}")
