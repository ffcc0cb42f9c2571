"""Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): two text encoders, and a UNet that is told of sizes and crops."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float
from torch import Tensor

from aifeedback_dpo.models.family import Rows, guided
from aifeedback_dpo.models.schedules import Schedule, Steps

PIPELINE = StableDiffusionXLPipeline
DENOISER = "unet"
TEXT = ("text_encoder", "text_encoder_2")
LORA = ("to_q", "to_k", "to_v", "to_out.0")
NOT_LOADED = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}


def schedule(pipeline: Any) -> Schedule:
    return Steps(pipeline.scheduler)


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Rows:
    embeds, _, pooled, _ = pipeline.encode_prompt(
        list(prompts), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def encode_negative(pipeline: Any, prompt: str, device: torch.device) -> Rows:
    """With `force_zeros_for_empty_prompt`, as in the published model, no negative prompt is zeros and not encoded text."""
    _, embeds, _, pooled = pipeline.encode_prompt(
        [""],
        negative_prompt=prompt or None,
        device=device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def predict(
    denoiser: Any, noisy: Float[Tensor, "b c h w"], times: Tensor, conditions: Rows, *, guidance: float
) -> Float[Tensor, "b c h w"]:
    told = {
        "text_embeds": conditions["pooled_prompt_embeds"],
        "time_ids": conditions["sizes"].float(),  # half precision would round a size of 1333 to 1336
    }
    predicted: Tensor = denoiser(noisy, times, conditions["prompt_embeds"], added_cond_kwargs=told).sample
    return predicted


arguments = guided
