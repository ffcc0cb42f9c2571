"""Fixed inputs for scorers, and what came of them once: `golden.json`, beside this file.

    python -m aifeedback_dpo.scorers.golden [LAION_HEAD.pth]

writes it anew from the code as it is, which is right only after a change that was meant. The file named is the published
LAION head V2, whose numbers (not its weights) are kept; without it those that are there stay. That these numbers are the
published scorers' is for tests/parity to show; these tell whether a machine, or an update, still computes them.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from aifeedback_dpo import scorers
from aifeedback_dpo.scorers import Scorer, aesthetic
from aifeedback_dpo.scorers.checkpoints import state_dict
from aifeedback_dpo.scorers.hps import Hps, HpsLegacy
from aifeedback_dpo.scorers.network import open_clip_tokens
from aifeedback_dpo.scorers.pixels import Pictures, PixelRecipe
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import LocatedFile, locate_file

FILE = Path(__file__).with_suffix(".json")
SIZES = {"square": (256, 256), "wide": (320, 200), "tall": (150, 410)}  # width, height
PROMPTS = (
    "a red circle above a blue square",
    'A sign that says "OPEN 24 hours", photo, 35mm',
    "un café naïf — 猫 and a 🐈",
    " ".join(f"word{number}" for number in range(200)),
    "a cat !=",  # its exclamation mark has the id 0, which also pads
)
PIXELS = {"CLIP": PixelRecipe(224), "HPS": Hps.pixels, "HPS without antialias": HpsLegacy.pixels}
EMBEDDED = ("pickscore", "clip", "aesthetic")
WITHOUT_WEIGHTS = ("jpeg", "random")
PROBES = 8
VECTORS = 4


def pictures() -> dict[str, Image.Image]:
    """Gradients, a product that aliases, and a chequerboard: integers of the position, the same everywhere."""
    drawn = {}
    for name, (width, height) in SIZES.items():
        y, x = np.mgrid[:height, :width]
        channels = (7 * x + 13 * y) % 256, (x * y) % 256, 255 * ((x // 16 + y // 16) % 2)
        drawn[name] = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
    return drawn


def pixels(recipe: PixelRecipe) -> dict[str, list[float]]:
    """Of each picture as a tower sees it: mean, standard deviation, and eight values along the tensor."""
    found = {}
    for name, picture in pictures().items():
        tensor = Pictures.of([picture]).tensor(recipe).double().flatten()
        probes = tensor[torch.linspace(0, len(tensor) - 1, PROBES + 2, dtype=torch.float64).long()[1:-1]]
        found[name] = [float(tensor.mean()), float(tensor.std()), *probes.tolist()]
    return found


def tokens() -> dict[str, list[int]]:
    """CLIP's ids of each prompt, with its start and end token and without padding."""
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    rows = open_clip_tokens(tokenizer, 77, to_limit=True)(PROMPTS)[0].tolist()
    ends = [row.index(tokenizer.eot_token_id) + 1 for row in rows]
    return {prompt: row[:end] for prompt, row, end in zip(PROMPTS, rows, ends, strict=True)}


def vectors(width: int) -> Float[Tensor, "b d"]:
    """Unit vectors of integers, in place of image embeddings."""
    at = torch.arange(width)
    rows = torch.stack([(at * (2 * k + 3) + k) % 17 - 8 for k in range(VECTORS)]).double()
    return normalize(rows, dim=1).float()


def head(layers: list[aesthetic.Layer]) -> list[float]:
    """What an aesthetic head makes of the vectors."""
    return [float(value) for value in aesthetic.rate(layers, vectors(layers[0][0].shape[1]))]


def head_id(file: LocatedFile) -> str:
    """A hash of the tensors of a head, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict(file, "an aesthetic head").items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode() + tensor.float().numpy().tobytes())
    return digest.hexdigest()[:32]


def scores(scorer: Scorer) -> list[float]:
    """Each picture with each prompt."""
    drawn = [picture for picture in pictures().values() for _ in PROMPTS]
    numbers: NDArray[np.float32] = scorer.score(Pictures.of(drawn), list(PROMPTS) * len(SIZES))
    return [float(number) for number in numbers]


def known() -> dict[str, Any]:
    """The content of golden.json."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def make(laion: str | None) -> None:
    """Writes golden.json."""
    heads = known().get("heads", {}) if FILE.exists() else {}
    if laion is not None:
        file = locate_file(Weights(id=laion), "")
        heads = {head_id(file): {"name": "LAION V2", "values": _layer_by_layer(file)}}
    embedded = {name: scores(scorers.load(name, ScorerWeights(id="shapes"))) for name in EMBEDDED}
    plain = {name: scores(scorers.load(name, ScorerWeights(id="none"))) for name in WITHOUT_WEIGHTS}
    made = {
        "pixels": {name: pixels(recipe) for name, recipe in PIXELS.items()},
        "tokens": tokens(),
        "heads": heads,
        "shapes": embedded,
        "none": plain,
    }
    FILE.write_text(json.dumps(_rounded(made), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _layer_by_layer(file: LocatedFile) -> list[float]:
    """The linear layers of the published file one after the other, in float64: what our one affine map must come to."""
    tensors = {name: tensor.double() for name, tensor in state_dict(file, "an aesthetic head").items()}
    hidden = vectors(768).double()
    for at in aesthetic.WITH_DROPOUT:
        hidden = hidden @ tensors[f"layers.{at}.weight"].T + tensors[f"layers.{at}.bias"]
    return [float(value) for value in hidden.flatten()]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 7) if isinstance(value, float) else value


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else None)
