"""A vision-language model as a judge of pairs, asked twice, each picture once first (Zheng et al. 2023, arXiv:2306.05685).

Any image-text-to-text model of transformers with a chat template. An answer that is not plainly one is missing.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import Answer
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.scorers.pretrained import CLOSED, whole
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.weights import loading, locate

VERSION = 1  # of this file's arithmetic, in every recipe
INTRODUCTION = "Two pictures were made from one prompt. The prompt is:"
QUESTION = "Which picture follows the prompt better and pleases more? Answer with 1, 2 or tie only."
NEW_TOKENS = 8
TOGETHER = 8  # conversations a forward pass, each with two pictures

Choice = Literal["first", "second", "tie"]
Conversation = list[dict[str, Any]]

ANSWER = re.compile(
    r"(?:the )?(?:answer(?: is|:) )?(?:the )?(?:(?:image|picture) )?"
    r"(?:(?P<first>1|first)|(?P<second>2|second)|(?P<tie>tie))(?: (?:image|picture|one))?"
)


class Vlm:
    """Decodes greedily, so that the same pictures get the same answer."""

    def __init__(self, weights: ScorerWeights) -> None:
        located = locate(weights, "vlm")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with loading(located, "an image-text-to-text model with its processor and chat template"):
            self.processor = AutoProcessor.from_pretrained(located.folder, **CLOSED)
            if not getattr(self.processor, "chat_template", None):
                raise ValueError("it has no chat template")
            model = whole(AutoModelForImageTextToText, located.folder, weights.dtype)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"
        self.special = _special(self.processor)
        published = model.generation_config
        self.model.generation_config = GenerationConfig(  # nothing of the published sampling, nor its penalties
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=published.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        asked = (INTRODUCTION, QUESTION, NEW_TOKENS, ANSWER.pattern, self.processor.chat_template)
        self.recipe = content_id("vlm", VERSION, located.revision, weights.dtype, *asked)

    def ask(
        self, images_a: Sequence[Image.Image], images_b: Sequence[Image.Image], prompts: Sequence[str]
    ) -> list[Answer]:
        pairs = list(zip(Pictures.of(images_a), Pictures.of(images_b), prompts, strict=True))
        a_first = self.replies([self._conversation(a, b, prompt) for a, b, prompt in pairs])
        b_first = self.replies([self._conversation(b, a, prompt) for a, b, prompt in pairs])
        return [
            Answer(one, other, _choice(parse(one), first=1.0), _choice(parse(other), first=0.0))
            for one, other in zip(a_first, b_first, strict=True)
        ]

    def replies(self, conversations: Sequence[Conversation]) -> list[str]:
        """What the model says, conversation by conversation; many at once where its tokenizer can pad."""
        size = TOGETHER if self.tokenizer.pad_token_id is not None else 1
        return [
            text
            for start in range(0, len(conversations), size)
            for text in self._reply(conversations[start : start + size])
        ]

    @torch.inference_mode()
    def _reply(self, conversations: Sequence[Conversation]) -> list[str]:
        inputs = self.processor.apply_chat_template(
            list(conversations),
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": len(conversations) > 1},
        ).to(self.device, self.model.dtype)
        tokens = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))

    def _conversation(self, first: Image.Image, second: Image.Image, prompt: str) -> Conversation:
        content = [
            {"type": "text", "text": f"{INTRODUCTION} {plain(prompt, self.special)}\nPicture 1:"},
            {"type": "image", "image": first},
            {"type": "text", "text": "Picture 2:"},
            {"type": "image", "image": second},
            {"type": "text", "text": QUESTION},
        ]
        return [{"role": "user", "content": content}]


def parse(text: str) -> Choice | None:
    """The answer if the text is one and nothing else ("2", "Tie.", "**Image 1**", "the second picture"), else None."""
    bare = " ".join(re.sub(r"[*_`\"'“”]", "", text).lower().split()).rstrip(".!")
    match = ANSWER.fullmatch(bare)
    if match is None:
        return None
    found: dict[str | None, Choice] = {"first": "first", "second": "second", "tie": "tie"}
    return found[match.lastgroup]


def plain(prompt: str, special: Sequence[str]) -> str:
    """The prompt with the model's special tokens broken up by a space, so that none is read as one."""
    for token in special:
        prompt = prompt.replace(token, f"{token[0]} {token[1:]}")
    return prompt


def _choice(choice: Choice | None, *, first: float) -> float | None:
    """1 for a, 0 for b; `first` is the one of them that was shown first."""
    return {"first": first, "second": 1.0 - first, "tie": 0.5, None: None}[choice]


def _special(processor: Any) -> list[str]:
    """Longest first, since one may hold another."""
    added = [token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special]
    image = getattr(processor, "image_token", None)
    return sorted({*added, *([image] if isinstance(image, str) else [])}, key=lambda token: (-len(token), token))
