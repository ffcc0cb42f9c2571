"""PickScore: a CLIP model fine-tuned on which of two pictures people chose (Kirstain et al. 2023, arXiv:2305.01569).

Repositories: yuvalkirstain/PickScore on GitHub, yuvalkirstain/PickScore_v1 on the hub.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import towers
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.settings import ScorerWeights

VERSION = 1  # of this file's arithmetic, in every recipe


class PickScore:
    """exp(logit_scale) * cosine, as published."""

    preference = Preference(1.0, "softmax of two scores, as trained")

    def __init__(self, weights: ScorerWeights) -> None:
        self.towers = towers.load(weights, "pickscore")
        self.truncated = self.towers.truncated
        self.recipe = content_id("pickscore", VERSION, self.towers.stamp)

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self.towers.logit_scale * self.towers.cosines(images, prompts), dtype=np.float32)
