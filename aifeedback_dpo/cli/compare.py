"""ddpo compare"""

from pathlib import Path
from typing import Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Recipe, RunFolder

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[POLICY]... [KEY=VALUE]...",
        help="Policies by judge and train.name (human, ai, human+sft, base), by path (a run, a folder of its policies/, a "
        "LoRA's file, a pipeline) or by hub id; `vs` is read over. \\[default: human vs ai, and whoever else is trained]",
        show_default=False,
    ),
]
Judged = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        "-j",
        metavar="NAME",
        help="Compare these judges only; repeat for several. Without policies, judges alone.",
    ),
]
SuiteOption = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        metavar="NAME|FILE",
        help="Compare on these prompts: parti, hpsv2, pickapic, geneval, drawbench, coco (NAME=FILE|HUB-ID says where), a "
        "file with prompts, or held-out; repeat for several. \\[default: held-out]",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Take N prompts of each suite.")]
More = Annotated[
    list[str] | None,
    typer.Option("--scorer", "-s", metavar="NAME", help="Measure with this scorer as well; repeat for several."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where the report goes. \\[default: report/ in the run]"),
]


@options.guarded
def compare(
    names: Names = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    judge: Judged = None,
    suite: SuiteOption = None,
    limit: Limit = None,
    scorer: More = None,
    out: Out = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compare judges with judges and policies with policies: who agrees, who wins, by how much, how sure, on what.

    Each policy draws the same prompts from the same seeds; what was drawn or scored before is not again. Writes a report that
    opens from disk, with every number as JSON, CSV and LaTeX.
    """
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.compare import asked as planning

    meant = [name for name in names or [] if not options.is_override(name)]
    opened = options.open_run(run, recipe, [name for name in names or [] if options.is_override(name)])
    asked = planning.Asked(meant, judge or [], suite or [], scorer or [], limit)
    if dry_run:
        plan = planning.plan(opened, asked)
        if json:
            options.emit(plan)
        else:
            typer.echo(_told(plan))
        return
    from aifeedback_dpo.compare import run as stage

    result = stage.compare(opened, asked, progress(), out=out)
    if json:
        options.emit(result)
    else:
        for sentence in (*result["headline"], *result["cautions"]):
            typer.echo(sentence)
        typer.echo(f"Report: {(out or opened.report) / 'index.html'}")


def _told(plan: dict[str, object]) -> str:
    """The plan in a sentence."""
    sets, policies, judges = plan["sets"], plan["policies"], plan["judges"]
    assert isinstance(sets, dict) and isinstance(policies, list) and isinstance(judges, list)
    on = ", ".join(f"{count} prompts ({name})" for name, count in sets.items())
    drawn = f"{plan['images_to_draw']} of {plan['images']} images to draw, {on}, policies {', '.join(policies)}; "
    return f"{drawn if sets else ''}judges {', '.join(judges) or 'none'}"
