"""Scorers, one file each: pictures and prompts in, one raw number a picture out.

A scorer is found by name in the table below.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

REGISTRY = {
    "pickscore": "aifeedback_dpo.scorers.pickscore:PickScore",
    "clip": "aifeedback_dpo.scorers.clip:Clip",
    "aesthetic": "aifeedback_dpo.scorers.aesthetic:Aesthetic",
    "random": "aifeedback_dpo.scorers.random:Random",
}


class Scorer(Protocol):
    """`score` gives float32 numbers, higher is better, comparable within one prompt.

    `slope` turns two of them into a probability, P(a over b) = sigmoid(slope * (score_a - score_b)), where the model was
    trained to give one; None says that only the order means anything. `recipe` is a hash of all that decides a score:
    weights, preprocessing, arithmetic.
    """

    slope: float | None
    recipe: str

    def __init__(self, weights: Weights) -> None: ...

    def score(self, images: "Sequence[Image.Image]", prompts: Sequence[str]) -> "NDArray[np.float32]": ...


def check(name: str) -> None:
    """Raises UserError, with the nearest known name, unless this is a scorer."""
    if name in REGISTRY:
        return
    near = get_close_matches(name, REGISTRY, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    raise UserError(f"no scorer '{name}'{hint} Known: {', '.join(REGISTRY)}")


def load(name: str, weights: Weights) -> Scorer:
    """The scorer of that name with these weights. Raises UserError for an unknown one, ModelMissing without weights."""
    check(name)
    module, _, attribute = REGISTRY[name].partition(":")
    made: Scorer = getattr(import_module(module), attribute)(weights)
    return made
