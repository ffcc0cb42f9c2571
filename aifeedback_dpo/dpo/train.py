"""Trains a policy on each judge's preferences: the same pairs, timesteps, noises and initial adapter for all of them."""

import json
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from aifeedback_dpo import engine, models, provenance
from aifeedback_dpo.dpo import cache, checkpoint, losses
from aifeedback_dpo.dpo.jobs import Job, plan
from aifeedback_dpo.dpo.policy import Policy
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings import Train
from aifeedback_dpo.store import Run, read_policy, sync

DRIFT_WINDOW = 50
DRIFT_LIMIT = 0.02


def train(run: Run, judges: Sequence[str], progress: engine.Progress) -> list[dict[str, Any]]:
    """Trains what is not trained yet; a policy is there whole or not at all. Gives the policies' descriptions."""
    jobs = plan(run, judges)
    left = [job for job in jobs if not job.done]
    for job in jobs:
        if job.done:
            (job.folder / checkpoint.FILE).unlink(missing_ok=True)  # of a kill right after it was finished
    if left:
        accelerator = _accelerator(run.recipe.train)
        progress.note(f"Loading {run.recipe.model.id}")
        model = models.load(run.recipe.model)
        _check(model, run.recipe.train)
        prepared = cache.prepare(run, model, progress)
        for job in left:
            run.record(f"train/{job.judge}/seed-{job.seed}", "running", made_from=job.made_from)
            _train_one(run, job, model, prepared, accelerator, progress)
            run.record(f"train/{job.judge}/seed-{job.seed}", "done", pairs=len(job.pairs), ties=job.ties)
    return [read_policy(job.folder) for job in jobs]


def _check(model: Diffuser, settings: Train) -> None:
    """Raises UserError, before anything is encoded, for settings that do not go with this model."""
    model.schedule.times(settings.timesteps, settings.shift, (64, 64))
    if settings.method == "lora":
        model.lora_modules(settings.modules)


def _accelerator(settings: Train) -> Accelerator:
    """Raises UserError for a precision that this machine, or an Accelerator made before, does not allow."""
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[settings.precision]
    try:
        accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.cuda.is_available())
    except ValueError as error:
        raise UserError(f"train.precision={settings.precision} is not possible here: {error}") from error
    if settings.precision == "float16" and accelerator.device.type == "cpu":
        raise UserError("train.precision=float16 needs a GPU; take bfloat16 or float32")  # accelerate would use float32
    if accelerator.num_processes > 1:
        raise UserError(f"started on {accelerator.num_processes} processes; `ddpo train` runs on one for now")
    return accelerator


def _train_one(
    run: Run,
    job: Job,
    model: Diffuser,
    prepared: cache.Cache,
    accelerator: Accelerator,
    progress: engine.Progress,
) -> None:
    settings = run.recipe.train
    partial = job.folder.with_name(f".{job.folder.name}.partial")
    begun = checkpoint.load(partial, job.made_from)
    if begun is None:
        shutil.rmtree(partial, ignore_errors=True)
    else:
        progress.note(f"{job.name}: going on after step {begun.step} of {settings.steps}")
    partial.mkdir(parents=True, exist_ok=True)
    original = model.denoiser
    with model.placed(model.family.DENOISER):
        policy = Policy(model, settings, accelerator, seed=derive(job.seed, "train"))
        try:
            with progress.task(f"Training on {job.name}", settings.steps, begun.step if begun else 0) as bar:
                history = policy.run(run, job, prepared, partial, begun, bar)
            warning = _winner_drift(history)
            if warning:
                progress.note(f"Warning, {job.name}: {warning}")
            try:
                policy.save(partial)
                sync(partial)
            except SafetensorError as error:
                raise DdpoError(
                    f"cannot write the policy to {partial}: {error}; make room and run `ddpo train` again"
                ) from error
        finally:
            policy.close(original)
    elements = prepared.latents[0].numel()
    description = {
        "judge": job.judge,
        "seed": job.seed,
        "method": settings.method,
        "pairs": len(job.pairs),
        "ties_left_out": job.ties,
        "beta": settings.beta,
        "beta_of_equation_14": losses.summed_beta(settings.beta, elements),
        "settings": settings.model_dump(mode="json", exclude={"judges", "seeds"}),
        "base": {"model": model.identity.name, "revision": model.identity.revision},
        "labels": run.labels(job.judge),
        "made_from": job.made_from,
        "last": {
            name: history[-1][name] for name in ("loss", "implicit_accuracy", "margin", "winner_drift", "loser_drift")
        },
        "warning": warning,
        **provenance.versions(),
    }
    run.write_text(partial / "policy.json", json.dumps(description, indent=2) + "\n")
    shutil.rmtree(job.folder, ignore_errors=True)
    partial.rename(job.folder)
    (job.folder / checkpoint.FILE).unlink(missing_ok=True)  # not before: a kill until here goes on from it


def _winner_drift(history: Sequence[dict[str, float]]) -> str | None:
    """A warning when, at the end, the policy denoises winners worse than the reference did by more than 2 %."""
    tail = history[-DRIFT_WINDOW:]
    error = sum(row["winner_error"] for row in tail)
    drift = sum(row["winner_drift"] for row in tail)
    share = drift / max(error - drift, 1e-12)
    if share <= DRIFT_LIMIT:
        return None
    return (
        f"the error on winners rose {100 * share:.1f} % above the reference's over the last {len(tail)} steps; the policy "
        "learns by running from losers. Try a larger train.beta, a smaller train.learning_rate or fewer train.steps"
    )
