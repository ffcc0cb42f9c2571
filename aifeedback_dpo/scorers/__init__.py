"""Scorers, one file each: pictures and prompts in, one raw number a picture out.

A scorer is known by its name in the catalogue, or is a user's own as `module:Class`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.settings import ScorerWeights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class Scorer(Protocol):
    """One float32 number a picture, higher is better, comparable within one prompt; NaN is missing.

    Images are PIL pictures of any mode and size, or uint8 arrays (h, w, 3); one prompt each. `preference` says how two
    numbers become a probability, or why they do not. `recipe` is a hash of all that decides a number: weights,
    preprocessing, arithmetic. `truncated` holds the prompts seen so far that were too long and were cut.
    """

    preference: Preference
    recipe: str
    truncated: set[str]

    def __init__(self, weights: ScorerWeights) -> None: ...

    def score(
        self, images: "Sequence[Image.Image | NDArray[np.uint8]]", prompts: Sequence[str]
    ) -> "NDArray[np.float32]": ...


@dataclass(frozen=True)
class Answer:
    """What a pairwise judge said when `a` was shown first, and when `b` was, and what that comes to.

    A choice is 1 for a, 0 for b, 0.5 for a tie, None where the text could not be read as an answer.
    """

    a_first: str
    b_first: str
    choice_a_first: float | None
    choice_b_first: float | None

    @property
    def p_a(self) -> float | None:
        """The choice if both orders agree, 0.5 if they do not, None if one is missing."""
        if self.choice_a_first is None or self.choice_b_first is None:
            return None
        return self.choice_a_first if self.choice_a_first == self.choice_b_first else 0.5


class PairJudge(Protocol):
    """A judge that looks at two pictures of one prompt, in both orders; it gives no number for a picture alone."""

    recipe: str

    def __init__(self, weights: ScorerWeights) -> None: ...

    def ask(
        self, images_a: "Sequence[Image.Image]", images_b: "Sequence[Image.Image]", prompts: Sequence[str]
    ) -> list[Answer]: ...


def check(name: str) -> None:
    """Raises UserError, with the nearest known name, unless this is a scorer of the catalogue or `module:Class`."""
    if name in CATALOGUE or ":" in name:
        return
    near = get_close_matches(name, CATALOGUE, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    raise UserError(f"no scorer '{name}'{hint} Known: {', '.join(CATALOGUE)}; or give your own as module:Class")


def is_pairwise(name: str, weights: ScorerWeights) -> bool:
    """Whether this scorer judges pairs and not pictures."""
    entry = CATALOGUE.get(weights.uses or name)
    return entry is not None and entry.pairwise


def load(name: str, weights: ScorerWeights) -> Scorer:
    """The scorer of that name with these weights. Raises UserError for an unknown one, ModelMissing without weights."""
    made: Scorer = _code(name, weights)(weights)
    return made


def load_judge(name: str, weights: ScorerWeights) -> PairJudge:
    """The same for a pairwise judge."""
    made: PairJudge = _code(name, weights)(weights)
    return made


def _code(name: str, weights: ScorerWeights) -> type:
    uses = weights.uses or name
    check(uses)
    if uses not in CATALOGUE:
        from aifeedback_dpo.scorers.plugin import find

        return find(uses)
    module, _, attribute = CATALOGUE[uses].code.partition(":")
    found: type = getattr(import_module(module), attribute)
    return found
