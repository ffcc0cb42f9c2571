"""The autoencoder: 48x48 pictures to 12x12x4 latents and back. AutoencoderTiny, the architecture of TAESD (madebyollin).

Two things matter on flat pictures. The loss is the squared error first: under the absolute error the network paints the
ground and ignores the objects for thousands of steps. And there is no group normalisation, which would spend its time
taking the level of the ground away and putting it back.
"""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn.functional import max_pool2d

from aifeedback_dpo.shapes.build.data import Pace, batches, cosine, render_all, sample_scenes, to_signed

PICTURES = 20_000
STEPS = 4_800
BATCH = 8
LATENT_NOISE = 0.03
EDGE_WEIGHT = 6.0


def train(seed: int, *, steps: int = STEPS) -> AutoencoderTiny:
    """Squared plus a little absolute error, edges first.

    Latents are held near unit scale and jittered, so that the decoder is smooth.
    """
    torch.manual_seed(seed)
    pictures = render_all(sample_scenes(PICTURES, seed=seed), seed=seed)
    model = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 1, 1),
        latent_channels=4,
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    pace = Pace("autoencoder", steps)
    for step, index in enumerate(batches(len(pictures), BATCH, steps, seed=seed)):
        images = to_signed(pictures[index])
        latents = model.encode(images).latents
        error = model.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample - images
        spread = (latents.std(dim=(0, 2, 3)) - 1).square().mean() + latents.mean(dim=(0, 2, 3)).square().mean()
        weight = 1 + EDGE_WEIGHT * edges(images)
        loss = (weight * (error.square() + 0.1 * error.abs())).mean() + 0.01 * spread
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        pace.step(step, loss)
    model = model.eval().requires_grad_(False)
    model.register_to_config(scaling_factor=round(1 / encode(model, pictures[:512]).std().item(), 4))
    return model


def edges(images: Tensor) -> Tensor:
    """How much a picture changes around each pixel: the range over 3x3, mean over channels, in [0, 1]; b 1 h w."""
    spread = max_pool2d(images, 3, stride=1, padding=1) + max_pool2d(-images, 3, stride=1, padding=1)
    return spread.mean(dim=1, keepdim=True) / 2


@torch.inference_mode()
def encode(model: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Scaled latents of uint8 pictures."""
    parts = [model.encode(to_signed(part)).latents for part in pictures.split(64)]
    return torch.cat(parts) * model.config.scaling_factor


@torch.inference_mode()
def rebuild(model: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """uint8 pictures through the autoencoder and back."""
    parts = [model.decode(model.encode(to_signed(part)).latents).sample for part in pictures.split(64)]
    return ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
