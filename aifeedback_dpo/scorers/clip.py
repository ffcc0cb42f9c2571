"""CLIP score: how well a picture fits its prompt (Radford et al. 2021, arXiv:2103.00020)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.config import Weights
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import towers


class Clip:
    """The cosine of picture and prompt, in [-1, 1]. It was never trained on preferences, so no probability is defined."""

    slope = None

    def __init__(self, weights: Weights) -> None:
        self.towers = towers.load(weights, "clip")
        self.recipe = content_id("clip", self.towers.stamp)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self.towers.cosines(images, prompts), dtype=np.float32)
