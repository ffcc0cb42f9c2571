"""One pair as it is exported: two encoded pictures of a prompt, and one judge's view of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Picture:
    """An encoded picture, byte for byte as the run has it, and the model that drew it ("" where nobody knows)."""

    id: str
    model: str
    data: bytes


@dataclass(frozen=True)
class Vote:
    """What one person said, or `count` together; without a name where nobody knows."""

    p_a: float
    annotator: str
    count: int | None
    seconds: float | None


@dataclass(frozen=True)
class Pair:
    """Two pictures of a prompt. `p_a` = P(a preferred), 1/2 a tie, None unjudged; `user` numbers the annotators from 1."""

    number: int
    pair_id: str
    prompt: str
    split: str
    a: Picture
    b: Picture
    p_a: float | None
    votes: int | None
    user: int
    pairs_of_prompt: int

    @property
    def chosen_first(self) -> tuple[Picture, Picture, float]:
        """The preferred picture, the other one, and P(preferred), which is above 1/2 in float32 too."""
        assert self.p_a is not None and self.p_a != 0.5, "a tie has no winner"
        if self.p_a > 0.5:
            return self.a, self.b, self.p_a
        half = np.float32(0.5)
        return self.b, self.a, float(max(np.float32(1 - self.p_a), np.nextafter(half, np.float32(1))))


def model_name(model: str | None) -> str:
    """As others may read it: of a folder of this machine only its name, and "" for a model nobody knows."""
    path = Path(model or "").expanduser()
    return path.name if path.is_absolute() or path.parts[:1] == ("..",) else model or ""
