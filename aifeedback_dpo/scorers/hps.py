"""HPS v2.0 and v2.1: a CLIP ViT-H/14 fine-tuned on ranked pictures (Wu et al. 2023, arXiv:2306.09341; tgxs002/HPSv2).

The published code turns a picture into floats first, then resizes its longest side and puts bars around, without saying
whether to antialias: torchvision up to 0.16 did not, and later ones do. On real pictures that moves a pixel by about 5 of
255. `Hps` antialiases, as the package does today; `HpsLegacy` does not, as it did when its tables were printed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import open_clip_towers, towers
from aifeedback_dpo.scorers.pixels import PixelRecipe
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.weights import locate_file

VERSION = 1  # of this file's arithmetic, in every recipe
ARCHITECTURE = "ViT-H-14"
PIXELS = PixelRecipe(size=224, resize="longest", how="tensor")


class Hps:
    """The cosine, about 0.2 to 0.35, comparable within one prompt. (The benchmark prints it times 100.)

    Trained by a softmax over cosines times a temperature that is clamped at 100 (src/training/train.py).
    """

    preference = Preference(100.0, "softmax of two scores times 100, as trained")
    pixels = PIXELS

    def __init__(self, weights: ScorerWeights) -> None:
        if weights.file is None and not Path(weights.id).expanduser().is_file():
            raise UserError(
                f"{weights.id} has several versions; name one with `file`, as in file=HPS_v2.1_compressed.pt"
            )
        checkpoint = open_clip_towers.architecture_beside(locate_file(weights, weights.file or ""), ARCHITECTURE)
        pixels = replace(self.pixels, size=checkpoint.image_size)
        identity = content_id(checkpoint.identity, pixels.stamp())
        self.towers = towers.shared(identity, weights.dtype, lambda: checkpoint.load(pixels))
        self.truncated = self.towers.truncated
        self.recipe = content_id("hps", VERSION, self.towers.stamp)

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self.towers.cosines(images, prompts), dtype=np.float32)


class HpsLegacy(Hps):
    """The same, resized without antialias."""

    pixels = replace(PIXELS, antialias=False)
