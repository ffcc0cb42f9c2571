"""Draws a scene as a person might: the prompt fixes what is there, everything else varies freely.

Free are the place and size of the objects, how vivid their colours are, and the tone and warmth of the ground. These
are the very axes of appeal (oracle.py), so a model trained on these pictures has something for a preference to move.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aifeedback_dpo.shapes.grammar import Kind, Scene

SIZE = 48
SUPERSAMPLING = 4
MARGIN = 1.5
GAP = 4.0

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.14, 0.14),
    "yellow": (0.95, 0.80, 0.10),
    "green": (0.15, 0.68, 0.20),
    "cyan": (0.10, 0.75, 0.80),
    "blue": (0.16, 0.26, 0.90),
    "purple": (0.70, 0.18, 0.78),
}
LUMA = np.array([0.299, 0.587, 0.114])
RADII = {1: (7.0, 16.0), 2: (5.5, 11.0), 3: (5.5, 8.5), 4: (5.5, 7.5)}

Rgb = NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """An object on the canvas: centre and half-width in pixels."""

    kind: Kind
    x: float
    y: float
    radius: float


def shade(colour: str, vividness: float) -> Rgb:
    """The colour in RGB [0, 1], faded towards the grey of its own brightness as vividness falls from 1 to 0."""
    full = np.array(PALETTE[colour])
    return vividness * full + (1 - vividness) * float(full @ LUMA)


def ground_colour(tone: float, warmth: float) -> Rgb:
    """The ground in RGB [0, 1]: tone 0 dusk to 1 paper, warmth -1 bluish to 1 cream."""
    return np.clip(0.30 + 0.64 * tone + warmth * np.array([0.05, 0.02, -0.06]), 0, 1)


def outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The corners of a shape that fills the square of half-width `radius` around (x, y); a circle as 48 corners."""
    if shape == "square":
        unit = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    elif shape == "triangle":
        unit = [(0.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    elif shape == "cross":
        a = 0.34
        unit = [
            (-a, -1),
            (a, -1),
            (a, -a),
            (1, -a),
            (1, a),
            (a, a),
            (a, 1),
            (-a, 1),
            (-a, a),
            (-1, a),
            (-1, -a),
            (-a, -a),
        ]
    else:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        unit = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    return [(x + radius * dx, y + radius * dy) for dx, dy in unit]


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """One picture of the scene, 48x48 RGB; the generator decides everything that the prompt leaves open."""
    vividness = rng.uniform(0.5, 1.0)
    ground = ground_colour(rng.uniform(), rng.uniform(-1, 1))
    return draw(place(scene, rng), ground, vividness)


def draw(objects: list[Placed], ground: Rgb, vividness: float) -> Image.Image:
    """Flat shapes on a flat ground, with edges smoothed by supersampling."""
    scale = SUPERSAMPLING
    canvas = Image.new("RGB", (SIZE * scale, SIZE * scale), _bytes(ground))
    pen = ImageDraw.Draw(canvas)
    for thing in objects:
        corners = outline(thing.kind.shape, thing.x, thing.y, thing.radius)
        pen.polygon([(x * scale, y * scale) for x, y in corners], fill=_bytes(shade(thing.kind.colour, vividness)))
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Places that keep the relation, stay on the canvas and leave a gap between the objects."""
    low, high = RADII[len(scene.objects)]
    while True:
        placed: list[Placed] = []
        shared = rng.uniform(low, high)
        for kind in scene.objects:
            radius = float(np.clip(shared * rng.uniform(0.85, 1.15), low, high))
            x, y = rng.uniform(radius + MARGIN, SIZE - radius - MARGIN, size=2)
            placed.append(Placed(kind, float(x), float(y), radius))
        if _apart(placed) and (scene.relation is None or related(scene.relation, placed[0], placed[1], 0.7)):
            return placed


def related(relation: str, first: Placed, second: Placed, slant: float = 1.0) -> bool:
    """Whether the first stands so to the second: its centre lies that way, off-axis by less than `slant` of the way."""
    dx, dy = second.x - first.x, second.y - first.y
    along, across = {"above": (dy, dx), "below": (-dy, dx), "left of": (dx, dy), "right of": (-dx, dy)}[relation]
    return along > 0 and abs(across) < slant * along


def _apart(objects: list[Placed]) -> bool:
    return all(
        max(abs(a.x - b.x), abs(a.y - b.y)) >= a.radius + b.radius + GAP
        for i, a in enumerate(objects)
        for b in objects[:i]
    )


def _bytes(colour: Rgb) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(channel)) for channel in colour)
    return red, green, blue
