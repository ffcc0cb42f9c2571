"""FLUX.1 (Black Forest Labs 2024): CLIP and T5 text, a transformer over 2x2 patches, rectified flow, distilled guidance."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FluxPipeline
from jaxtyping import Float
from torch import Tensor

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models.family import JOINT_ATTENTION, Rows
from aifeedback_dpo.models.schedules import Flow, Schedule

PIPELINE = FluxPipeline
DENOISER = "transformer"
TEXT = ("text_encoder", "text_encoder_2")
LORA = JOINT_ATTENTION
NOT_LOADED = {"feature_extractor": None, "image_encoder": None}

PATCH = 2


def schedule(pipeline: Any) -> Schedule:
    return Flow(pipeline.scheduler.config, patch=PATCH)


def encode_prompts(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Rows:
    tokens = 512 if pipeline.transformer.config.guidance_embeds else 256  # as published: dev, schnell
    embeds, pooled, _ = pipeline.encode_prompt(list(prompts), prompt_2=None, device=device, max_sequence_length=tokens)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def encode_negative(pipeline: Any, prompt: str, device: torch.device) -> Rows:
    """Raises UserError for a prompt that is not empty: guidance is distilled into the denoiser, nothing is steered from."""
    if prompt:
        raise UserError(f"generate.negative_prompt is {prompt!r}, and FLUX.1 takes none; leave it out")
    return encode_prompts(pipeline, [prompt], device)


def predict(
    denoiser: Any, noisy: Float[Tensor, "b c h w"], times: Tensor, conditions: Rows, *, guidance: float
) -> Float[Tensor, "b c h w"]:
    """`guidance` is what the denoiser is told where it embeds guidance (FLUX.1-dev); FLUX.1-schnell does not."""
    b, _, h, w = noisy.shape
    embeds = conditions["prompt_embeds"]
    told = torch.full((b,), guidance, device=noisy.device, dtype=torch.float32) if _is_guided(denoiser) else None
    predicted: Tensor = denoiser(
        hidden_states=pack(noisy),
        timestep=times,
        guidance=told,
        encoder_hidden_states=embeds,
        pooled_projections=conditions["pooled_prompt_embeds"],
        img_ids=_places(h // PATCH, w // PATCH).to(noisy.device),
        txt_ids=torch.zeros(embeds.shape[1], 3, device=noisy.device),
    ).sample
    return unpack(predicted, h, w)


def arguments(prompts: Rows, negative: Rows, *, guidance: float) -> dict[str, Any]:
    return {**prompts, "guidance_scale": guidance}


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Each 2x2 patch as one token: n is h/2 * w/2, in rows, and d is c * 4."""
    b, c, h, w = latents.shape
    patches = latents.view(b, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b, (h // PATCH) * (w // PATCH), c * PATCH * PATCH)


def unpack(tokens: Float[Tensor, "b n d"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """The inverse."""
    b, _, d = tokens.shape
    c = d // (PATCH * PATCH)
    patches = tokens.view(b, height // PATCH, width // PATCH, c, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(b, c, height, width)


def _places(height: int, width: int) -> Float[Tensor, "n 3"]:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


def _is_guided(denoiser: Any) -> bool:
    bare = denoiser
    while hasattr(bare, "module"):  # as data-parallel wrappers hold it
        bare = bare.module
    return bool(bare.config.guidance_embeds)
