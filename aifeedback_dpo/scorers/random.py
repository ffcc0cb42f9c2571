"""A coin toss for each picture: the control that every claim about labels has to beat. Needs no weights."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.scorers.presence import takes_no_weights
from aifeedback_dpo.seeds import uniform
from aifeedback_dpo.settings import ScorerWeights

VERSION = 2  # of this file's arithmetic, in every recipe


class Random:
    """Uniform in [0, 1), from a hash of the RGB pixels and the prompt: always the same for the same picture."""

    preference = Preference(None, "it is noise")
    recipe = content_id("random", VERSION)

    def __init__(self, weights: ScorerWeights) -> None:
        takes_no_weights("random", weights)
        self.truncated: set[str] = set()

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        digests = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in Pictures.of(images)]
        return np.array([uniform("random", *pair) for pair in zip(digests, prompts, strict=True)], dtype=np.float32)
