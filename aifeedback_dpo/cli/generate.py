"""ddpo generate"""

from dataclasses import asdict

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Models, Overrides, Recipe, RunFolder


@options.guarded
def generate(
    overrides: Overrides = None,
    model: Models = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Draw candidate images for each prompt and pair them up.

    With several models, each draws its share of every prompt's candidates; the first is the one that `ddpo train` trains.

    Stopped at any moment and run again, it goes on where it was and ends with the same images.
    """
    from aifeedback_dpo import generate as stage
    from aifeedback_dpo.cli.progress import progress

    opened = options.open_run(run, recipe, [*options.model_overrides(model or []), *(overrides or [])])
    plan = stage.plan(opened) if dry_run else stage.generate(opened, progress())
    if json:
        options.emit({"run": str(opened.root), **asdict(plan)})
    elif dry_run:
        known = ", ".join(f"{name} at {revision[:12]}" for name, revision in plan.revisions.items())
        typer.echo(
            f"{opened.root}: {plan.images - plan.images_done} of {plan.images} images to draw ({plan.prompts} prompts), "
            f"{plan.pairs} pairs, about {plan.disk_mb:g} MB; model {known or 'not on this machine yet'}"
        )
        if plan.missing:
            typer.echo(plan.missing)
    else:
        typer.echo(f"{opened.root}: {plan.images} images of {plan.prompts} prompts, {plan.pairs} pairs")
