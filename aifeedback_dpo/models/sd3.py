"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): three text encoders, a transformer, rectified flow."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from jaxtyping import Float
from torch import Tensor

from aifeedback_dpo.models.family import JOINT_ATTENTION, Rows, guided
from aifeedback_dpo.models.schedules import Flow, Schedule

PIPELINE = StableDiffusion3Pipeline
DENOISER = "transformer"
TEXT = ("text_encoder", "text_encoder_2", "text_encoder_3")
LORA = (*JOINT_ATTENTION, "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")  # the last in 3.5 medium only
NOT_LOADED = {"feature_extractor": None, "image_encoder": None}

STEPS = 1000  # the transformer is told the noise level times this


def schedule(pipeline: Any) -> Schedule:
    return Flow(pipeline.scheduler.config, patch=pipeline.transformer.config.patch_size)


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Rows:
    embeds, _, pooled, _ = pipeline.encode_prompt(
        list(prompts), prompt_2=None, prompt_3=None, device=device, do_classifier_free_guidance=False
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def encode_negative(pipeline: Any, prompt: str, device: torch.device) -> Rows:
    return encode_prompts(pipeline, [prompt], device)


def predict(
    denoiser: Any, noisy: Float[Tensor, "b c h w"], times: Tensor, conditions: Rows, *, guidance: float
) -> Float[Tensor, "b c h w"]:
    predicted: Tensor = denoiser(
        hidden_states=noisy,
        timestep=times * STEPS,
        encoder_hidden_states=conditions["prompt_embeds"],
        pooled_projections=conditions["pooled_prompt_embeds"],
    ).sample
    return predicted


arguments = guided
