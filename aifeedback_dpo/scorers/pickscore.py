"""PickScore: a CLIP model fine-tuned on which of two pictures people chose (Kirstain et al. 2023, arXiv:2305.01569)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.config import Weights
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import towers


class PickScore:
    """exp(logit_scale) * cosine, as published. Trained by a softmax over two such numbers, so the slope is 1."""

    slope = 1.0

    def __init__(self, weights: Weights) -> None:
        self.towers = towers.load(weights, "pickscore")
        self.recipe = content_id("pickscore", self.towers.stamp)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self.towers.logit_scale * self.towers.cosines(images, prompts), dtype=np.float32)
