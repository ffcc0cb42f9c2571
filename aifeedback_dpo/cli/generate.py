"""ddpo generate"""

from dataclasses import asdict

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Overrides, Recipe, RunFolder


@options.guarded
def generate(
    overrides: Overrides = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Draw candidate images for each prompt and pair them up.

    Stopped at any moment and run again, it goes on where it was and ends with the same images.
    """
    from aifeedback_dpo import generate as stage
    from aifeedback_dpo.cli.progress import progress

    opened = options.open_run(run, recipe, overrides)
    plan = stage.plan(opened) if dry_run else stage.generate(opened, progress())
    if json:
        options.emit({"run": str(opened.root), **asdict(plan)})
    elif dry_run:
        typer.echo(
            f"{opened.root}: {plan.images - plan.images_done} of {plan.images} images to draw ({plan.prompts} prompts), "
            f"{plan.pairs} pairs, about {plan.disk_mb:g} MB; model {plan.model} at {plan.revision[:12]}"
        )
    else:
        typer.echo(f"{opened.root}: {plan.images} images of {plan.prompts} prompts, {plan.pairs} pairs")
