"""Trains a policy on each judge's preferences: the same pairs, timesteps, noises and initial adapter for all of them."""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from aifeedback_dpo import engine, models
from aifeedback_dpo.dpo import (
    cache,
    checkpoint,
    jobs,
    losses,
    outcome,
    sharding,
    stopping,
    tracking,
    validation,
)
from aifeedback_dpo.dpo.cache import Cache
from aifeedback_dpo.dpo.held_out import HeldOut
from aifeedback_dpo.dpo.jobs import Job, Plan
from aifeedback_dpo.dpo.loader import Loader
from aifeedback_dpo.dpo.loop import Group, Member
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.dpo.policy import Policy, learning_rate
from aifeedback_dpo.dpo.references import References
from aifeedback_dpo.dpo.stability import Watch
from aifeedback_dpo.dpo.step import Located
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings.training import REFERENCE_FREE, Train
from aifeedback_dpo.store import Run, read_policy

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
    groups = jobs.groups(planned, from_step=from_step)
    failures: list[str] = []
    if groups:
        accelerator = _accelerator(run)
        if not accelerator.is_main_process:
            progress = engine.Silent()
        tracking.start(accelerator, run)
        progress.note(f"Loading {run.recipe.model.id}")
        model = models.load(run.recipe.model)
        _check(model, settings)
        prepared = cache.prepare(
            run,
            model,
            planned.judged(),
            progress,
            share=(accelerator.process_index, accelerator.num_processes),
            ready=accelerator.wait_for_everyone,
        )
        try:
            with stopping.on_request(alone=accelerator.num_processes == 1) as stop:
                for left, (start, members) in zip(range(len(groups))[::-1], groups, strict=True):
                    failures += _train_group(run, planned, members, start, model, prepared, accelerator, progress, stop)
                    accelerator.wait_for_everyone()
                    if left and stop():
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            progress.note(_kept(planned.jobs, settings))
            raise
        (failures,) = broadcast_object_list([failures])  # the main process knows of all
        tracking.end(accelerator)
    for job in planned.jobs:
        if job.done:
            shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    if failures:
        raise DdpoError("; ".join(failures))
    return [read_policy(job.folder) for job in planned.jobs]


def _kept(jobs: Sequence[Job], settings: Train) -> str:
    """What a training that is stopped now goes on from."""
    left = [job for job in jobs if not job.done]
    steps = {job.checkpoints()[-1] if job.checkpoints() else 0 for job in left}
    if len(steps) == 1 and (step := steps.pop()):
        return f"Saved up to step {step} of {settings.steps}"
    saved = ", ".join(f"{job.name} up to step {job.checkpoints()[-1]}" for job in left if job.checkpoints())
    return f"Saved: {saved or 'no step yet'}; train.checkpoint_steps={settings.checkpoint_steps} is when it saves"


def _check(model: Diffuser, settings: Train) -> None:
    """Raises UserError, before anything is encoded, for settings that do not go with this model."""
    model.schedule.times(settings.timesteps, settings.shift, (64, 64))
    if settings.method == "lora":
        model.lora_modules(settings.modules)


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
            project_dir=run.root / tracking.FOLDER,
        )
    except ValueError as error:
        raise UserError(f"train.precision={settings.precision} is not possible here: {error}") from error
    if settings.precision == "float16" and accelerator.device.type == "cpu":
        raise UserError("train.precision=float16 needs a GPU; take bfloat16 or float32")  # accelerate would use float32
    jobs.check(settings, processes=accelerator.num_processes, sharded=_reshards(accelerator) is not None)
    return accelerator


def _reshards(accelerator: Accelerator) -> bool | None:
    """How the weights are sharded, as `sharding.reshards` says it; one process has all of them."""
    return sharding.reshards(os.environ) if accelerator.num_processes > 1 else None


def _train_group(
    run: Run,
    planned: Plan,
    members: list[Job],
    start: int,
    model: Diffuser,
    prepared: Cache,
    accelerator: Accelerator,
    progress: engine.Progress,
    stop: Callable[[], bool],
) -> list[str]:
    """Trains the policies of a group and keeps those that went well; gives what to say of the others."""
    settings, seed = run.recipe.train, derive(members[0].seed, "train")
    loader = Loader(
        schedule=model.schedule,
        cache=prepared,
        located=_locate(planned.pairs, planned.heard, prepared),
        jobs=members,
        decided=planned.decided(members),
        settings=settings,
        seed=seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        sharded=_reshards(accelerator) is not None,
    )
    references = _references(run, planned, model, seed, writes=accelerator.is_main_process)
    with ExitStack() as stack:
        stack.enter_context(model.placed())
        asked = bool(planned.held_out.num_rows) or (references is not None and loader.needs(references, start))
        network = Network(
            model, settings, accelerator, policies=len(members), seed=seed, asked=asked, reshard=_reshards(accelerator)
        )
        stack.callback(network.close)
        running = []
        for at, job in enumerate(members):
            policy = Policy(job, settings, network.trained[at], at=at)
            history = _begin(run, job, policy, start, accelerator)
            log = stack.enter_context((job.folder / "metrics.jsonl").open("a"))
            running.append(Member(policy, Watch(settings, history), log, history[-1] if history else None))
        held_out = None
        if planned.held_out.num_rows:
            there = _locate(planned.held_out, planned.held_out_heard, prepared)
            held_out = HeldOut(
                model.schedule,
                prepared,
                there,
                members,
                settings=settings,
                accelerator=accelerator,
                run_seed=run.recipe.seed,
            )
        gallery = validation.Gallery(run, model, accelerator, together=network.sharded)
        group = Group(
            run=run,
            settings=settings,
            network=network,
            members=running,
            loader=loader,
            references=references,
            held_out=held_out,
            accelerator=accelerator,
            show=gallery.show,
            stop=stop,
        )
        name = f"{', '.join(job.title for job in members)}; seed {members[0].seed}"
        progress.note(_said(name, settings, planned, prepared, start, accelerator))
        gallery.show(group, start)
        with progress.task(f"Training on {name}", settings.steps, start) as bar:
            group.train(start, bar)
        failures: list[str] = []
        writes = accelerator.is_main_process
        for member in running if writes or network.sharded else ():
            if not member.failed:
                elements = math.prod(prepared.shape)
                failures += outcome.finish(run, member, network, model, progress, elements=elements, writes=writes)
            elif writes:
                failures.append(outcome.stop(run, member))
    return failures


def _begin(run: Run, job: Job, policy: Policy, start: int, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Puts a policy where it goes on from, on a clean folder where that is the start; gives the steps it has made."""
    if start:
        policy.restore(checkpoint.load(job, start).state)
    if accelerator.is_main_process:
        if not start:
            shutil.rmtree(job.folder, ignore_errors=True)
            run.write_text(job.folder / "inputs.json", json.dumps(job.inputs, indent=2) + "\n")
        (job.folder / "stopped.txt").unlink(missing_ok=True)
        checkpoint.drop(job, after=start)
        for log in ("metrics.jsonl", "speed.jsonl"):
            checkpoint.cut(run, job.folder / log, start)
        run.record(f"train/{job.policy}/seed-{job.seed}", "running", made_from=job.made_from)
    accelerator.wait_for_everyone()
    return checkpoint.history(job.folder / "metrics.jsonl", start)


def _locate(pairs: pa.Table, needed: npt.NDArray[np.bool_], prepared: Cache) -> Located:
    """Where these pairs are in the cache; -1 for those that are not needed and may not be there."""
    some = jobs.only(pairs, needed)
    prompts, images = np.full(len(needed), -1), np.full((2, len(needed)), -1)
    prompts[needed] = prepared.prompts(some.column("prompt_id"))
    for side, column in enumerate(("image_a", "image_b")):
        images[side, needed] = prepared.images(some.column(column))
    return Located(pairs.column("pair_id"), prompts, images)


def _references(run: Run, planned: Plan, model: Diffuser, seed: int, *, writes: bool) -> References | None:
    settings = run.recipe.train
    if settings.objective in REFERENCE_FREE:
        return None
    epochs = -(-settings.steps * settings.batch_size // planned.pairs.num_rows)
    told = (settings.method, settings.precision, settings.resolution, settings.timesteps, settings.shift)
    rounded = (settings.compile, settings.channels_last)  # otherwise, in a low precision
    how = (*told, *rounded, settings.guidance, settings.caption_dropout, settings.flip, model.dtype, seed)
    made_by = (model.identity.revision, *map(str, how))
    return References(
        run, planned.pairs.column("pair_id"), min(settings.draws or epochs, epochs), made_by=made_by, writes=writes
    )


def _said(name: str, settings: Train, planned: Plan, prepared: Cache, start: int, accelerator: Accelerator) -> str:
    """What is about to be trained: steps, batch, rate and beta, each as it counts."""
    pairs, processes = planned.pairs.num_rows, accelerator.num_processes
    share = settings.batch_size // processes
    micro = settings.micro_batch_size or share
    epochs = settings.steps * settings.batch_size / pairs
    rate = f"{learning_rate(settings):g}"
    if settings.scale_learning_rate:
        rate += f" ({settings.learning_rate:g} x {settings.batch_size})"
    strength = "" if settings.objective == "sft" else f"; beta {settings.beta:g}"
    if settings.objective not in REFERENCE_FREE:
        strength += f" ({losses.summed_beta(settings.beta, math.prod(prepared.shape)):.3g} as Eq. 14 counts it)"
    if settings.warmup >= settings.steps:
        rate += f", which train.warmup={settings.warmup} does not let it reach"
    where = accelerator.device.type + (", sharded" if _reshards(accelerator) is not None else "")
    kept = f" ({planned.held_out.num_rows} more are held out)" if planned.held_out.num_rows else ""
    begun = f", going on after step {start}" if start else ""
    return (
        f"{name}: {settings.objective}, {settings.steps} steps of {settings.batch_size} pairs = {processes} "
        f"process{'es' * (processes > 1)} x {share // micro} x {micro} on {where}, {epochs:.1f} epochs of {pairs} "
        f"pairs{kept}; learning rate {rate}{strength}{begun}"
    )
