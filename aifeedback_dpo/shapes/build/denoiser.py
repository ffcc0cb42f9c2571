"""The base model: a text encoder and a UNet trained together to predict noise, in Stable Diffusion's format.

In these many steps it learns colours, shapes and counts, and nothing of `above` and `left of`: places come out right as
often as chance has it. The small CLIP is blind to them too, as the real ones nearly are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel

from aifeedback_dpo.shapes.build.autoencoder import encode
from aifeedback_dpo.shapes.build.data import Pace, batches, cosine, render_all, sample_scenes
from aifeedback_dpo.shapes.build.vocabulary import LENGTH, tokenizer

PICTURES = 36_000
STEPS = 4_200
BATCH = 48
CAPTION_DROPOUT = 0.1
SNR_GAMMA = 5.0

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}


class Denoiser(torch.nn.Module):
    """The two networks that are trained, as one module, so that one average and one optimizer hold both."""

    def __init__(self) -> None:
        super().__init__()
        words = tokenizer()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=96,
                intermediate_size=384,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=12,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(48, 96),
            layers_per_block=1,
            cross_attention_dim=96,
            attention_head_dim=4,
            norm_num_groups=8,
        ).to(memory_format=torch.channels_last)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        words = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, words).sample
        return predicted


@dataclass
class Data:
    """Latents (n 4 12 12) and the tokens of their prompts (n 16)."""

    latents: Tensor
    tokens: Tensor


def prepare(vae: AutoencoderTiny, seed: int) -> Data:
    """Rendered train scenes, encoded once."""
    chosen = sample_scenes(PICTURES, seed=seed)
    words = tokenizer()
    tokens = words([scene.prompt for scene in chosen], padding="max_length", max_length=LENGTH, return_tensors="pt")
    return Data(encode(vae, render_all(chosen, seed=seed)), tokens.input_ids)


def train(vae: AutoencoderTiny, seed: int, *, steps: int = STEPS) -> StableDiffusionPipeline:
    """Noise prediction with min-SNR weights (Hang et al. 2023, arXiv:2303.09556) and averaged weights (EMA)."""
    data = prepare(vae, seed)
    torch.manual_seed(seed)
    schedule = DDPMScheduler(**SCHEDULE)
    model = Denoiser().train()
    average: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    empty = tokenizer()([""], padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.2e-3, weight_decay=1e-2, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    pace = Pace("denoiser", steps)
    for step, index in enumerate(batches(len(data.latents), BATCH, steps, seed=seed)):
        latents = data.latents[index].contiguous(memory_format=torch.channels_last)
        dropped = torch.rand(len(index), 1) < CAPTION_DROPOUT
        tokens = torch.where(dropped, empty, data.tokens[index])
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(index),))
        predicted = model(schedule.add_noise(latents, noise, timesteps), timesteps, tokens)
        snr = compute_snr(schedule, timesteps)
        loss = ((predicted - noise).square().mean(dim=(1, 2, 3)) * (snr.clamp(max=SNR_GAMMA) / snr)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        pace.step(step, loss)
    return assemble(average.module, vae)


def assemble(model: Denoiser, vae: AutoencoderTiny) -> StableDiffusionPipeline:
    """The trained parts as the pipeline that users load."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder.eval().requires_grad_(False),
        tokenizer=tokenizer(),
        unet=model.unet.eval().requires_grad_(False),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
