"""The prompts of the embedded world: what can be said, what it means, and who may train on it.

    a red circle                          single
    three green squares                   counting
    a red circle and a blue square        colours
    a red circle above a blue square      position     (also: below, left of, right of)

The categories are GenEval's (Ghosh et al. 2023, arXiv:2310.11513). Prompts are split by what they combine: all prompts
about one pair of kinds fall into the same split, so that a held-out prompt is a combination nobody has trained on.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Literal

from aifeedback_dpo.seeds import derive, uniform

Split = Literal["train", "tune", "eval"]

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
RELATIONS = ("above", "below", "left of", "right of")
COUNTS = {"two": 2, "three": 3, "four": 4}
SHARES = {"single": 0.05, "counting": 0.1, "colours": 0.35, "position": 0.5}


@dataclass(frozen=True, order=True)
class Kind:
    """A colour and a shape: what an object is."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def plural(self) -> str:
        return f"{self.colour} {self.shape}{'es' if self.shape == 'cross' else 's'}"


KINDS = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for: the objects, in order, and how the first stands to the second."""

    objects: tuple[Kind, ...]
    relation: str | None = None

    @property
    def category(self) -> str:
        if self.relation:
            return "position"
        if len(self.objects) == 1:
            return "single"
        return "counting" if len(set(self.objects)) == 1 else "colours"

    @property
    def prompt(self) -> str:
        first, *rest = self.objects
        if self.relation:
            return f"a {first} {self.relation} a {rest[0]}"
        if not rest:
            return f"a {first}"
        if rest[0] != first:
            return f"a {first} and a {rest[0]}"
        word = next(word for word, count in COUNTS.items() if count == len(self.objects))
        return f"{word} {first.plural}"

    @property
    def split(self) -> Split:
        """By a hash of the combination: 62 % train, 14 % tune, 24 % eval; single objects are always train."""
        if self.category == "single":
            return "train"
        kinds = sorted({str(kind) for kind in self.objects})
        draw = uniform("shapes-split", *kinds, len(self.objects) if len(kinds) == 1 else 0)
        return "train" if draw < 0.62 else "tune" if draw < 0.76 else "eval"


@cache
def scenes() -> dict[str, Scene]:
    """Every scene of the world by its prompt, in a fixed order."""
    single = [Scene((kind,)) for kind in KINDS]
    counting = [Scene((kind,) * count) for kind in KINDS for count in COUNTS.values()]
    pairs = list(itertools.permutations(KINDS, 2))
    colours = [Scene(pair) for pair in pairs]
    position = [Scene(pair, relation) for pair in pairs for relation in RELATIONS]
    return {scene.prompt: scene for scene in [*single, *counting, *colours, *position]}


def parse(prompt: str) -> Scene | None:
    """The scene a prompt asks for, or None where the grammar does not know it."""
    return scenes().get(" ".join(prompt.lower().split()))


def prompts(split: Split, count: int | None = None) -> list[str]:
    """The first `count` prompts of a split (all by default), shuffled once and for all.

    However many are taken, half of them are about position and a third about colours, for as long as a category lasts.
    """
    return list(_shuffled(split)[:count])


@cache
def _shuffled(split: Split) -> tuple[str, ...]:
    by_category: dict[str, list[str]] = {}
    for prompt, scene in scenes().items():
        if scene.split == split:
            by_category.setdefault(scene.category, []).append(prompt)
    placed: list[tuple[float, str]] = []
    for category, chosen in by_category.items():
        shuffled = sorted(chosen, key=lambda prompt: derive("shapes-order", prompt))
        placed += [((rank + 0.5) / SHARES[category], prompt) for rank, prompt in enumerate(shuffled)]
    return tuple(prompt for _, prompt in sorted(placed))
