"""Stable Diffusion 1 and 2: one text encoder, a UNet that predicts noise or v. The embedded world's model is one too."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from aifeedback_dpo.models.family import Rows, guided
from aifeedback_dpo.models.schedules import Schedule, Steps

PIPELINE = StableDiffusionPipeline
DENOISER = "unet"
TEXT = ("text_encoder",)
LORA = ("to_q", "to_k", "to_v", "to_out.0")
NOT_LOADED = {
    "safety_checker": None,
    "requires_safety_checker": False,
    "feature_extractor": None,
    "image_encoder": None,
}


def schedule(pipeline: Any) -> Schedule:
    return Steps(pipeline.scheduler)


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Rows:
    embeds, _ = pipeline.encode_prompt(
        list(prompts), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"prompt_embeds": embeds}


def encode_negative(pipeline: Any, prompt: str, device: torch.device) -> Rows:
    return encode_prompts(pipeline, [prompt], device)


def predict(
    denoiser: Any, noisy: Float[Tensor, "b c h w"], times: Tensor, conditions: Rows, *, guidance: float
) -> Float[Tensor, "b c h w"]:
    predicted: Tensor = denoiser(noisy, times, conditions["prompt_embeds"]).sample
    return predicted


arguments = guided
