"""Trains a policy on each judge's preferences: the same pairs, timesteps, noises and initial adapter for all of them."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from safetensors import SafetensorError

from aifeedback_dpo import engine, models, provenance
from aifeedback_dpo.dpo import batches, cache, checkpoint, jobs, losses, tracking, validation
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.held_out import HeldOut
from aifeedback_dpo.dpo.jobs import Job, Plan
from aifeedback_dpo.dpo.loop import Group, Member
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.dpo.policy import Policy, learning_rate
from aifeedback_dpo.dpo.references import References
from aifeedback_dpo.dpo.stability import REMEDY, Watch
from aifeedback_dpo.dpo.step import Located
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings.training import REFERENCE_FREE, Train
from aifeedback_dpo.store import Run, read_policy, sync

PATIENCE = timedelta(hours=6)


def train(
    run: Run, judges: Sequence[str], progress: engine.Progress, *, from_step: int | None = None
) -> list[dict[str, Any]]:
    """Trains what is not trained yet; a policy is there whole or not at all. Gives the policies' descriptions.

    Raises UserError where `from_step` names a checkpoint that is not there, DdpoError, after all others are done, for a
    policy that had to be stopped.
    """
    settings = run.recipe.train
    planned = jobs.plan(run, judges)
    groups = jobs.groups(planned.jobs, together=settings.method == "lora", from_step=from_step)
    failures: list[str] = []
    if groups:
        accelerator = _accelerator(run)
        if not accelerator.is_main_process:
            progress = engine.Silent()
        progress.note(f"Loading {run.recipe.model.id}")
        model = models.load(run.recipe.model)
        _check(model, settings)
        prepared = cache.prepare(
            run,
            model,
            _all_pairs(planned),
            progress,
            share=(accelerator.process_index, accelerator.num_processes),
            ready=accelerator.wait_for_everyone,
        )
        for start, members in groups:
            failures += _train_group(run, planned, members, start, model, prepared, accelerator, progress)
            accelerator.wait_for_everyone()
        accelerator.end_training()
    for job in planned.jobs:
        if job.done:
            shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    if failures:
        raise DdpoError("; ".join(failures))
    return [read_policy(job.folder) for job in planned.jobs]


def _check(model: Diffuser, settings: Train) -> None:
    """Raises UserError, before anything is encoded, for settings that do not go with this model."""
    model.schedule.times(settings.timesteps, settings.shift, (64, 64))
    if settings.method == "lora":
        model.lora_modules(settings.modules)


def _all_pairs(planned: Plan) -> Any:
    import pyarrow as pa

    return pa.concat_tables([planned.pairs, planned.held_out])


def _accelerator(run: Run) -> Accelerator:
    """Raises UserError for a precision that this machine, or an Accelerator made before, does not allow."""
    settings = run.recipe.train
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[settings.precision]
    try:
        accelerator = Accelerator(
            mixed_precision=mixed,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            log_with=tracking.usable(settings.trackers),
            project_dir=run.root,
        )
    except ValueError as error:
        raise UserError(f"train.precision={settings.precision} is not possible here: {error}") from error
    if settings.precision == "float16" and accelerator.device.type == "cpu":
        raise UserError("train.precision=float16 needs a GPU; take bfloat16 or float32")  # accelerate would use float32
    share, left = divmod(settings.batch_size, accelerator.num_processes)
    if left or share % (settings.micro_batch_size or share):
        raise UserError(
            f"train.batch_size={settings.batch_size} does not divide among {accelerator.num_processes} processes in micro-"
            f"batches of {settings.micro_batch_size or share}; make it a multiple of their product"
        )
    return accelerator


def _train_group(
    run: Run,
    planned: Plan,
    members: list[Job],
    start: int,
    model: Diffuser,
    prepared: Cache,
    accelerator: Accelerator,
    progress: engine.Progress,
) -> list[str]:
    """Trains the policies of a group and keeps those that went well; gives what to say of the others."""
    settings, seed = run.recipe.train, derive(members[0].seed, "train")
    located = _locate(planned.pairs, prepared)
    references = _references(run, planned, model, seed) if settings.objective not in REFERENCE_FREE else None
    with ExitStack() as stack:
        stack.enter_context(model.placed(model.family.DENOISER))
        order = batches.schedule(
            located.pair_ids,
            size=settings.batch_size,
            steps=settings.steps,
            seed=seed,
            draws=settings.draws,
            start=start,
        )
        asked = bool(planned.held_out.num_rows) or not (references is None or all(map(references.complete, order)))
        network = Network(model, settings, accelerator, policies=len(members), seed=seed, asked=asked)
        stack.callback(network.close)
        running = []
        for at, job in enumerate(members):
            policy = Policy(job, settings, network.trained[at], at=at)
            history = _begin(run, job, policy, start, accelerator)
            log = stack.enter_context((job.folder / "metrics.jsonl").open("a"))
            running.append(Member(policy, Watch(settings, history), log, history[-1] if history else None))
        held_out = None
        if planned.held_out.num_rows:
            there = _locate(planned.held_out, prepared)
            held_out = HeldOut(
                model.schedule,
                prepared,
                there,
                members,
                settings=settings,
                accelerator=accelerator,
                run_seed=run.recipe.seed,
            )
        gallery = validation.Gallery(run, model, accelerator)
        group = Group(
            run=run,
            settings=settings,
            schedule=model.schedule,
            network=network,
            members=running,
            cache=prepared,
            located=located,
            references=references,
            held_out=held_out,
            accelerator=accelerator,
            seed=seed,
            show=gallery.show,
            track=accelerator.log,
        )
        name = f"{', '.join(job.title for job in members)}; seed {members[0].seed}"
        progress.note(_said(name, settings, planned, prepared, start, accelerator))
        if start == 0:
            gallery.show(group, 0)
        with progress.task(f"Training on {name}", settings.steps, start) as bar:
            group.train(start, bar)
        failures = [
            f"{member.job.name} was stopped at {member.failed}. {_rest(member)}" for member in running if member.failed
        ]
        if accelerator.is_main_process:
            for member in running:
                if not member.failed:
                    failures += _finish(run, member, network, model, prepared, progress)
    return failures


def _begin(run: Run, job: Job, policy: Policy, start: int, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Puts a policy where it goes on from, on a clean folder where that is the start; gives the steps it has made."""
    main = accelerator.is_main_process
    history: list[dict[str, Any]] = []
    if start:
        policy.restore(checkpoint.load(job, start).state)
    if main:
        if not start:
            shutil.rmtree(job.folder, ignore_errors=True)
            run.write_text(job.folder / "inputs.json", json.dumps(job.inputs, indent=2) + "\n")
        for later in [step for step in job.checkpoints() if step > start]:
            job.checkpoint(later).unlink()
        history = checkpoint.history(job.folder / "metrics.jsonl", start)
        checkpoint.history(job.folder / "speed.jsonl", start)
        run.record(f"train/{job.policy}/seed-{job.seed}", "running", made_from=job.made_from)
    accelerator.wait_for_everyone()
    if not main:
        history = checkpoint.history(job.folder / "metrics.jsonl", start, cut=False)
    return history


def _locate(pairs: Any, prepared: Cache) -> Located:
    import numpy as np

    return Located(
        pairs.column("pair_id"),
        prepared.prompts(pairs.column("prompt_id")),
        np.stack([prepared.images(pairs.column(side)) for side in ("image_a", "image_b")]),
    )


def _references(run: Run, planned: Plan, model: Diffuser, seed: int) -> References:
    settings = run.recipe.train
    epochs = -(-settings.steps * settings.batch_size // planned.pairs.num_rows)
    told = (settings.method, settings.precision, settings.resolution, settings.timesteps, settings.shift)
    how = (*told, settings.guidance, settings.caption_dropout, settings.flip, model.dtype, seed)
    made_by = (model.identity.revision, *map(str, how))
    return References(run, planned.pairs.column("pair_id"), min(settings.draws or epochs, epochs), made_by=made_by)


def _said(name: str, settings: Train, planned: Plan, prepared: Cache, start: int, accelerator: Accelerator) -> str:
    """What is about to be trained: steps, batch, rate and beta, each as it counts."""
    pairs, processes = planned.pairs.num_rows, accelerator.num_processes
    share = settings.batch_size // processes
    micro = settings.micro_batch_size or share
    epochs = settings.steps * settings.batch_size / pairs
    rate = f"{learning_rate(settings):g}"
    if settings.scale_learning_rate:
        rate += f" ({settings.learning_rate:g} x {settings.batch_size})"
    elements = prepared.shape[0] * prepared.shape[1] * prepared.shape[2]
    strength = f"beta {settings.beta:g}"
    if settings.objective not in REFERENCE_FREE:
        strength += f" ({losses.summed_beta(settings.beta, elements):.3g} as Eq. 14 counts it)"
    begun = f", going on after step {start}" if start else ""
    return (
        f"{name}: {settings.objective}, {settings.steps} steps of {settings.batch_size} pairs = {processes} "
        f"process{'es' * (processes > 1)} x {share // micro} x {micro}, {epochs:.1f} epochs of {pairs} pairs; "
        f"learning rate {rate}; {strength}{begun}"
    )


def _rest(member: Member) -> str:
    """What is left of a policy that was stopped, and what to try."""
    saved = member.job.checkpoints()
    kept = f"The state after step {saved[-1]} is kept in {member.job.folder}" if saved else "Nothing was saved"
    return f"{kept}. {REMEDY}"


def _finish(
    run: Run, member: Member, network: Network, model: Diffuser, prepared: Cache, progress: engine.Progress
) -> list[str]:
    """Saves a policy, its description last. Gives what to say of one that cannot be used."""
    settings, job, last = run.recipe.train, member.job, member.last
    if last is None:
        raise UserError(f"{job.name}: all pairs visited in train.steps={settings.steps} are ties; raise train.steps")
    if not member.policy.finite():
        return [f"the weights of {job.name} are not finite after step {last['step']}. {_rest(member)}"]
    if warning := member.watch.warning():
        progress.note(f"Warning, {job.name}: {warning}")
    if member.ended:
        progress.note(f"{job.name} ended early, after step {last['step']}: {member.ended}")
    member.policy.settle()
    try:
        network.save(member.policy.at, job.folder)
        sync(job.folder)
    except SafetensorError as error:
        raise DdpoError(
            f"cannot write the policy to {job.folder}: {error}; make room and run `ddpo train` again"
        ) from error
    elements = prepared.shape[0] * prepared.shape[1] * prepared.shape[2]
    description = {
        "judge": job.judge,
        "seed": job.seed,
        "objective": settings.objective,
        "method": settings.method,
        "pairs": job.pairs,
        "ties_left_out": job.ties,
        "beta": settings.beta,
        "beta_of_equation_14": losses.summed_beta(settings.beta, elements),
        "settings": settings.model_dump(mode="json", exclude={"judges", "seeds"}),
        "base": {"model": model.identity.name, "revision": model.identity.revision},
        "labels": run.labels(job.judge),
        "inputs": job.inputs,
        "made_from": job.made_from,
        "steps": last["step"] + 1,
        "ended_early": member.ended,
        "last": {name: value for name, value in last.items() if name != "step"},
        "warning": warning,
        **provenance.versions(),
    }
    run.write_text(job.folder / "policy.json", json.dumps(description, indent=2) + "\n")
    run.record(f"train/{job.policy}/seed-{job.seed}", "done", pairs=job.pairs, ties=job.ties)
    return []
