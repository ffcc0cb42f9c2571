"""How latents are noised, what the network is to predict, and how its error counts: in steps (DDPM) or as a flow.

    steps    x_t = a_t x_0 + s_t noise,  a_t^2 = alpha_bar_t, s_t^2 = 1 - alpha_bar_t
             target: noise, or v = a_t noise - s_t x_0 (Salimans and Ho 2022, arXiv:2202.00512)
    flow     x_s = (1 - s) x_0 + s noise,  target: v = noise - x_0 (Lipman et al. 2022, arXiv:2210.02747)

At fixed x_t the squared error of v is that of the noise divided by a_t^2, or by (1 - s)^2: weighting `eps_equivalent`
multiplies it back, so that one beta means the same for every parametrisation; `uniform` counts it as it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from diffusers import DDPMScheduler
from jaxtyping import Float
from torch import Generator, Tensor

from aifeedback_dpo.errors import UserError

Draw = Callable[[Generator], Tensor]
Weighting = Literal["uniform", "eps_equivalent"]
Latents = Float[Tensor, "b c h w"]


@runtime_checkable
class Schedule(Protocol):
    """A time is an integer step, or a noise level in [0, 1)."""

    def times(self, distribution: str, shift: float | Literal["model"], side: tuple[int, int]) -> Draw:
        """Draws one time from a generator; `side` is the latents' height and width, which a shift may depend on."""

    def at(self, depth: float) -> Tensor:
        """The time that far into the noise, from 0 to below 1."""

    def depth(self, times: Tensor) -> Float[Tensor, " b"]:
        """The inverse: how far into the noise each time is, in [0, 1)."""

    def add_noise(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        """Noised latents, float32."""

    def target(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        """What the network is to predict."""

    def weight(self, times: Tensor, weighting: Weighting) -> Float[Tensor, " b"]:
        """What the squared error at each time is multiplied by."""


class Steps:
    """A DDPM schedule of integer steps: Stable Diffusion 1, 2 and XL."""

    def __init__(self, scheduler: Any) -> None:
        if not hasattr(scheduler, "alphas_cumprod"):
            name = type(scheduler).__name__
            raise UserError(f"the scheduler {name} has no schedule of DDPM's, which this family is trained with")
        self.schedule = DDPMScheduler.from_config(scheduler.config)
        self.prediction = self.schedule.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction"):
            raise UserError(
                f"the model predicts '{self.prediction}'; supported are epsilon, v_prediction and flow models"
            )
        if self.prediction == "epsilon" and self.schedule.config.rescale_betas_zero_snr:
            raise UserError(
                "the scheduler has zero terminal SNR, where noise cannot be predicted; only v_prediction can"
            )

    def times(self, distribution: str, shift: float | Literal["model"], side: tuple[int, int]) -> Draw:
        if distribution != "uniform" or shift != 1.0:
            raise UserError(
                f"train.timesteps={distribution} and train.shift={shift} are for flow models, and this model predicts "
                f"'{self.prediction}'; take uniform and 1"
            )
        steps = int(self.schedule.config.num_train_timesteps)
        return lambda generator: torch.randint(0, steps, (), generator=generator)

    def at(self, depth: float) -> Tensor:
        return torch.tensor(int(depth * self.schedule.config.num_train_timesteps))

    def depth(self, times: Tensor) -> Float[Tensor, " b"]:
        return times.float() / self.schedule.config.num_train_timesteps

    def add_noise(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        noisy: Tensor = self.schedule.add_noise(latents, noise, times)
        return noisy

    def target(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        if self.prediction == "epsilon":
            return noise
        velocity: Tensor = self.schedule.get_velocity(latents, noise, times)
        return velocity

    def weight(self, times: Tensor, weighting: Weighting) -> Float[Tensor, " b"]:
        if weighting == "uniform" or self.prediction == "epsilon":
            return torch.ones(len(times))
        return self.schedule.alphas_cumprod[times].float()


@dataclass(frozen=True)
class Flow:
    """Rectified flow: SD 3 and FLUX. `config` is the scheduler's, `patch` the side of a patch of latents."""

    config: Any
    patch: int

    def times(self, distribution: str, shift: float | Literal["model"], side: tuple[int, int]) -> Draw:
        """Uniform, or logit-normal with mean 0 and deviation 1 (Esser et al. 2024, arXiv:2403.03206), then shifted."""
        factor = self.shift(side) if shift == "model" else shift

        def draw(generator: Generator) -> Tensor:
            if distribution == "uniform":
                level = torch.rand((), generator=generator)
            else:
                level = torch.sigmoid(torch.randn((), generator=generator))
            return factor * level / (1 + (factor - 1) * level)

        return draw

    def at(self, depth: float) -> Tensor:
        return torch.tensor(depth)

    def depth(self, times: Tensor) -> Float[Tensor, " b"]:
        return times

    def shift(self, side: tuple[int, int]) -> float:
        """The scheduler's own: constant, or growing with the number of patches as exp(mu) (Esser et al. 2024, Eq. 23)."""
        if not self.config.get("use_dynamic_shifting"):
            return float(self.config.get("shift", 1.0))
        if self.config.get("time_shift_type", "exponential") != "exponential":
            raise UserError("train.shift=model knows exponential dynamic shifting only; give the shift as a number")
        low, high = self.config.get("base_image_seq_len", 256), self.config.get("max_image_seq_len", 4096)
        least, most = self.config.get("base_shift", 0.5), self.config.get("max_shift", 1.15)
        patches = (side[0] // self.patch) * (side[1] // self.patch)
        return math.exp(least + (patches - low) * (most - least) / (high - low))

    def add_noise(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        level = times.view(-1, 1, 1, 1)
        return (1 - level) * latents + level * noise

    def target(self, latents: Latents, noise: Latents, times: Tensor) -> Latents:
        return noise - latents

    def weight(self, times: Tensor, weighting: Weighting) -> Float[Tensor, " b"]:
        return torch.ones_like(times) if weighting == "uniform" else (1 - times) ** 2
