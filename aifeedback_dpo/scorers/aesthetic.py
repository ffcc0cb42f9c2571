"""The aesthetic score: a small head on the normalised image embedding of a CLIP, blind to the prompt.

LAION's predictors: V1 (LAION-AI/aesthetic-predictor) is one linear layer. V2 (christophschuhmann/
improved-aesthetic-predictor) is five, with nothing between them but the dropout of training: one affine map again, which is
worked out in float64. Its sister `reluMSE` has ReLU between them. The published `.pth` numbers tell which is which.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear

from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from aifeedback_dpo.provenance import file_hash
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import towers
from aifeedback_dpo.scorers.catalogue import CLIP_L
from aifeedback_dpo.scorers.checkpoints import state_dict
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import LocatedFile, locate, locate_file

VERSION = 2  # of this file's arithmetic, in every recipe
HEAD = "head.safetensors"
PUBLISHED = {
    "sac+logos+ava1-l14-linearMSE.pth": "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
}
WITH_DROPOUT = (0, 2, 4, 6, 7)  # where the linear layers of V2 are in its nn.Sequential
WITH_RELU = (0, 3, 6, 9, 11)
Layer = tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]  # weight and bias


class Aesthetic:
    """A predicted mean rating, nominally 1 to 10."""

    preference = Preference(None, "it is a regression of ratings, not of choices")

    def __init__(self, weights: ScorerWeights) -> None:
        file = _locate_head(weights)
        self.layers = read_head(file)
        self.towers = towers.load(_base(weights), "clip")
        if (width := self.layers[0][0].shape[1]) != self.towers.width:
            raise UserError(
                f"the head {file.name} reads embeddings of {width} numbers, and its CLIP {_base(weights).id} gives "
                f"{self.towers.width}; name the CLIP it was trained on with `base`"
            )
        self.truncated: set[str] = set()
        self.recipe = content_id("aesthetic", VERSION, self.towers.stamp, file.revision, file.path.name)

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(rate(self.layers, self.towers.embed_images(images)), dtype=np.float32)


def read_head(file: LocatedFile) -> list[Layer]:
    """The layers of a head, one where they collapse to one. ReLU goes between two of them.

    Raises ModelMissing for a file that is no head, DataError for a published one with other content.
    """
    if (expected := PUBLISHED.get(file.path.name)) and (found := file_hash(file.path.resolve())) != expected:
        raise DataError(f"{file.path} is not the published file: its SHA-256 is {found[:12]}…, not {expected[:12]}…")
    tensors = state_dict(file, "an aesthetic head")
    if tensors.keys() == {"weight", "bias"}:
        layers = [(tensors["weight"], tensors["bias"])]
    else:
        numbers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
        known = tuple(numbers) in (WITH_DROPOUT, WITH_RELU)
        if not known or len(tensors) != 2 * len(numbers):
            raise ModelMissing(
                f"{file.path} holds no aesthetic head that is known here: weight and bias, or layers.N.weight and "
                f"layers.N.bias with N in {WITH_DROPOUT} or {WITH_RELU}; it has {', '.join(sorted(tensors)[:4])}"
            )
        layers = [(tensors[f"layers.{at}.weight"], tensors[f"layers.{at}.bias"]) for at in numbers]
        layers = [_collapse(layers)] if tuple(numbers) == WITH_DROPOUT else layers
    if layers[-1][0].shape[0] != 1:
        raise ModelMissing(f"{file.path} gives {layers[-1][0].shape[0]} numbers a picture; an aesthetic head gives one")
    return [(weight.float(), bias.float()) for weight, bias in layers]


def rate(layers: Sequence[Layer], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """What a head makes of normalised embeddings, float32."""
    hidden = embeddings
    for at, (weight, bias) in enumerate(layers):
        hidden = linear(hidden.relu() if at else hidden, weight, bias)
    return hidden.squeeze(dim=1)


def _collapse(layers: Sequence[Layer]) -> Layer:
    """Affine maps one after the other, as one, in float64."""
    weight, bias = layers[0][0].double(), layers[0][1].double()
    for later, offset in layers[1:]:
        weight, bias = later.double() @ weight, later.double() @ bias + offset.double()
    return weight, bias


def _locate_head(weights: ScorerWeights) -> LocatedFile:
    if weights.id == "shapes":
        found = locate(weights, "aesthetic")
        return LocatedFile(found.folder / HEAD, found.name, found.revision)
    return locate_file(weights, weights.file or HEAD)


def _base(weights: ScorerWeights) -> Weights:
    """The CLIP under the head; LAION's V2 heads stand on OpenAI's ViT-L/14."""
    if weights.id == "shapes":
        return Weights(id="shapes", dtype=weights.dtype)
    if weights.base and weights.base.dtype != weights.dtype != "float32":
        raise UserError(
            f"an aesthetic head is float32; set base.dtype={weights.dtype}, and not dtype, to run its CLIP so"
        )
    return weights.base or CLIP_L.model_copy(update={"dtype": weights.dtype})
