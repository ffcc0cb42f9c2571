"""BLIP as ImageReward stands on it: a picture encoder, and a text encoder that looks at the picture in each layer.

Li et al. 2022, arXiv:2201.12086, repository salesforce/BLIP. The modules carry the names of the published checkpoints:
timm's for the ViT (Dosovitskiy et al. 2020, arXiv:2010.11929), BERT's for the text (Devlin et al. 2018, arXiv:1810.04805).
b counts pictures, n image tokens, t text tokens, c channels. No dropout: nothing is trained here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

VERSION = 1  # of this file's arithmetic, in every stamp
IMAGE_HEAD = 64  # channels of an attention head, in each of BLIP's ViTs
IMAGE_EPSILON = 1e-6


@dataclass(frozen=True)
class Sizes:
    """The sizes of the two encoders."""

    patch: int
    image_tokens: int
    image_width: int
    image_layers: int
    text_width: int
    text_layers: int
    text_inner: int
    text_heads: int
    text_epsilon: float
    positions: int
    vocabulary: int

    @classmethod
    def read(cls, weights: Mapping[str, Tensor], *, text_heads: int, text_epsilon: float) -> "Sizes":
        """Off the tensors of a checkpoint, all but the two numbers that no tensor shows.

        Raises KeyError for a tensor that is not there, ValueError for widths that do not divide into heads.
        """
        image_width, _, patch, _ = weights["visual_encoder.patch_embed.proj.weight"].shape
        vocabulary, text_width = weights["text_encoder.embeddings.word_embeddings.weight"].shape
        if image_width % IMAGE_HEAD or text_width % text_heads:
            raise ValueError(
                f"widths {image_width} and {text_width} do not divide into heads of {IMAGE_HEAD} and {text_heads} heads"
            )
        return cls(
            patch=patch,
            image_tokens=weights["visual_encoder.pos_embed"].shape[1],
            image_width=image_width,
            image_layers=_count(weights, "visual_encoder.blocks."),
            text_width=text_width,
            text_layers=_count(weights, "text_encoder.encoder.layer."),
            text_inner=weights["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
            text_heads=text_heads,
            text_epsilon=text_epsilon,
            positions=weights["text_encoder.embeddings.position_embeddings.weight"].shape[0],
            vocabulary=vocabulary,
        )

    @property
    def image_side(self) -> int:
        """Pixels: the picture is square, and one token is the class token."""
        return self.patch * isqrt(self.image_tokens - 1)


class Blip(nn.Module):
    """Pictures and token ids to the last hidden states of the text, which has seen the picture."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.visual_encoder = ImageEncoder(sizes)
        self.text_encoder = TextEncoder(sizes)


class ImageEncoder(nn.Module):
    """A ViT with pre-normalisation; gives all tokens, the class token first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.image_width
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, sizes.image_tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, kernel_size=sizes.patch, stride=sizes.patch)})
        self.blocks = nn.ModuleList([ImageBlock(width) for _ in range(sizes.image_layers)])
        self.norm = nn.LayerNorm(width, eps=IMAGE_EPSILON)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            hidden = block(hidden)
        normalised: Tensor = self.norm(hidden)
        return normalised


class ImageBlock(nn.Module):
    """Self-attention and a perceptron of four times the width, each added to what went in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=IMAGE_EPSILON)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=IMAGE_EPSILON)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.heads = width // IMAGE_HEAD

    def forward(self, hidden: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        query, key, value = self.attn["qkv"](self.norm1(hidden)).chunk(3, dim=-1)
        hidden = hidden + self.attn["proj"](_attend(query, key, value, self.heads))
        added: Tensor = hidden + self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(hidden))))
        return added


class TextEncoder(nn.Module):
    """BERT with a cross-attention to the image tokens in each layer; no pooling."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(sizes.vocabulary, sizes.text_width),
                "position_embeddings": nn.Embedding(sizes.positions, sizes.text_width),
                "LayerNorm": nn.LayerNorm(sizes.text_width, eps=sizes.text_epsilon),
            }
        )
        self.encoder = TextLayers(sizes)

    def forward(
        self, ids: Int[Tensor, "b t"], is_text: Bool[Tensor, "b t"], image: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b t d"]:
        positions = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.embeddings["word_embeddings"](ids) + self.embeddings["position_embeddings"](positions)
        encoded: Tensor = self.encoder(self.embeddings["LayerNorm"](hidden), is_text, image)
        return encoded


class TextLayers(nn.Module):
    """One after the other."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList([TextLayer(sizes) for _ in range(sizes.text_layers)])

    def forward(
        self, hidden: Float[Tensor, "b t d"], is_text: Bool[Tensor, "b t"], image: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b t d"]:
        for layer in self.layer:
            hidden = layer(hidden, is_text, image)
        return hidden


class TextLayer(nn.Module):
    """Self-attention over the text, cross-attention to the picture, a perceptron; normalised after each."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.attention = TextAttention(sizes, width)
        self.crossattention = TextAttention(sizes, sizes.image_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, sizes.text_inner)})
        self.output = AddAndNorm(sizes.text_inner, width, sizes.text_epsilon)

    def forward(
        self, hidden: Float[Tensor, "b t d"], is_text: Bool[Tensor, "b t"], image: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b t d"]:
        hidden = self.attention(hidden, hidden, is_text[:, None, None, :])
        hidden = self.crossattention(hidden, image, None)
        added: Tensor = self.output(gelu(self.intermediate["dense"](hidden)), hidden)
        return added


class TextAttention(nn.Module):
    """From the text to `seen`: to itself, or to the picture."""

    def __init__(self, sizes: Sizes, seen_width: int) -> None:
        super().__init__()
        width = sizes.text_width
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(width, width),
                "key": nn.Linear(seen_width, width),
                "value": nn.Linear(seen_width, width),
            }
        )
        self.output = AddAndNorm(width, width, sizes.text_epsilon)
        self.heads = sizes.text_heads

    def forward(
        self, hidden: Float[Tensor, "b t d"], seen: Float[Tensor, "b s e"], mask: Bool[Tensor, "b 1 1 s"] | None
    ) -> Float[Tensor, "b t d"]:
        query, key, value = self.self["query"](hidden), self.self["key"](seen), self.self["value"](seen)
        added: Tensor = self.output(_attend(query, key, value, self.heads, mask), hidden)
        return added


class AddAndNorm(nn.Module):
    """A linear map, added to the residual and normalised."""

    def __init__(self, width_in: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, change: Float[Tensor, "b t e"], residual: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        normalised: Tensor = self.LayerNorm(self.dense(change) + residual)
        return normalised


def _attend(
    query: Float[Tensor, "b t c"],
    key: Float[Tensor, "b s c"],
    value: Float[Tensor, "b s c"],
    heads: int,
    mask: Bool[Tensor, "b 1 1 s"] | None = None,
) -> Float[Tensor, "b t c"]:
    query, key, value = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
