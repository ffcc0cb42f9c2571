"""ddpo train"""

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Judges, Overrides, Recipe, RunFolder


@options.guarded
def train(
    overrides: Overrides = None,
    judge: Judges = None,
    recipe: Recipe = None,
    run: RunFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a policy on each judge's preferences with Diffusion-DPO.

    All judges get the same pairs, timesteps and noises. A policy that is finished is not trained again.
    """
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.dpo import jobs as planning

    opened = options.open_run(run, recipe, overrides)
    jobs = planning.plan(opened, judge or [])  # what is wrong is told before torch is loaded
    if dry_run:
        planned = [
            {"judge": job.judge, "seed": job.seed, "pairs": len(job.pairs), "ties": job.ties, "done": job.done}
            for job in jobs
        ]
        if json:
            options.emit({"run": str(opened.root), "policies": planned})
        for job in [] if json else jobs:
            state = (
                "done" if job.done else f"{opened.recipe.train.steps} steps of {opened.recipe.train.batch_size} pairs"
            )
            typer.echo(f"{job.name}: {len(job.pairs)} decided pairs, {job.ties} ties left out; {state}")
        return
    from aifeedback_dpo.dpo import train as stage

    policies = stage.train(opened, judge or [], progress())
    if json:
        options.emit({"run": str(opened.root), "policies": policies})
    for policy in [] if json else policies:
        last = policy["last"]
        typer.echo(
            f"{opened.recipe.title(policy['judge'])}, seed {policy['seed']}: {policy['pairs']} pairs, loss {last['loss']:.3f}, "
            f"implicit accuracy {last['implicit_accuracy']:.2f}, beta {policy['beta']:g} "
            f"({policy['beta_of_equation_14']:.3g} as Eq. 14 counts it)"
        )
