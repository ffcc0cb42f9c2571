"""CLIP score: how well a picture fits its prompt (Radford et al. 2021, arXiv:2103.00020).

Published elsewhere times 100, or as 2.5 * max(cosine, 0) after "A photo depicts" (Hessel et al. 2021, arXiv:2104.08718); here
it is the cosine itself, of CLIP, SigLIP (Zhai et al. 2023, arXiv:2303.15343) or SigLIP 2.
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


class Clip:
    """The cosine of picture and prompt, in [-1, 1]."""

    preference = Preference(None, "CLIP was trained to match captions, not on preferences")

    def __init__(self, weights: ScorerWeights) -> None:
        self.towers = towers.load(weights, "clip")
        self.truncated = self.towers.truncated
        self.recipe = content_id("clip", VERSION, self.towers.stamp)

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self.towers.cosines(images, prompts), dtype=np.float32)
