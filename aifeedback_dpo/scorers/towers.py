"""The two towers of a CLIP model in transformers' format, with the arithmetic that every CLIP-type scorer shares.

Preprocessing is the folder's own (`preprocessor_config.json`). Towers run in the dtype asked for; normalisation, dot
product and everything after are float32, since half precision rounds one pair in 25 into a tie. A long prompt is cut with
its end token kept, which is where CLIP reads the text from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from aifeedback_dpo.config import Weights
from aifeedback_dpo.records import content_id
from aifeedback_dpo.weights import loading, locate


@dataclass
class Towers:
    """A loaded CLIP model. `stamp` is a hash of its weights, its preprocessing and its dtype."""

    model: CLIPModel
    processor: CLIPImageProcessor
    tokenizer: CLIPTokenizerFast
    device: torch.device
    stamp: str

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Float[Tensor, "b d"]:
        """Projected and normalised, float32, on the CPU."""
        pixels = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
        projected = self.model.get_image_features(pixels.to(self.device, self.model.dtype)).pooler_output
        return normalize(projected.float(), dim=-1).cpu()

    @torch.inference_mode()
    def embed_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Projected and normalised, float32, on the CPU; each different prompt is encoded once."""
        unique = list(dict.fromkeys(prompts))
        tokens = self.tokenizer(unique, padding=True, truncation=True, return_tensors="pt").to(self.device)
        projected = self.model.get_text_features(**tokens).pooler_output
        rows = normalize(projected.float(), dim=-1).cpu()
        return rows[[unique.index(prompt) for prompt in prompts]]

    def cosines(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[Tensor, " b"]:
        """The cosine of each picture with its own prompt."""
        return (self.embed_images(images) * self.embed_prompts(prompts)).sum(dim=-1)

    @property
    def logit_scale(self) -> float:
        """The learned temperature, exp(logit_scale)."""
        return float(self.model.logit_scale.float().exp())


def load(weights: Weights, part: str) -> Towers:
    """A CLIPModel folder; `part` names the piece of the embedded world. Raises ModelMissing without weights."""
    located = locate(weights, part)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with loading(located, "a CLIP model with its processor and tokenizer"):
        model = CLIPModel.from_pretrained(located.folder, dtype=getattr(torch, weights.dtype), local_files_only=True)
        processor = CLIPImageProcessor.from_pretrained(located.folder, local_files_only=True)
        tokenizer = CLIPTokenizerFast.from_pretrained(located.folder, local_files_only=True)
    stamp = content_id(located.revision, processor.to_dict(), weights.dtype)
    return Towers(model.to(device).eval().requires_grad_(False), processor, tokenizer, device, stamp)
