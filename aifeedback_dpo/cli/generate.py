"""ddpo generate"""

import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from aifeedback_dpo.cli import launch, options, places
from aifeedback_dpo.cli.options import DryRun, Json, Models, Overrides, Recipe, RunFolder
from aifeedback_dpo.cli.places import Engine, Shard, Workers

if TYPE_CHECKING:
    from aifeedback_dpo.generate import Plan
    from aifeedback_dpo.store import Run


@options.guarded
def generate(
    overrides: Overrides = None,
    model: Models = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    shard: Shard = None,
    engine: Engine = "local",
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Draw candidate images for each prompt and pair them up.

    With several models, each draws its share of every prompt's candidates; the first is the one that `ddpo train` trains.

    Stopped at any moment and run again, it goes on where it was and ends with the same images.

    Many machines may share the work and end with the same images too: docs/cluster.md.
    """
    from aifeedback_dpo import generate as stage
    from aifeedback_dpo.cli import processes
    from aifeedback_dpo.cli.progress import progress

    launch.end_with_launcher()
    chosen = places.chosen(shard, engine, workers, environment=os.environ)
    opened = options.open_run(run, recipe, [*options.model_overrides(model or []), *(overrides or [])])
    shown = progress()
    if chosen.why:
        shown.note(chosen.why)
    if dry_run:
        plan = _with_prompts(opened, stage.plan(opened))
    else:
        if chosen.processes > 1:
            stage.check(opened)
            processes.run(opened, "generate", [], chosen.processes, shown)
        plan = stage.generate(opened, shown, chosen.place)
    if json:
        options.emit({"run": str(opened.root), **asdict(plan)})
    elif dry_run:
        known = ", ".join(f"{name} at {revision[:12]}" for name, revision in plan.revisions.items())
        typer.echo(
            f"{opened.root}: {plan.images - plan.images_done} of {plan.images} images to draw ({plan.prompts} prompts), "
            f"{plan.pairs} pairs, about {_size(plan.disk_mb)}; model {known or 'not on this machine yet'}"
        )
        if plan.missing:
            typer.echo(plan.missing)
    elif left := plan.images - plan.images_done:
        typer.echo(
            f"{opened.root}: {left} of {plan.images} images are left to other shares; the last one makes the pairs"
        )
    else:
        typer.echo(f"{opened.root}: {plan.images} images of {plan.prompts} prompts, {plan.pairs} pairs")


def _with_prompts(run: "Run", plan: "Plan") -> "Plan":
    """The plan, which also tells of a set of prompts that is still on the hub."""
    from aifeedback_dpo import doctor, prompts

    dataset = doctor.hub_prompts(run.recipe) if plan.images_done == 0 else None
    if dataset is None or (plan.missing and dataset.id in plan.missing) or prompts.at_hand(run) is not None:
        return plan
    told = f"prompts of {dataset.id} are not on this machine: read from the hub as the run begins, or `{dataset.fetch}` before"
    return replace(plan, missing="; ".join(filter(None, (plan.missing, told))))


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes > 1000 else f"{megabytes:g} MB"
