"""A pipeline from disk: its other autoencoder in place, its adapters merged in."""

from importlib import import_module
from typing import Any, cast

import torch
from diffusers import AutoencoderKL

from aifeedback_dpo import models
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Family
from aifeedback_dpo.settings import Model
from aifeedback_dpo.weights import loading, locate


def load(model: Model) -> Diffuser:
    """The pipeline of these settings. Raises ModelMissing, UserError."""
    identity, located = models.identify(model), locate(model, "pipeline")
    family = cast(Family, import_module(f"aifeedback_dpo.models.{models.family_of(located.folder)}"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model.offload != "none" and device.type == "cpu":
        raise UserError(f"model.offload={model.offload} moves components off a GPU, and there is none here; take none")
    dtype = getattr(torch, model.dtype)
    parts: dict[str, Any] = dict(family.NOT_LOADED)
    if model.vae:
        vae = locate(model.vae.weights, "vae")
        with loading(vae, "an AutoencoderKL in the diffusers format"):
            parts["vae"] = AutoencoderKL.from_pretrained(vae.folder, dtype=dtype, local_files_only=True)
    with loading(located, f"a {family.PIPELINE.__name__} in the diffusers format"):
        pipeline = family.PIPELINE.from_pretrained(located.folder, dtype=dtype, local_files_only=True, **parts)
    for adapter in model.adapters:
        file = models.adapter_file(adapter)
        with loading(file, f"a LoRA for a {family.PIPELINE.__name__}"):
            pipeline.load_lora_weights(file.path.parent, weight_name=file.path.name)
            pipeline.fuse_lora(lora_scale=adapter.weight)
            pipeline.unload_lora_weights()
    return Diffuser(pipeline, family, identity, device, dtype, model.offload)
