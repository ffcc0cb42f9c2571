"""The aesthetic score: a linear head on a CLIP image embedding, blind to the prompt.

LAION's improved predictor (christophschuhmann/improved-aesthetic-predictor) is five linear layers with nothing between
them, that is one affine map of the normalised embedding, and so is this head.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from aifeedback_dpo.config import Weights
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import towers
from aifeedback_dpo.weights import loading, locate


class Aesthetic:
    """A predicted mean rating, nominally 1 to 10. A regression, so no preference probability is defined."""

    slope = None

    def __init__(self, weights: Weights) -> None:
        head = locate(weights, "aesthetic")
        self.towers = towers.load(weights, "clip")
        with loading(head, "an aesthetic head (head.safetensors)"):
            layers = load_file(head.folder / "head.safetensors")
            self.weight, self.bias = layers["weight"].float(), layers["bias"].float()
        self.recipe = content_id("aesthetic", self.towers.stamp, head.revision)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float32]:
        rated = self.towers.embed_images(images) @ self.weight.T + self.bias
        return np.asarray(rated.squeeze(dim=1), dtype=np.float32)
