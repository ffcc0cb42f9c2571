"""Reads a picture back: which objects are there, whether the prompt is followed, and how much the picture pleases.

Correctness works as GenEval's detectors do (arXiv:2310.11513): find the objects, name colour and shape, count them,
compare their places. Here it is exact, because the world is flat shapes on a flat ground.

Appeal is a stated function of the pixels in [0, 1], blind to the prompt:

    appeal = 0.3 size + 0.3 vividness + 0.3 ground + 0.1 clean

    size       share of the picture that the objects cover, full at 30 %
    vividness  mean chroma (max - min of RGB) of the objects, full at 0.6
    ground     how bright and warm the ground is: cream paper 1, bluish dusk 0
    clean      1 - the share of half-tone pixels, neither ground nor object, among all that are not ground
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from aifeedback_dpo.shapes.grammar import SHAPES, Kind, Scene
from aifeedback_dpo.shapes.renderer import LUMA, PALETTE, Placed, outline, related

CONTRAST = 0.13
SPECK = 9
TEMPLATE = 24

Pixels = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """What the oracle sees in one picture."""

    objects: tuple[Placed, ...]
    appeal: float

    def checks(self, scene: Scene) -> tuple[bool, ...]:
        """One answer for each thing the prompt asks: every object there, nothing more, the relation kept."""
        wanted, seen = Counter(scene.objects), Counter(thing.kind for thing in self.objects)
        present = [seen[kind] >= nth for kind, count in wanted.items() for nth in range(1, count + 1)]
        answers = [*present, sum(seen.values()) <= len(scene.objects)]
        if scene.relation:
            first, second = (self._only(kind) for kind in scene.objects)
            answers.append(first is not None and second is not None and related(scene.relation, first, second))
        return tuple(answers)

    def correct(self, scene: Scene) -> bool:
        """Whether the prompt is followed to the letter."""
        return all(self.checks(scene))

    def alignment(self, scene: Scene) -> float:
        """The share of checks passed, in [0, 1]; 1 means correct."""
        answers = self.checks(scene)
        return sum(answers) / len(answers)

    def _only(self, kind: Kind) -> Placed | None:
        found = [thing for thing in self.objects if thing.kind == kind]
        return found[0] if len(found) == 1 else None


def read(image: Image.Image) -> Reading:
    """Objects and appeal of one RGB picture."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    ground = _ground(pixels)
    contrast = np.linalg.norm(pixels - ground, axis=2)
    masks = _components(contrast)
    objects = tuple(_describe(pixels, contrast, mask) for mask in masks)
    return Reading(objects, _appeal(pixels, ground, contrast, masks))


def _ground(pixels: Pixels) -> Pixels:
    rim = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, :2].reshape(-1, 3)])
    return np.asarray(np.median(np.concatenate([rim, pixels[:, -2:].reshape(-1, 3)]), axis=0), dtype=np.float32)


def _components(contrast: Pixels) -> list[Mask]:
    """Connected regions that stand out from the ground, each cut at half its own contrast; specks are left out."""
    labels, count = ndimage.label(contrast > CONTRAST)
    regions = [labels == index for index in range(1, count + 1)]
    cut = [region & (contrast > 0.5 * np.percentile(contrast[region], 90)) for region in regions]
    return [mask for mask in cut if mask.sum() >= SPECK]


def _describe(pixels: Pixels, contrast: Pixels, mask: Mask) -> Placed:
    core = mask & (contrast >= np.percentile(contrast[mask], 40))
    rows, columns = np.nonzero(mask)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    coverage = np.clip(contrast / np.median(contrast[core]), 0, 1) * mask
    kind = Kind(_colour(np.median(pixels[core], axis=0)), _shape(coverage[top:bottom, left:right]))
    radius = max(bottom - top, right - left) / 2
    return Placed(kind, float(left + right) / 2, float(top + bottom) / 2, float(radius))


def _colour(rgb: Pixels) -> str:
    """The palette colour of the nearest hue; a thing with hardly any hue is grey."""
    chroma = rgb - float(rgb @ LUMA)
    strength = float(np.linalg.norm(chroma))
    if strength < 0.08:
        return "grey"
    return max(PALETTE, key=lambda name: float(chroma @ _hue(name)) / strength)


@cache
def _hue(name: str) -> Pixels:
    full = np.array(PALETTE[name])
    chroma = full - float(full @ LUMA)
    return np.asarray(chroma / np.linalg.norm(chroma), dtype=np.float32)


def _shape(coverage: Pixels) -> str:
    """The shape whose template overlaps best (intersection over union); a thing too long to be any is a bar."""
    height, width = coverage.shape
    if max(height, width) > 1.7 * min(height, width):
        return "bar"
    stretched = Image.fromarray(coverage.astype(np.float32)).resize((TEMPLATE, TEMPLATE), Image.Resampling.BILINEAR)
    seen = np.asarray(stretched)

    def overlap(shape: str) -> float:
        template = _template(shape)
        return float(np.minimum(seen, template).sum() / np.maximum(seen, template).sum())

    return max(SHAPES, key=overlap)


@cache
def _template(shape: str) -> Pixels:
    from PIL import ImageDraw

    scale = 8
    canvas = Image.new("L", (TEMPLATE * scale, TEMPLATE * scale))
    half = TEMPLATE * scale / 2
    ImageDraw.Draw(canvas).polygon(outline(shape, half, half, half), fill=255)
    return np.asarray(canvas.resize((TEMPLATE, TEMPLATE), Image.Resampling.BOX), dtype=np.float32) / 255


def _appeal(pixels: Pixels, ground: Pixels, contrast: Pixels, masks: list[Mask]) -> float:
    covered = np.logical_or.reduce(masks) if masks else np.zeros(contrast.shape, dtype=bool)
    size = min(float(covered.mean()) / 0.30, 1.0)
    chroma = pixels.max(axis=2) - pixels.min(axis=2)
    vividness = min(float(chroma[covered].mean()) / 0.6, 1.0) if masks else 0.0
    brightness = (float(ground @ LUMA) - 0.30) / 0.64
    warmth = (float(ground[0] - ground[2]) + 0.11) / 0.22
    paper = float(np.clip(0.6 * np.clip(brightness, 0, 1) + 0.4 * np.clip(warmth, 0, 1), 0, 1))
    standing_out = contrast > 0.06
    half_tone = standing_out & ~covered
    clean = 1 - float(half_tone.sum() / max(standing_out.sum(), 1))
    return 0.3 * size + 0.3 * vividness + 0.3 * paper + 0.1 * clean
