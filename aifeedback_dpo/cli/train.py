"""ddpo train"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifeedback_dpo.cli import launch, options
from aifeedback_dpo.cli.launch import Launcher, NumProcesses
from aifeedback_dpo.cli.options import DryRun, Json, Judges, Recipe, RunFolder

if TYPE_CHECKING:
    from aifeedback_dpo.dpo.jobs import Job
    from aifeedback_dpo.store import Run

Values = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]... [-- ARGUMENT...]",
        help="Settings on top of the recipe, as in train.beta=1000; after -- arguments of `accelerate launch`.",
        show_default=False,
    ),
]
FromStep = Annotated[
    int | None,
    typer.Option(
        "--from-step",
        min=1,
        metavar="STEP",
        help="Go on from the checkpoint after this step, which must be there. \\[default: the last one, if any]",
    ),
]


@options.guarded
@launch.in_turn
def train(
    values: Values = None,
    judge: Judges = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    from_step: FromStep = None,
    num_processes: NumProcesses = None,
    launcher: Launcher = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a policy on each judge's preferences with Diffusion-DPO, or another objective of docs/objectives.md.

    LoRAs of all judges are trained at once: the same pairs, timesteps and noises, and one reference. A policy that is finished
    is not trained again; one that was stopped goes on from its last checkpoint.
    """
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.dpo import jobs

    launch.end_with_launcher()
    overrides, passed_on = launch.split(values or [])
    asked = launch.asked(num_processes, launcher, passed_on, place=os.environ)
    opened = options.open_run(run, recipe, overrides)
    planned = jobs.plan(opened, judge or [])  # what is wrong is told before torch is loaded
    groups = jobs.groups(planned, from_step=from_step)
    launched = None
    if asked and groups:
        jobs.check(opened.recipe.train, processes=asked.number, sharded=asked.sharded)
        told = launch.command(opened, judge or [], from_step=from_step, json=json)
        launched = launch.arguments(asked, told)
    if dry_run:
        begun = {job.folder: step for step, members in groups for job in members}
        _foretell(opened, planned.jobs, begun, launched, json=json)
        return
    if asked and launched:
        opened.write_text(launch.recipe_file(opened), launch.resolved(opened))
        launch.launch(asked, launched)
        return
    from aifeedback_dpo.dpo import train as stage

    finished = [job for job in planned.jobs if job.done]
    policies = stage.train(opened, judge or [], progress(), from_step=from_step)
    if not launch.speaks():
        return
    if json:
        options.emit({"run": str(opened.root), "policies": policies})
    for job, policy in [] if json else zip(planned.jobs, policies, strict=True):
        typer.echo(f"{job.name}{' (finished before)' * (job in finished)}: {_told(policy)}")
    if not json:
        typer.echo(f"Policies: {opened.root / 'policies'}")


def _foretell(
    run: "Run", jobs: Sequence["Job"], begun: Mapping[Path, int], launched: Sequence[str] | None, *, json: bool
) -> None:
    """What would be trained, from which step on, and what would be launched."""
    if not launch.speaks():
        return
    line = shlex.join(["accelerate", "launch", *launched]) if launched else None
    if json:
        rows = [
            {
                "judge": job.judge,
                "seed": job.seed,
                "pairs": job.pairs,
                "ties": job.ties,
                "done": job.done,
                "from_step": begun.get(job.folder),
            }
            for job in jobs
        ]
        options.emit({"run": str(run.root), "policies": rows, "launch": line})
        return
    settings = run.recipe.train
    for job in jobs:
        left = f"steps {begun.get(job.folder)} to {settings.steps} of {settings.batch_size} pairs, {settings.objective}"
        typer.echo(f"{job.name}: {job.pairs} decided pairs, {job.ties} ties left out; {'done' if job.done else left}")
    if line:
        typer.echo(f"{line}\n(the recipe in that line is written when `ddpo train` launches it)")


def _told(policy: dict[str, Any]) -> str:
    """A finished policy in a line."""
    from aifeedback_dpo.settings.training import REFERENCE_FREE

    last = policy["last"]
    told = [f"{policy['objective']}, {policy['pairs']} pairs, loss {last['loss']:.3f}"]
    if "implicit_accuracy" in last:
        told.append(f"implicit accuracy {last['implicit_accuracy']:.2f}")
    if "held_out_accuracy" in last:
        told.append(f"on held-out pairs {last['held_out_accuracy']:.2f}")
    if policy["objective"] not in REFERENCE_FREE:
        told.append(f"beta {policy['beta']:g} ({policy['beta_of_equation_14']:.3g} as Eq. 14 counts it)")
    return ", ".join(told) + (f"; ended early after {policy['steps']} steps" if policy["ended_early"] else "")
