"""Trains a policy on each judge's preferences: the same pairs, timesteps, noises and initial adapter for all of them."""

import copy
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from safetensors import SafetensorError
from torch import Tensor
from transformers.optimization import Adafactor

from aifeedback_dpo import engine, models, provenance
from aifeedback_dpo.config import Train
from aifeedback_dpo.dpo import cache, checkpoint, losses, step
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.dpo.jobs import Job, plan
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run, read_policy, sync

DRIFT_WINDOW = 50
DRIFT_LIMIT = 0.02
REMEDY = "Try a smaller train.learning_rate, or train.precision=bfloat16 or float32"


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


class Policy:
    """The network in training, its frozen reference and its optimizer."""

    def __init__(self, model: Diffuser, settings: Train, accelerator: Accelerator, *, seed: int) -> None:
        self.model, self.settings, self.accelerator, self.seed = model, settings, accelerator, seed
        set_seed(seed % 2**32)
        if settings.method == "lora":
            network = model.lora(settings.rank, settings.modules)
        else:
            self.frozen = copy.deepcopy(model.denoiser).float()
            network = model.denoiser = copy.deepcopy(self.frozen).requires_grad_(True)
        if settings.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        self.dtype = model.dtype if settings.method == "lora" else torch.float32
        self.trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        if getattr(accelerator, "scaler", None):  # a fresh one: a policy does not depend on which was trained before it
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
        optimizer = _optimizer(settings, list(self.trained.values()))
        self.network, self.optimizer = accelerator.prepare(network, optimizer)
        schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
        self.rate = get_scheduler(
            schedule, optimizer, num_warmup_steps=settings.warmup, num_training_steps=settings.steps
        )

    def predict(self, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        """The policy's output."""
        return self._call(self.network, noisy, times, conditions)

    def reference(self, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        """The frozen model's: the same network with its adapter off, or the copy that full training keeps."""
        if self.settings.method == "full":
            with self.accelerator.autocast():
                return self._call(self.frozen, noisy, times, conditions)
        bare = self.accelerator.unwrap_model(self.network)
        bare.disable_adapters()
        try:
            return self.predict(noisy, times, conditions)
        finally:
            bare.enable_adapters()

    def _call(self, network: Any, noisy: Tensor, times: Tensor, conditions: Rows) -> Tensor:
        told = {name: rows.to(self.dtype) if rows.is_floating_point() else rows for name, rows in conditions.items()}
        return self.model.family.predict(network, noisy.to(self.dtype), times, told, guidance=self.settings.guidance)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        scaler = getattr(self.accelerator, "scaler", None)
        return {
            "trained": {name: value.detach().cpu() for name, value in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "rate": self.rate.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse."""
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rate.load_state_dict(state["rate"])
        if state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def run(
        self,
        run: Run,
        job: Job,
        prepared: cache.Cache,
        folder: Path,
        begun: checkpoint.Checkpoint | None,
        bar: engine.Bar,
    ) -> list[dict[str, float]]:
        """All steps that are left; one line of metrics and one host sync each. A step whose pairs are all ties changes
        nothing.

        Raises DdpoError when the loss is no longer finite.
        """
        settings, history = self.settings, list[dict[str, float]]()
        if begun:
            self.restore(begun.state)
            history = checkpoint.metrics(folder / "metrics.jsonl", begun.step)
        order = job.schedule(size=settings.batch_size, steps=settings.steps, seed=self.seed)
        with (folder / "metrics.jsonl").open("a" if begun else "w") as log:
            for number, visits in enumerate(order):
                if begun and number < begun.step:
                    continue
                if visits:
                    history.append(self._step(job, prepared, number, visits))
                    log.write(json.dumps(history[-1]) + "\n")
                    log.flush()
                bar.advance(1)
                if (number + 1) % settings.checkpoint_steps == 0 and number + 1 < settings.steps:
                    checkpoint.save(run, folder, checkpoint.Checkpoint(job.made_from, number + 1, self.state()))
        if not all(parameter.isfinite().all() for parameter in self.trained.values()):
            raise DdpoError(
                f"the weights of {job.name} are not finite after the last step; nothing was saved. {REMEDY}"
            )
        if not history:
            raise UserError(
                f"{job.name}: all pairs visited in train.steps={settings.steps} are ties; raise train.steps"
            )
        return history

    def _step(
        self, job: Job, prepared: cache.Cache, number: int, visits: Sequence[tuple[Pair, int]]
    ) -> dict[str, float]:
        settings, start = self.settings, time.perf_counter()
        batch = step.make_batch(self.model.schedule, prepared, visits, settings=settings, seed=self.seed)
        means = step.accumulate(
            batch.to(self.model.device),
            policy=self.predict,
            reference=self.reference,
            beta=settings.beta,
            micro_batch_size=settings.micro_batch_size or settings.batch_size,
            backward=self.accelerator.backward,
        )
        norm = self.accelerator.clip_grad_norm_(list(self.trained.values()), settings.max_grad_norm)
        rate = self.rate.get_last_lr()[0]
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad(set_to_none=True)
        *values, norm_value = torch.cat([means, torch.as_tensor(norm, device=means.device).view(1)]).tolist()
        if not math.isfinite(values[0]):
            raise DdpoError(f"the loss is {values[0]} at step {number} of {job.name}; nothing was saved. {REMEDY}")
        row = {"step": number, "pairs": len(batch), **dict(zip(step.METRICS, values, strict=True))}
        row |= {"gradient_norm": norm_value, "learning_rate": rate}
        row["pairs_per_second"] = len(batch) / (time.perf_counter() - start)
        return row

    def save(self, folder: Path) -> None:
        """LoRA as `pipeline.load_lora_weights` reads it, or the whole network under `unet/` or `transformer/`."""
        bare = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        if self.settings.method == "lora":
            self.model.save_lora(folder)
        else:
            bare.save_pretrained(folder / self.model.family.DENOISER)

    def close(self, original: Any) -> None:
        """Leaves the model as it was before."""
        bare = self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        if self.settings.gradient_checkpointing:
            bare.disable_gradient_checkpointing()
        if self.settings.method == "lora":
            self.model.drop_lora()
        self.model.denoiser = original
        self.accelerator.free_memory()


def _optimizer(settings: Train, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, or Adafactor with a constant rate as the authors set it for SDXL."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    adafactor: torch.optim.Optimizer = Adafactor(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        clip_threshold=1.0,
        scale_parameter=False,
        relative_step=False,
    )
    return adafactor


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
