"""The colour of a detected object, by a CLIP that chooses among ten names, as GenEval does (arXiv:2310.11513).

The object alone, on grey where its pixels are known, cut out by its box; of each colour the mean of three sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aifeedback_dpo.compare.geneval import COLOURS, Detection

if TYPE_CHECKING:
    from aifeedback_dpo.scorers.towers import Towers

GREY = "#999"
SENTENCES = ("a photo of a {colour} {label}", "a photo of a {colour}-colored {label}", "a photo of a {colour} object")


@dataclass(frozen=True)
class Naming:
    """The colours of objects in one picture."""

    towers: "Towers"
    picture: Image.Image

    def __call__(self, label: str, objects: Sequence[Detection]) -> list[str]:
        import torch
        from torch.nn.functional import normalize

        texts = [sentence.format(colour=colour, label=label) for colour in COLOURS for sentence in SENTENCES]
        read = self.towers.embed_prompts(texts).reshape(len(COLOURS), len(SENTENCES), -1)
        names = normalize(read.mean(dim=1), dim=-1)
        seen = self.towers.embed_images([cutting(self.picture, one) for one in objects])
        chosen: list[int] = torch.argmax(seen @ names.T, dim=1).tolist()
        return [COLOURS[at] for at in chosen]


def cutting(picture: Image.Image, one: Detection) -> Image.Image:
    """An object's box, with grey for what is not the object; the box as it is where its pixels are not known."""
    if one.mask is not None:
        mask = Image.fromarray(one.mask.astype(np.uint8) * 255)
        picture = Image.composite(picture, Image.new("RGB", picture.size, GREY), mask)
    left, top, right, bottom = (round(side) for side in one.box)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
