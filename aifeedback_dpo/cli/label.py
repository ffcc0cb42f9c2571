"""ddpo label"""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from aifeedback_dpo.cli import launch, options, places
from aifeedback_dpo.cli.options import Consensus, DryRun, Json, Overrides, Recipe, RunFolder, Scorers
from aifeedback_dpo.cli.places import Engine, Shard, Workers

if TYPE_CHECKING:
    from aifeedback_dpo.label import Labels, Plan
    from aifeedback_dpo.store import Run


@options.guarded
def label(
    overrides: Overrides = None,
    scorer: Scorers = None,
    judge: Consensus = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    shard: Shard = None,
    engine: Engine = "local",
    workers: Workers = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Score the images and turn the scores into preferences.

    Any scorer of `ddpo scorers` may be asked for. One that the recipe does not list is added to this run's recipe, with the
    weights that its authors published.

    A random judge is always added as a control.
    In the embedded world the simulated raters vote on the same pairs, as judge human.
    """
    from aifeedback_dpo import label as stage
    from aifeedback_dpo.cli import processes
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.errors import DataError

    launch.end_with_launcher()
    chosen = places.chosen(shard, engine, workers, environment=os.environ)
    opened = options.open_run(run, recipe, overrides)
    names, judges = scorer or [], judge or []
    if dry_run:
        _foretell(opened, stage.plan(opened, names, judges), json=json)
        return
    shown = progress()
    if chosen.why:
        shown.note(chosen.why)
    if chosen.processes > 1:
        stage.check(opened, names, judges)
        told = [*(f"--scorer={name}" for name in names), *(f"--judge={name}" for name in judges)]
        processes.run(opened, "label", told, chosen.processes, shown)
    labels = stage.label(opened, names, shown, judges, chosen.place)
    if json:
        options.emit({"run": str(opened.root), **asdict(labels)})
    else:
        _tell(opened, labels)
    if labels.unreadable:
        listed = ", ".join(f"{found.image_id} ({found.reason})" for found in labels.unreadable[:5])
        raise DataError(f"{len(labels.unreadable)} images cannot be read and were left unscored: {listed}")


def _foretell(run: "Run", plan: "Plan", *, json: bool) -> None:
    """What would be scored."""
    if json:
        options.emit({"run": str(run.root), **asdict(plan)})
        return
    for name, done in plan.scored.items():
        kept = f"; {done} have a score, if its weights are as they were" if done else ""
        typer.echo(f"{name}: {plan.images - done} of {plan.images} images to score{kept}")
    for name, done in plan.answered.items():
        typer.echo(f"{name}: {plan.pairs - done} of {plan.pairs} pairs to ask about")
    typer.echo(f"{plan.pairs} pairs for the judges {', '.join(plan.judges)}")


def _tell(run: "Run", labels: "Labels") -> None:
    """What each judge made of the pairs."""
    from aifeedback_dpo.records import CONSENSUS

    for judged in labels.judged:
        missing = f", {judged.missing} missing" if judged.missing else ""
        missing += f" ({judged.why_missing})" if judged.why_missing else ""
        missing += f"; {judged.rule}" if judged.judge == CONSENSUS else ""
        sides = f"{judged.prefers_a} prefer a, {judged.prefers_b} prefer b, {judged.ties} ties"
        typer.echo(f"{run.recipe.title(judged.judge)}: {sides}{missing}")
    if labels.left:
        typer.echo(f"{run.root}: {labels.left} scores are left to other shares; the last one makes the preferences")
