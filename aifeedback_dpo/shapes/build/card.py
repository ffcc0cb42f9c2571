"""Measures the finished world on held-out prompts and writes its model card."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from aifeedback_dpo.seeds import derive
from aifeedback_dpo.shapes import raters
from aifeedback_dpo.shapes.build import autoencoder, pickscore
from aifeedback_dpo.shapes.build.data import render_all, sample_scenes
from aifeedback_dpo.shapes.build.pickscore import Gallery
from aifeedback_dpo.shapes.build.vocabulary import tokenizer
from aifeedback_dpo.shapes.grammar import Scene
from aifeedback_dpo.shapes.oracle import Reading, read

RENDERED = 2000
PROMPTS = 160


def measure(
    pipeline: StableDiffusionPipeline, clip: CLIPModel, pick: CLIPModel, head: Path, seed: int
) -> dict[str, Any]:
    """On the tune split, which no weight was trained on and no result is reported on."""
    scenes = sample_scenes(RENDERED, seed=derive("card", seed), split="tune")
    pictures = render_all(scenes, seed=derive("card", seed))
    gallery = pickscore.generate(pipeline, derive("card", seed), count=PROMPTS, split="tune")
    pairs = [pair for group in gallery.groups() for pair in combinations(group, 2)]
    utility = [raters.utility(reading, scene) for reading, scene in zip(gallery.readings, gallery.scenes, strict=True)]
    appeal = [reading.appeal for reading in gallery.readings]
    correct = [reading.correct(scene) for reading, scene in zip(gallery.readings, gallery.scenes, strict=True)]
    votes = [raters.vote(utility[a], utility[b], "card", seed, a, b) for a, b in pairs]
    layers = load_file(head / "head.safetensors")
    rated = (pickscore.embed(clip, gallery.pictures) @ layers["weight"].T + layers["bias"])[:, 0].tolist()
    scores = {"clip": _cosines(clip, gallery), "pickscore": _cosines(pick, gallery), "aesthetic": rated}
    asked = Counter(scene.category for scene in gallery.scenes)
    right = Counter(scene.category for scene, good in zip(gallery.scenes, correct, strict=True) if good)
    differ = [(a, b) for a, b in pairs if correct[a] != correct[b]]
    return {
        "oracle_agrees_with_renderer": _right(pictures, scenes),
        "oracle_agrees_with_reconstruction": _right(autoencoder.rebuild(pipeline.vae, pictures), scenes),
        "base_correct": float(np.mean(correct)),
        "base_correct_by_category": {name: right[name] / asked[name] for name in sorted(asked)},
        "base_appeal_mean": float(np.mean(appeal)),
        "base_appeal_deviation_within_prompt": float(
            np.mean([np.std([appeal[at] for at in group]) for group in gallery.groups()])
        ),
        "votes_agree_with_utility": _accuracy(utility, pairs, votes),
        "scorers": {
            name: {
                "agrees_with_votes": _accuracy(values, pairs, votes),
                "agrees_with_utility": _accuracy(values, pairs, [_order(utility, a, b) for a, b in pairs]),
                "prefers_the_correct": _accuracy(values, differ, [float(correct[a]) for a, _ in differ]),
                "agrees_with_appeal": _accuracy(values, pairs, [_order(appeal, a, b) for a, b in pairs]),
            }
            for name, values in scores.items()
        },
    }


def write(figures: dict[str, Any], seconds: dict[str, float], seed: int) -> str:
    """The card, as Markdown."""
    base, sampling = figures["base_correct_by_category"], pickscore.SAMPLING
    rows = "".join(
        f"| {name} | {row['agrees_with_votes']:.1%} | {row['agrees_with_utility']:.1%} | {row['prefers_the_correct']:.1%} | "
        f"{row['agrees_with_appeal']:.1%} |\n"
        for name, row in figures["scorers"].items()
    )
    categories = ", ".join(f"{name} {share:.0%}" for name, share in base.items())
    deviation = figures["base_appeal_deviation_within_prompt"]
    times = ", ".join(f"{name} {int(spent)} s" for name, spent in seconds.items())
    return f"""---
license: apache-2.0
tags: [text-to-image, diffusion, toy]
---

# shapes: the weights of the embedded world

A latent diffusion model of coloured shapes (48 px, 12x12x4 latents), a CLIP, a PickScore fine-tuned from it on simulated votes,
and an aesthetic head. For demonstrations and tests of preference learning, and for nothing else.

    StableDiffusionPipeline.from_pretrained("pipeline")      CLIPModel.from_pretrained("clip")      # or "pickscore"

Made by `python -m aifeedback_dpo.shapes.build --seed {seed}` from nothing but the renderer and the simulated raters
(torch {torch.__version__}; {times} on two CPU cores). Networks are float16, the
aesthetic head float32.

## Figures

On prompts of the `tune` split, combinations that no weight was trained on: {PROMPTS} prompts, {pickscore.CANDIDATES} pictures,
steps {sampling["num_inference_steps"]}, guidance {sampling["guidance_scale"]}.

| what | |
|---|---|
| the oracle reads rendered pictures right | {figures["oracle_agrees_with_renderer"]:.1%} |
| the oracle reads them right after the autoencoder | {figures["oracle_agrees_with_reconstruction"]:.1%} |
| the base model follows the prompt to the letter | {figures["base_correct"]:.1%} ({categories}) |
| appeal of its pictures: mean, deviation within a prompt | {figures["base_appeal_mean"]:.2f}, {deviation:.2f} |
| one vote agrees with the raters' true utility | {figures["votes_agree_with_utility"]:.1%} |

How often each scorer takes the same side, on pairs of pictures of one prompt:

| scorer | as a vote | as true utility | as correctness, where it differs | as appeal |
|---|---|---|---|---|
{rows}"""


def _right(pictures: Tensor, scenes: list[Scene]) -> float:
    readings: list[Reading] = [read(Image.fromarray(picture.permute(1, 2, 0).numpy())) for picture in pictures]
    return float(np.mean([reading.correct(scene) for reading, scene in zip(readings, scenes, strict=True)]))


def _cosines(model: CLIPModel, gallery: Gallery) -> list[float]:
    tokens = tokenizer()([scene.prompt for scene in gallery.scenes], padding=True, return_tensors="pt")
    with torch.inference_mode():
        said = normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    cosines: list[float] = (pickscore.embed(model, gallery.pictures) * said).sum(dim=-1).tolist()
    return cosines


def _order(values: list[float], a: int, b: int) -> float:
    return (float(np.sign(values[a] - values[b])) + 1) / 2


def _accuracy(values: list[float], pairs: list[tuple[int, int]], wanted: list[float]) -> float:
    """Among pairs where neither side is a tie."""
    sides = [(_order(values, a, b), want) for (a, b), want in zip(pairs, wanted, strict=True)]
    decided = [got == want for got, want in sides if 0.5 not in (got, want)]
    return float(np.mean(decided))
