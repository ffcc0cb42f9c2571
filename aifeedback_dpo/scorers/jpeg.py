"""Compressibility: how small a picture is as JPEG (Black et al. 2023, arXiv:2305.13301). Needs no weights.

Plain pictures win. It says nothing about quality, and so it shows whether a pipeline optimises what it is told to.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, __version__, features

from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.scorers.presence import takes_no_weights
from aifeedback_dpo.settings import ScorerWeights

VERSION = 1  # of this file's arithmetic, in every recipe
QUALITY = 95


class Jpeg:
    """Minus the kilobytes (of 1000 bytes) of the RGB picture as Pillow writes it at quality 95."""

    preference = Preference(None, "it is a file size")

    def __init__(self, weights: ScorerWeights) -> None:
        takes_no_weights("jpeg", weights)
        encoder = [features.version(library) for library in ("libjpeg_turbo", "jpg")]
        self.recipe = content_id("jpeg", VERSION, QUALITY, __version__, encoder)
        self.truncated: set[str] = set()

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([-_size(picture) / 1000 for picture in Pictures.of(images)], dtype=np.float32)


def _size(picture: Image.Image) -> int:
    """In bytes."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.tell()
