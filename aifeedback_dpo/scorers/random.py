"""A coin toss for each picture: the control that every claim about labels has to beat. Needs no weights."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.config import ScorerWeights
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.seeds import uniform


class Random:
    """Uniform in [0, 1), from a hash of the pixels and the prompt: always the same for the same picture."""

    preference = Preference(None, "it is noise")
    recipe = content_id("random", 1)

    def __init__(self, weights: ScorerWeights) -> None:
        self.truncated: set[str] = set()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float32]:
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
        return np.array([uniform("random", *pair) for pair in zip(digests, prompts, strict=True)], dtype=np.float32)
