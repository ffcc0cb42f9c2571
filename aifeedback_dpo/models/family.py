"""What a family has to say, and nothing else. A family is a module with these names."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from aifeedback_dpo.models.schedules import Schedule

Rows = dict[str, Tensor]
"""Named tensors that share their first axis: a row each for a prompt, or for a picture."""

JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""The attention projections of a transformer over pictures and text together (Esser et al. 2024), of both streams."""


class Family(Protocol):
    """One architecture of text-to-image models, as diffusers builds it."""

    PIPELINE: Any
    """The pipeline class."""
    DENOISER: str
    """The pipeline's component that is trained: `unet` or `transformer`."""
    TEXT: tuple[str, ...]
    """The components that encode prompts."""
    LORA: tuple[str, ...]
    """The modules that a LoRA targets when a recipe names none, where a denoiser has them: the attention projections."""
    NOT_LOADED: dict[str, Any]
    """Arguments of `from_pretrained` that leave optional components out."""

    def schedule(self, pipeline: Any) -> Schedule:
        """How it noises and what it predicts. Raises UserError for a parametrisation nobody trained it with."""

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str], device: torch.device) -> Rows:
        """One row a prompt, cut to the length its text encoders read."""

    def encode_negative(self, pipeline: Any, prompt: str, device: torch.device) -> Rows:
        """One row: what guidance steers away from. An empty prompt gives what the pipeline itself takes for none."""

    def predict(
        self,
        denoiser: Any,
        noisy: Float[Tensor, "b c h w"],
        times: Tensor,
        conditions: Rows,
        *,
        guidance: float,
    ) -> Float[Tensor, "b c h w"]:
        """The denoiser's output for noised latents. `conditions` are the rows of `encode_prompts` and `sizes`: six integers
        a picture, its true height and width, the top and left of its crop, and the height and width it is trained at.
        """

    def arguments(self, prompts: Rows, negative: Rows, *, guidance: float) -> dict[str, Any]:
        """The pipeline's arguments for these prompts; `negative` has as many rows."""


def guided(prompts: Rows, negative: Rows, *, guidance: float) -> dict[str, Any]:
    """The arguments of a pipeline with classifier-free guidance: each tensor, and its `negative_` twin."""
    return {**prompts, **{f"negative_{name}": rows for name, rows in negative.items()}, "guidance_scale": guidance}
