"""Rendered scenes for training, drawn from the train split only, and the loop's small shared pieces."""

import logging
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from aifeedback_dpo.seeds import derive
from aifeedback_dpo.shapes.grammar import Scene, Split, prompts, scenes
from aifeedback_dpo.shapes.renderer import render

SHARES = {"single": 0.10, "counting": 0.20, "colours": 0.25, "position": 0.45}

log = logging.getLogger("shapes.build")


def sample_scenes(count: int, *, seed: int, split: Split = "train") -> list[Scene]:
    """Scenes with the category shares above (where the split has the category), uniform within each."""
    rng = np.random.default_rng(derive("scenes", seed, split))
    by_category: dict[str, list[Scene]] = {}
    for prompt in sorted(prompts(split), key=lambda prompt: derive("shapes-order", prompt)):
        scene = scenes()[prompt]
        by_category.setdefault(scene.category, []).append(scene)
    names = list(by_category)
    weights = np.array([SHARES[name] for name in names])
    picks = rng.choice(len(names), size=count, p=weights / weights.sum())
    return [by_category[names[pick]][rng.integers(len(by_category[names[pick]]))] for pick in picks]


def render_all(chosen: list[Scene], *, seed: int) -> Tensor:
    """One picture a scene, uint8, shape n 3 48 48."""
    pictures = np.stack(
        [np.asarray(render(scene, np.random.default_rng(derive("picture", seed, i)))) for i, scene in enumerate(chosen)]
    )
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def to_signed(pictures: Tensor) -> Tensor:
    """uint8 pictures to float in [-1, 1], channels last."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def batches(count: int, size: int, steps: int, *, seed: int) -> Iterator[Tensor]:
    """Index batches: fresh permutations of `count`, one after the other, for so many steps."""
    generator = torch.Generator().manual_seed(derive("batches", seed))
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


def cosine(step: int, steps: int, *, warmup: int = 100) -> float:
    """A learning-rate factor: linear warm-up, then half a cosine down to 1 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class Pace:
    """Logs the mean loss and the time left, every `every` steps."""

    def __init__(self, name: str, steps: int, every: int = 200) -> None:
        self.name, self.steps, self.every = name, steps, every
        self.start, self.losses = time.monotonic(), list[Tensor]()

    def step(self, step: int, loss: Tensor) -> None:
        self.losses.append(loss.detach())
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            spent = time.monotonic() - self.start
            left = spent / (step + 1) * (self.steps - step - 1)
            mean = torch.stack(self.losses).mean().item()
            log.info("%s %d/%d loss %.5f, %.0f s, %.0f s left", self.name, step + 1, self.steps, mean, spent, left)
            self.losses.clear()
