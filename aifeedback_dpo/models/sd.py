"""Stable Diffusion: one text encoder, a UNet that predicts noise, an autoencoder. The embedded world's model is one too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.weights import Located, loading, locate

ADAPTER = "default"


@dataclass
class StableDiffusion:
    """A loaded pipeline, with what sampling and training need of it and nothing else."""

    pipeline: StableDiffusionPipeline
    located: Located
    device: torch.device
    dtype: torch.dtype
    schedule: DDPMScheduler = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline.set_progress_bar_config(disable=True)
        for module in (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder):
            module.eval().requires_grad_(False)
        self.schedule = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        if self.schedule.config.prediction_type != "epsilon":
            kind = self.schedule.config.prediction_type
            raise UserError(
                f"{self.located.name} predicts '{kind}'; only models that predict noise (epsilon) are supported"
            )

    # -- sampling ----------------------------------------------------------------------------------------------------

    @property
    def scheduler_name(self) -> str:
        return type(self.pipeline.scheduler).__name__

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
        """The text encoder's last hidden state, each prompt padded or cut to the tokenizer's length."""
        embedded: Tensor = self.pipeline.encode_prompt(
            list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
        return embedded

    @torch.inference_mode()
    def sample(
        self,
        embeddings: Float[Tensor, "b n d"],
        unconditional: Float[Tensor, "1 n d"],
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        width: int | None = None,
        height: int | None = None,
    ) -> list[Image.Image]:
        """One picture a row; its seed alone decides its noise, drawn on the CPU so that every device starts alike."""
        pictures: list[Image.Image] = self.pipeline(
            prompt_embeds=embeddings,
            negative_prompt_embeds=unconditional.expand_as(embeddings),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            guidance_scale=guidance,
            width=width,
            height=height,
        ).images
        return pictures

    # -- training ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_images(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Scaled latents of pictures in [-1, 1]: the mean where the autoencoder gives a distribution."""
        vae = self.pipeline.vae
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
        return (latents * vae.config.scaling_factor).float()

    def add_noise(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, in float32."""
        noisy: Tensor = self.schedule.add_noise(latents, noise, timesteps)
        return noisy

    @property
    def train_timesteps(self) -> int:
        return int(self.schedule.config.num_train_timesteps)

    def lora(self, rank: int, modules: Sequence[str]) -> UNet2DConditionModel:
        """Puts a trainable adapter on the UNet, its weights in float32 whatever the UNet runs in. Starts as the identity."""
        unet = self.pipeline.unet
        names = [name for name, _ in unet.named_modules()]
        missing = [module for module in modules if not any(name.endswith(module) for name in names)]
        if missing:
            raise UserError(f"train.modules: the UNet has no module named {', '.join(missing)}")
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=list(modules), init_lora_weights="gaussian"), ADAPTER
        )
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return unet

    def save_lora(self, folder: Path) -> None:
        """In the format of `pipeline.load_lora_weights(folder)`."""
        layers = get_peft_model_state_dict(self.pipeline.unet, adapter_name=ADAPTER)
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, safe_serialization=True)

    def drop_lora(self) -> None:
        """Takes the adapter off again, its wrappers too."""
        self.pipeline.unload_lora_weights()

    @contextmanager
    def policy(self, folder: Path | None) -> Iterator[None]:
        """Samples from the policy in this folder (LoRA, or a whole `unet/`) while the context lasts; None is the base.

        Raises DataError for a policy that cannot be loaded.
        """
        base = self.pipeline.unet
        try:
            if folder and (folder / "unet").is_dir():
                tuned: Any = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=self.dtype)
                self.pipeline.unet = tuned.to(self.device).eval()
            elif folder:
                self.pipeline.load_lora_weights(folder)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(f"{folder} is corrupted ({reason}); delete it and run `ddpo train` again") from error
        try:
            yield
        finally:
            self.pipeline.unet = base
            self.pipeline.unload_lora_weights()


def load(weights: Weights) -> StableDiffusion:
    """The pipeline of a hub id, a local folder or the embedded world, on the best device there is."""
    located = locate(weights, "pipeline")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, weights.dtype)
    with loading(located, "a Stable Diffusion pipeline in the diffusers format"):
        pipeline = StableDiffusionPipeline.from_pretrained(
            located.folder,
            dtype=dtype,
            safety_checker=None,
            requires_safety_checker=False,
            feature_extractor=None,
            image_encoder=None,
            local_files_only=True,
        )
    return StableDiffusion(pipeline.to(device), located, device, dtype)
