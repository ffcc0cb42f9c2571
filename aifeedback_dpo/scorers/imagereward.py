"""ImageReward v1.0: BLIP and a reward head, trained on people's rankings (Xu et al. 2023, arXiv:2304.05977).

The published checkpoint (repository zai-org/ImageReward) is read as it is, every tensor accounted for.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import BertTokenizer

from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.blip import VERSION as BLIP_VERSION
from aifeedback_dpo.scorers.blip import Blip, Sizes
from aifeedback_dpo.scorers.checkpoints import fill, state_dict
from aifeedback_dpo.scorers.pixels import Pictures, PixelRecipe
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.scorers.pretrained import CLOSED
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import Located, LocatedFile, loading, locate, locate_file

VERSION = 1  # of this file's arithmetic, in every recipe; blip has its own
FILE = "ImageReward.pt"
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072  # by which the authors standardise
TOKENS = 35
UNUSED = {  # BLIP's contrastive heads, and positions that are 0, 1, 2, ...
    "blip.vision_proj.weight",
    "blip.vision_proj.bias",
    "blip.text_proj.weight",
    "blip.text_proj.bias",
    "blip.text_encoder.embeddings.position_ids",
}


class MedConfig(NamedTuple):
    """What no tensor shows of the text encoder, as published."""

    num_attention_heads: int = 12
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"


class RewardModel(nn.Module):
    """The whole network under the names of the published checkpoint."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.blip = Blip(sizes)
        self.mlp = Head(sizes.text_width)


class Head(nn.Module):
    """Five linear layers with nothing between them but the dropout of training, which holds places in the numbering."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        rewards: Tensor = self.layers(features).squeeze(dim=1)
        return rewards


class ImageReward:
    """The reward, standardised as published, mostly -2 to 2.

    It was trained by a softmax over two rewards before they are standardised, so their deviation is the slope.
    """

    preference = Preference(DEVIATION, "softmax of two rewards, as trained")

    def __init__(self, weights: ScorerWeights) -> None:
        checkpoint = locate_file(weights, weights.file or FILE)
        vocabulary = _vocabulary(weights.base, checkpoint)
        with loading(vocabulary, "a BERT tokenizer"):
            self.tokenizer = BertTokenizer.from_pretrained(vocabulary.folder, **CLOSED)
        config = _med_config(checkpoint)
        self.model, sizes = read(checkpoint, config)
        if len(self.tokenizer) > sizes.vocabulary:
            raise ModelMissing(
                f"{vocabulary.folder} has {len(self.tokenizer)} tokens and {checkpoint.path} knows {sizes.vocabulary}; "
                "set `base` to the tokenizer that it was trained with, bert-base-uncased"
            )
        self.dtype = getattr(torch, weights.dtype)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device).blip.to(self.dtype)
        self.pixels = PixelRecipe(sizes.image_side)
        source = (checkpoint.revision, checkpoint.path.name)  # one commit of the hub may hold several checkpoints
        self.tower = content_id("blip", BLIP_VERSION, *source, weights.dtype, self.pixels.stamp())
        self.recipe = content_id("imagereward", VERSION, self.tower, config, vocabulary.revision, TOKENS)
        self.truncated: set[str] = set()

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        image = self._see(Pictures.of(images))
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        ).to(self.device)
        self.truncated.update(prompt for prompt in set(prompts) if self._length(prompt) > TOKENS)
        hidden = self.model.blip.text_encoder(tokens["input_ids"], tokens["attention_mask"].bool(), image)
        rewards = self.model.mlp(hidden[:, 0].float())
        return np.asarray(((rewards - MEAN) / DEVIATION).cpu(), dtype=np.float32)

    def _see(self, pictures: Pictures) -> Float[Tensor, "b n c"]:
        """The image tokens; the memo serves another scorer on the very same BLIP."""
        if self.tower not in pictures.memo:
            pixels = pictures.tensor(self.pixels).to(self.device, self.dtype)
            pictures.memo[self.tower] = self.model.blip.visual_encoder(pixels)
        return pictures.memo[self.tower]

    def _length(self, prompt: str) -> int:
        """In tokens, with the first and the last."""
        return len(self.tokenizer(prompt, verbose=False)["input_ids"])


def read(checkpoint: LocatedFile, config: MedConfig) -> tuple[RewardModel, Sizes]:
    """The network with the tensors of a checkpoint, on the CPU. Raises ModelMissing unless each one has its place."""
    what = "ImageReward weights"
    tensors = {name: value for name, value in state_dict(checkpoint, what).items() if name not in UNUSED}
    with loading(checkpoint, what):
        blip = {name.removeprefix("blip."): value for name, value in tensors.items()}
        sizes = Sizes.read(blip, text_heads=config.num_attention_heads, text_epsilon=config.layer_norm_eps)
    with torch.device("meta"):  # without the seconds that random weights take
        model = RewardModel(sizes)
    model.to_empty(device="cpu")
    fill(model, tensors, checkpoint, what)
    return model.eval().requires_grad_(False), sizes


def _med_config(checkpoint: LocatedFile) -> MedConfig:
    """From med_config.json where it lies beside the checkpoint, or else as published."""
    path = checkpoint.path.parent / "med_config.json"
    if not path.is_file():
        return MedConfig()
    with loading(LocatedFile(path, checkpoint.name, checkpoint.revision), "the configuration of a text encoder"):
        written = json.loads(path.read_text(encoding="utf-8"))
        config = MedConfig(**{key: written[key] for key in MedConfig._fields})
        if config.hidden_act != MedConfig().hidden_act:
            raise ValueError(f"hidden_act is {config.hidden_act}, and only gelu is known")
    return config


def _vocabulary(base: Weights | None, checkpoint: LocatedFile) -> Located:
    """The folder of the tokenizer: `base`, or where the checkpoint lies."""
    folder = checkpoint.path.parent
    if base is None and not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise ModelMissing(
            f"{folder} holds no tokenizer; set `base` to bert-base-uncased, as in label.scorers.imagereward.base.id=FOLDER"
        )
    return locate(base or Weights(id=str(folder)), "tokenizer")
