"""What is trained on one judge: its weights, their optimizer and learning rate, and the mean of them that is kept."""

from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers.optimization import Adafactor

from aifeedback_dpo.dpo.jobs import Job
from aifeedback_dpo.dpo.sharding import share, whole
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.settings.training import Train


class Policy:
    """One judge's policy between two steps. `at` is its place in the network."""

    def __init__(self, job: Job, settings: Train, trained: dict[str, nn.Parameter], *, at: int) -> None:
        self.job, self.settings, self.trained, self.at = job, settings, trained, at
        self.parameters = list(trained.values())
        self.device = self.parameters[0].device
        self.optimizer = _optimizer(settings, self.parameters)
        schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
        self.rate = get_scheduler(
            schedule, self.optimizer, num_warmup_steps=settings.warmup, num_training_steps=settings.steps
        )
        self.mean = EMAModel(self.parameters, decay=settings.ema) if settings.ema else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.zero_point = torch.zeros((), device=self.device)

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients."""
        self.scaler.scale(loss).backward()

    def step(self) -> Tensor:
        """Clips, moves the weights, and gives the norm that the gradient had."""
        self.scaler.unscale_(self.optimizer)
        norm: Tensor = whole(nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rate.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.mean:
            self.mean.step(self.parameters)
        return norm

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(whole(parameter).isfinite().all()) for parameter in self.parameters)

    def settle(self) -> None:
        """Puts the mean of the weights, where one is kept, in their place: at the end."""
        if self.mean:
            self.mean.copy_to(self.parameters)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, in however many processes; the frozen base is not in it.

        Where the weights are sharded all processes must ask for it.
        """
        return {
            "trained": {name: whole(value.detach()).cpu() for name, value in self.trained.items()},
            "optimizer": tree_map(whole, self.optimizer.state_dict()),
            "rate": self.rate.state_dict(),
            "scaler": self.scaler.state_dict(),
            "mean": tree_map(whole, self.mean.state_dict()) if self.mean else None,
            "zero_point": self.zero_point.cpu(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse."""
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(share(state["trained"][name], value))
        for at, kept in state["optimizer"]["state"].items():
            kept |= {name: share(value, self.parameters[at]) for name, value in kept.items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.rate.load_state_dict(state["rate"])
        self.scaler.load_state_dict(state["scaler"])
        if self.mean:
            means = state["mean"]["shadow_params"]
            state["mean"]["shadow_params"] = [share(*pair) for pair in zip(means, self.parameters, strict=True)]
            self.mean.load_state_dict(state["mean"])
            self.mean.to(device=self.device)
        self.zero_point = state["zero_point"].to(self.device)


def learning_rate(settings: Train) -> float:
    """The rate that the optimizer gets."""
    return settings.learning_rate * (settings.batch_size if settings.scale_learning_rate else 1)


def _optimizer(settings: Train, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, fused; the same with a state of 8 bits; or Adafactor with a constant rate as the authors set it for SDXL.

    Raises UserError for one whose package is not installed.
    """
    rate, decay = learning_rate(settings), settings.weight_decay
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if settings.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise UserError(
                'train.optimizer=adamw8bit needs bitsandbytes: pip install "aifeedback_dpo[8bit]", or take adamw'
            ) from error
        small: torch.optim.Optimizer = AdamW8bit(parameters, lr=rate, weight_decay=decay)
        return small
    adafactor: torch.optim.Optimizer = Adafactor(
        parameters, lr=rate, weight_decay=decay, clip_threshold=1.0, scale_parameter=False, relative_step=False
    )
    return adafactor
