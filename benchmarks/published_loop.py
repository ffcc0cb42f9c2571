"""Diffusion-DPO as the published scripts train it, as fast as they do: what `train_throughput.py` compares with.

Written from the description of diffusers' train_diffusion_dpo.py and of SalesforceAIResearch/DiffusionDPO's train.py. At every
step it decodes both pictures of each pair, encodes them and samples their latents, encodes the captions, and asks the policy
and then the reference, winners and losers in one batch. The reference is the same network with its adapter off, as in
diffusers, or a second network, as in the authors' script. Where the scripts differ, or wait for the device several times a
step, this loop takes the faster way. Model, adapter, precision, batch and optimizer are those of the run's recipe.

`python benchmarks/published_loop.py --check` shows that its loss is ours on the same latents, times and noises.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import DDPMScheduler, DiffusionPipeline
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from aifeedback_dpo import models
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.dpo import losses
from aifeedback_dpo.store import Run
from benchmarks import worlds

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


@dataclass
class Trace:
    """Seconds of loading, and seconds and loss of each optimizer step."""

    loading: float
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """A pair as the scripts' datasets hold it: encoded pictures and a caption."""

    winner: bytes
    loser: bytes
    caption: str


class Networks:
    """The pipeline in the precision of training, with a LoRA in float32 on its UNet, and the reference."""

    def __init__(self, run: Run, *, second_network: bool) -> None:
        settings = run.recipe.train
        self.dtype = getattr(torch, settings.precision)
        self.pipeline = DiffusionPipeline.from_pretrained(run.recipe.model.id, dtype=self.dtype).to(DEVICE)
        self.schedule = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        for part in self.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        self.unet = self.pipeline.unet
        self.frozen = copy.deepcopy(self.unet) if second_network else None
        lora = LoraConfig(
            r=settings.rank, lora_alpha=settings.rank, init_lora_weights="gaussian", target_modules=TARGETS
        )
        self.unet.add_adapter(lora)
        self.trained = [parameter for parameter in self.unet.parameters() if parameter.requires_grad]
        for parameter in self.trained:
            parameter.data = parameter.data.float()
        if settings.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()

    @torch.no_grad()
    def latents(self, pixels: Tensor, *, sample: bool = True) -> Tensor:
        """Scaled latents of pictures (b 3 h w) in [-1, 1], eight at a time as in the script."""
        vae = self.pipeline.vae
        encoded = [vae.encode(part).latent_dist for part in pixels.to(DEVICE, self.dtype).split(8)]
        drawn = torch.cat([part.sample() if sample else part.mean for part in encoded])
        return drawn * vae.config.scaling_factor

    @torch.no_grad()
    def captions(self, captions: Sequence[str], side: int) -> dict[str, Any]:
        """What the UNet is told of each pair, for winners and losers; SDXL is told of the pictures' size as well."""
        found = self.pipeline.encode_prompt(
            list(captions), device=DEVICE, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        told: dict[str, Any] = {"encoder_hidden_states": found[0].repeat(2, 1, 1)}
        if len(found) == 4:
            size = torch.tensor([[side, side, 0, 0, side, side]], device=DEVICE, dtype=self.dtype)
            told["added_cond_kwargs"] = {
                "text_embeds": found[2].repeat(2, 1),
                "time_ids": size.repeat(2 * len(captions), 1),
            }
        return told

    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, told: dict[str, Any], *, beta: float) -> Tensor:
        """The objective on 2 b latents, winners first; `noise` and `timesteps` hold the same twice."""
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        half = self.dtype != torch.float32
        with torch.autocast(DEVICE.type, self.dtype) if half else nullcontext():
            win, lose = self._errors(self.unet, noisy, noise, timesteps, told)
            with torch.no_grad():
                if self.frozen is not None:
                    held_win, held_lose = self._errors(self.frozen, noisy, noise, timesteps, told)
                else:
                    self.unet.disable_adapters()
                    held_win, held_lose = self._errors(self.unet, noisy, noise, timesteps, told)
                    self.unet.enable_adapters()
        return -F.logsigmoid(-0.5 * beta * ((win - lose) - (held_win - held_lose))).mean()

    @staticmethod
    def _errors(unet: Any, noisy: Tensor, noise: Tensor, timesteps: Tensor, told: dict[str, Any]) -> Sequence[Tensor]:
        predicted = unet(noisy, timesteps, **told).sample
        return F.mse_loss(predicted.float(), noise.float(), reduction="none").mean(dim=(1, 2, 3)).chunk(2)


def train(run: Run, judge: str, *, steps: int, second_network: bool = False, workers: int = 0, seed: int = 0) -> Trace:
    """`steps` optimizer steps on what a judge preferred."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    networks = Networks(run, second_network=second_network)
    trace = Trace(time.perf_counter() - start)
    for seconds, loss in each_step(run, judge, networks, steps=steps, workers=workers):
        trace.seconds.append(seconds)
        trace.losses.append(loss)
    return trace


def each_step(
    run: Run, judge: str, networks: Networks, *, steps: int, workers: int = 0
) -> Iterator[tuple[float, float]]:
    """Seconds and loss of one step after the other; the wait for its batch counts.

    Pictures are read by `workers` processes, or in this one, which is the scripts' default.
    """
    settings = run.recipe.train
    optimizer = torch.optim.AdamW(networks.trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    loader = iter(batches(run, judge, steps=steps, workers=workers))
    for _ in range(steps):
        start = time.perf_counter()
        pixels, captions = next(loader)
        latents = networks.latents(torch.cat(pixels.chunk(2, dim=1)))
        pairs = len(captions)
        noise = torch.randn_like(latents).chunk(2)[0].repeat(2, 1, 1, 1)
        timesteps = torch.randint(0, networks.schedule.config.num_train_timesteps, (pairs,), device=DEVICE).repeat(2)
        told = networks.captions(captions, pixels.shape[-1])
        loss = networks.loss(latents, noise, timesteps, told, beta=settings.beta)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks.trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()  # as the scripts do; a GPU has nothing left to do when the clock stops
        yield time.perf_counter() - start, value


def batches(run: Run, judge: str, *, steps: int, workers: int = 0) -> DataLoader[Any]:
    """Epoch after epoch, shuffled: pixels (b 6 h w), the winner's channels first, and captions."""
    read = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])

    def collate(examples: Sequence[Example]) -> tuple[Tensor, list[str]]:
        pairs = [torch.cat([read(decode_image(data)) for data in (each.winner, each.loser)]) for each in examples]
        return torch.stack(pairs), [each.caption for each in examples]

    pairs, size = examples(run, judge), run.recipe.train.batch_size
    order = RandomSampler(pairs, num_samples=steps * size)
    return DataLoader(pairs, batch_size=size, sampler=order, collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]


def examples(run: Run, judge: str) -> list[Example]:
    """The pairs on which the judge took a side, with their encoded pictures in memory: faster than the scripts' tables."""
    texts = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    data = dict(run.images(run.done("images")))
    p_a = {row["pair_id"]: row["p_a"] for row in run.rows("preferences", ["pair_id", "p_a"], judge)}
    made = []
    for pair in run.rows("pairs"):
        images = [data[pair[side]] for side in ("image_a", "image_b")]
        if (p := p_a.get(pair["pair_id"], 0.5)) != 0.5:
            winner, loser = images if p > 0.5 else images[::-1]
            made.append(Example(winner, loser, texts[pair["prompt_id"]]))
    return made


def check() -> tuple[float, float]:
    """The loop's loss and ours on the same pairs, latents' means, times and noises, with the same adapter away from zero."""
    pairs = 6
    with TemporaryDirectory() as folder:
        run = worlds.run(
            Path(folder) / "run", worlds.model(Path(folder) / "model"), pairs, ["random"], batch_size=pairs
        )
        networks, ours = Networks(run, second_network=False), models.load(run.recipe.model)
        pixels, captions = next(iter(batches(run, "random", steps=1)))
    settings, pixels = run.recipe.train, torch.cat(pixels.chunk(2, dim=1))
    ours.add_lora("default", settings.rank, None)
    with ours.placed("vae", *ours.family.TEXT, ours.family.DENOISER), torch.no_grad():
        for network in (networks.unet, ours.denoiser):
            generator = torch.Generator().manual_seed(0)
            for name, parameter in sorted(network.named_parameters()):
                if "lora" in name:
                    parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        noise = torch.randn(pairs, 4, *[worlds.SIDE // 8] * 2).repeat(2, 1, 1, 1).to(DEVICE)
        timesteps = torch.randint(0, 1000, (pairs,)).repeat(2).to(DEVICE)
        told = networks.captions(captions, worlds.SIDE)
        theirs = networks.loss(networks.latents(pixels, sample=False), noise, timesteps, told, beta=settings.beta)

        latents = ours.encode_images(pixels)
        noisy, target = (make(latents, noise, timesteps) for make in (ours.schedule.add_noise, ours.schedule.target))
        rows = {name: value.repeat(2, 1, 1) for name, value in ours.encode_prompts(captions).items()}
        found = []
        for switch in (ours.denoiser.enable_adapters, ours.denoiser.disable_adapters):
            switch()
            predicted = ours.family.predict(ours.denoiser, noisy, timesteps, rows, guidance=0.0)
            found.append(losses.PairErrors(*losses.squared_error(predicted, target).chunk(2)))
        ones = torch.ones(pairs, device=DEVICE)
        objective = losses.objective("dpo", beta=settings.beta)(found[0], found[1], ones, ones.sum())
    return theirs.item(), objective.mean().item()


def main() -> None:
    """Prints the check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True)
    parser.parse_args()
    worlds.quiet()
    theirs, ours = check()
    print(f"loss of the loop {theirs:.7f}, ours {ours:.7f}, difference {abs(theirs - ours):.1e}")
    assert abs(theirs - ours) < 1e-5, "not the same loss"
    assert abs(theirs - math.log(2)) > 1e-3, "the adapter is too small to tell"


if __name__ == "__main__":
    main()
