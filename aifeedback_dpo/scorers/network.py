"""Two encoders of one space, whatever format they came in, and how prompts become tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aifeedback_dpo.scorers.pixels import PixelRecipe

OPEN_CLIP = "open_clip:"  # what the name of a model in open_clip's tables begins with, as an id

# Prompts to ids, and which of them were too long and were cut. The end token is kept: CLIP reads the text from it.
Tokenize = Callable[[Sequence[str]], tuple[Int[Tensor, "b n"], list[bool]]]


@dataclass(frozen=True)
class Network:
    """A loaded model of the CLIP family, on the CPU; `image` and `text` give its projections, not normalised.

    `text_format` names what tokenize does that is not in the model's own files. `width` is that of an embedding.
    """

    module: nn.Module
    image: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b d"]]
    text: Callable[[Int[Tensor, "b n"]], Float[Tensor, "b d"]]
    tokenize: Tokenize
    text_format: str
    recipe: PixelRecipe
    logit_scale: float
    width: int


def transformers_tokens(tokenizer: Any, limit: int, *, to_limit: bool, lower: bool) -> Tokenize:
    """By a tokenizer of transformers, padded to `limit` or to the longest prompt."""

    def tokenize(prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        texts = [prompt.lower() if lower else prompt for prompt in prompts]
        lengths = map(len, tokenizer(texts, verbose=False)["input_ids"])
        padding = "max_length" if to_limit else True
        ids = tokenizer(texts, padding=padding, truncation=True, max_length=limit, return_tensors="pt")["input_ids"]
        return ids, [length > limit for length in lengths]

    return tokenize


def open_clip_tokens(tokenizer: Any, limit: int, *, to_limit: bool) -> Tokenize:
    """By a tokenizer of open_clip, padded with zeros to `limit` or, where it knows its end token, to the longest prompt."""

    def tokenize(prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        ids, longer = (tokenizer(list(prompts), context_length=length) for length in (limit, limit + 1))
        # with room for one more token, what fits stays as it is, and what was cut has a word where the end token was
        cut: list[bool] = (ids != longer[:, :limit]).any(dim=1).tolist()
        # 0 is a word of CLIP too: an exclamation mark inside of punctuation
        used = limit if to_limit else int((ids == tokenizer.eot_token_id).int().argmax(dim=1).max()) + 1
        return ids[:, :used].to(torch.long), cut

    return tokenize
