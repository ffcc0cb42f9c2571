"""A policy in training: the network, its frozen reference, its optimizer, and the steps."""

import copy
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from torch import Tensor
from transformers.optimization import Adafactor

from aifeedback_dpo import engine
from aifeedback_dpo.dpo import cache, checkpoint, step
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.errors import DdpoError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.settings import Train
from aifeedback_dpo.store import Run

REMEDY = "Try a smaller train.learning_rate, or train.precision=bfloat16 or float32"


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
