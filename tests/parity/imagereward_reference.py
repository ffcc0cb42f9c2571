"""ImageReward on random weights in the published file format, and what transformers' own BLIP makes of the same ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Normalize, PILToTensor, Resize, ToDtype
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from aifeedback_dpo import scorers
from aifeedback_dpo.settings import ScorerWeights, Weights
from tests.parity.references import Case

SIDE, PATCH, IMAGE_WIDTH, TEXT_WIDTH, LAYERS = 32, 8, 128, 48, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "red", "on", "hat", "##s", "photo", "of", ","]
MED_CONFIG = {"num_attention_heads": 4, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "hidden_size": TEXT_WIDTH}
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
LONG = "a red cat on a photo of dogs , " * 25  # 225 tokens
PROMPTS = ["a red cat", "dogs on hats", "", LONG, "A photo of a zebra , on a hat", "on"]


def write(folder: Path) -> Path:
    """A folder as published: the checkpoint and the configuration of its text encoder."""
    torch.save(checkpoint(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED_CONFIG))
    return folder


def write_bert(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """A BERT tokenizer that knows these words."""
    BertTokenizer(vocab={word: at for at, word in enumerate(words)}).save_pretrained(folder)
    return folder


def load(folder: Path, bert: Path, **settings: object) -> scorers.Scorer:
    return scorers.load("imagereward", ScorerWeights(id=str(folder), base=Weights(id=str(bert)), **settings))


def case(root: Path) -> Case:
    """For the table of benchmarks/parity.py; the numbers are in deviations of the reward."""
    bert = write_bert(root / "bert")
    reference = Reference(bert, heads=MED_CONFIG["num_attention_heads"], epsilon=MED_CONFIG["layer_norm_eps"])
    scorer = load(write(root), bert)
    return Case("imagereward", "transformers BlipVisionModel and BlipTextModel, float64", scorer, reference.scores)


def linear(name: str, width_in: int, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(width, width_in) / width_in**0.5, f"{name}.bias": 0.1 * torch.randn(width)}


def norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + 0.1 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}


def checkpoint() -> dict[str, Tensor]:
    """Random weights under the names of ImageReward.pt; embeddings so small that the epsilons of the norms matter."""
    torch.manual_seed(0)
    image, text = "blip.visual_encoder", "blip.text_encoder"
    state = {
        f"{image}.cls_token": 0.01 * torch.randn(1, 1, IMAGE_WIDTH),
        f"{image}.pos_embed": 0.01 * torch.randn(1, (SIDE // PATCH) ** 2 + 1, IMAGE_WIDTH),
        f"{image}.patch_embed.proj.weight": 0.001 * torch.randn(IMAGE_WIDTH, 3, PATCH, PATCH),
        f"{image}.patch_embed.proj.bias": 0.01 * torch.randn(IMAGE_WIDTH),
        **norm(f"{image}.norm", IMAGE_WIDTH),
        f"{text}.embeddings.position_ids": torch.arange(64)[None],
        f"{text}.embeddings.word_embeddings.weight": 0.01 * torch.randn(20, TEXT_WIDTH),
        f"{text}.embeddings.position_embeddings.weight": 0.01 * torch.randn(64, TEXT_WIDTH),
        **norm(f"{text}.embeddings.LayerNorm", TEXT_WIDTH),
        **linear("blip.vision_proj", IMAGE_WIDTH, 8),
        **linear("blip.text_proj", TEXT_WIDTH, 8),
    }
    for at in range(LAYERS):
        block, layer = f"{image}.blocks.{at}", f"{text}.encoder.layer.{at}"
        state |= norm(f"{block}.norm1", IMAGE_WIDTH) | norm(f"{block}.norm2", IMAGE_WIDTH)
        state |= linear(f"{block}.attn.qkv", IMAGE_WIDTH, 3 * IMAGE_WIDTH)
        state |= linear(f"{block}.attn.proj", IMAGE_WIDTH, IMAGE_WIDTH)
        state |= linear(f"{block}.mlp.fc1", IMAGE_WIDTH, 4 * IMAGE_WIDTH)
        state |= linear(f"{block}.mlp.fc2", 4 * IMAGE_WIDTH, IMAGE_WIDTH)
        for name, seen in (("attention", TEXT_WIDTH), ("crossattention", IMAGE_WIDTH)):
            state |= linear(f"{layer}.{name}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            state |= linear(f"{layer}.{name}.self.key", seen, TEXT_WIDTH)
            state |= linear(f"{layer}.{name}.self.value", seen, TEXT_WIDTH)
            state |= linear(f"{layer}.{name}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            state |= norm(f"{layer}.{name}.output.LayerNorm", TEXT_WIDTH)
        state |= linear(f"{layer}.intermediate.dense", TEXT_WIDTH, 100) | linear(
            f"{layer}.output.dense", 100, TEXT_WIDTH
        )
        state |= norm(f"{layer}.output.LayerNorm", TEXT_WIDTH)
    for at, (width_in, width) in {0: (TEXT_WIDTH, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}.items():
        state |= linear(f"mlp.layers.{at}", width_in, width)
    return state


class Reference:
    """The same numbers in float64 from transformers' modules, torchvision's transforms and a plain Sequential."""

    def __init__(self, bert: Path, *, heads: int, epsilon: float) -> None:
        state = checkpoint()
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=IMAGE_WIDTH,
                intermediate_size=4 * IMAGE_WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=IMAGE_WIDTH // 64,
                image_size=SIDE,
                patch_size=PATCH,
                layer_norm_eps=1e-6,
                hidden_act="gelu",
            )
        ).eval()
        self.vision.load_state_dict(
            dict(map(self.vision_name, *zip(*part(state, "blip.visual_encoder.").items(), strict=True)))
        )
        config = BlipTextConfig(
            vocab_size=20,
            hidden_size=TEXT_WIDTH,
            encoder_hidden_size=IMAGE_WIDTH,
            intermediate_size=100,
            num_hidden_layers=LAYERS,
            num_attention_heads=heads,
            max_position_embeddings=64,
            layer_norm_eps=epsilon,
            bos_token_id=2,
            sep_token_id=3,
            is_decoder=True,  # this is what makes cross-attentions; the mask stays an encoder's, below
        )
        self.text = BlipTextModel(config, add_pooling_layer=False).eval()
        text = part(state, "blip.text_encoder.")
        del text["embeddings.position_ids"]
        self.text.load_state_dict(text)
        widths = [nn.Linear(*pair) for pair in ((TEXT_WIDTH, 1024), (1024, 128), (128, 64), (64, 16), (16, 1))]
        self.head = nn.Sequential(*widths)
        numbers = part(state, "mlp.layers.")
        for layer, at in zip(widths, (0, 2, 4, 6, 7), strict=True):
            layer.load_state_dict({"weight": numbers[f"{at}.weight"], "bias": numbers[f"{at}.bias"]})
        self.tokenizer = BertTokenizer.from_pretrained(bert)
        for module in (self.vision, self.text, self.head):
            module.double()
        self.pixels = Compose(
            [
                Resize(SIDE, InterpolationMode.BICUBIC),
                CenterCrop(SIDE),
                PILToTensor(),
                ToDtype(torch.float32, scale=True),
                Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
            ]
        )

    @staticmethod
    def vision_name(name: str, value: Tensor) -> tuple[str, Tensor]:
        """timm's name as transformers' one."""
        fixed = {
            "cls_token": "embeddings.class_embedding",
            "pos_embed": "embeddings.position_embedding",
            "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
            "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
            "norm.weight": "post_layernorm.weight",
            "norm.bias": "post_layernorm.bias",
        }
        moved = (
            name.replace("blocks.", "encoder.layers.")
            .replace(".attn.", ".self_attn.")
            .replace(".proj.", ".projection.")
        )
        return fixed.get(name, moved.replace(".norm", ".layer_norm")), value

    @torch.no_grad()
    def reward(self, picture: Image.Image, prompt: str) -> float:
        """Not standardised."""
        seen = self.vision(self.pixels(picture.convert("RGB"))[None].double()).last_hidden_state
        tokens = self.tokenizer(prompt, truncation=True, max_length=35, return_tensors="pt")
        hidden = self.text(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long),
            is_decoder=False,
        ).last_hidden_state
        return float(self.head(hidden[:, 0]))

    def scores(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        rewards = [self.reward(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
        return (np.array(rewards) - MEAN) / DEVIATION


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
