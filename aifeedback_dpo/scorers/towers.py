"""The two towers of a CLIP-like model, with the arithmetic that every scorer on them shares.

Towers run in the dtype asked for; normalisation, dot product and everything after are float32, since half precision rounds
one pair in 25 into a tie. Pictures are seen once a batch and prompts read once a run, by however many scorers.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.network import OPEN_CLIP, Network
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.settings import Weights
from aifeedback_dpo.weights import Located, loading, locate

VERSION = 3  # of this file's arithmetic, in every stamp
PROMPTS_AT_ONCE = 256
PROMPTS_KEPT = 100_000
SUPPORTED = "clip; siglip, which is also SigLIP 2 of fixed resolution; or an open_clip_config.json"
Images = Sequence[Image.Image | NDArray[np.uint8]]


@dataclass(eq=False)
class Towers:
    """A loaded model. `stamp` is a hash of its weights, preprocessing and dtype; `truncated` are the prompts that were cut."""

    network: Network
    device: torch.device
    dtype: torch.dtype
    stamp: str
    truncated: set[str] = field(default_factory=set)
    _read: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)

    @torch.inference_mode()
    def embed_images(self, images: Images) -> Float[Tensor, "b d"]:
        """Projected and normalised, float32, on the CPU; once for a batch of Pictures."""
        pictures = Pictures.of(images)
        if not len(pictures):
            return torch.empty(0, self.network.width)
        if self.stamp not in pictures.memo:
            pixels = pictures.tensor(self.network.recipe).to(self.device, self.dtype)
            pictures.memo[self.stamp] = normalize(self.network.image(pixels).float(), dim=-1).cpu()
        return pictures.memo[self.stamp]

    @torch.inference_mode()
    def embed_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "b d"]:
        """The same for prompts; each different one is read once, and the last 100,000 are kept."""
        if not prompts:
            return torch.empty(0, self.network.width)
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._read]
        for start in range(0, len(new), PROMPTS_AT_ONCE):
            some = new[start : start + PROMPTS_AT_ONCE]
            ids, cut = self.network.tokenize(some)
            rows = normalize(self.network.text(ids.to(self.device)).float(), dim=-1).cpu()
            self._read.update((prompt, row.clone()) for prompt, row in zip(some, rows, strict=True))
            self.truncated.update(prompt for prompt, was_cut in zip(some, cut, strict=True) if was_cut)
        for prompt in prompts:
            self._read.move_to_end(prompt)
        found = torch.stack([self._read[prompt] for prompt in prompts])
        while len(self._read) > PROMPTS_KEPT:
            self._read.popitem(last=False)
        return found

    def cosines(self, images: Images, prompts: Sequence[str]) -> Float[Tensor, " b"]:
        """The cosine of each picture with its own prompt. Raises UserError unless there is one prompt a picture."""
        if len(images) != len(prompts):
            raise UserError(f"{len(images)} pictures and {len(prompts)} prompts; give one prompt a picture")
        return (self.embed_images(images) * self.embed_prompts(prompts)).sum(dim=-1)

    @property
    def logit_scale(self) -> float:
        """The learned temperature, exp(logit_scale)."""
        return self.network.logit_scale

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.network.width


_SHARED: WeakValueDictionary[str, Towers] = WeakValueDictionary()


def load(weights: Weights, part: str) -> Towers:
    """Towers from a folder or hub id of any format known here, or `open_clip:ARCHITECTURE/TAG`.

    `part` names the piece of the embedded world. The same weights in the same dtype are the same object for as long as
    somebody holds it. Raises ModelMissing without weights, UserError for a kind of model that is not known.
    """
    if weights.id.startswith(OPEN_CLIP):
        from aifeedback_dpo.scorers import open_clip_towers

        checkpoint = open_clip_towers.named(weights)
        return shared(checkpoint.identity, weights.dtype, checkpoint.load)
    located = locate(weights, part)
    return shared(located.revision, weights.dtype, lambda: _folder(located))


def shared(identity: str, dtype: str, load: Callable[[], Network]) -> Towers:
    """The towers of that identity and dtype, loaded only if nobody holds them; on the GPU where there is one."""
    key = content_id(identity, dtype)
    found = _SHARED.get(key)
    if found is None:
        network, precision = load(), getattr(torch, dtype)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network.module.to(device, precision).eval().requires_grad_(False)
        stamp = content_id("towers", VERSION, identity, network.recipe.stamp(), network.text_format, dtype)
        found = _SHARED[key] = Towers(network, device, precision, stamp)
    return found


def _folder(located: Located) -> Network:
    """By its config.json, or else by its open_clip_config.json; repositories of timm have a config.json of their own."""
    config = located.folder / "config.json"
    kind = None
    if config.is_file():
        with loading(located, "a model (config.json)"):
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    if kind in ("clip", "siglip"):
        from aifeedback_dpo.scorers import transformers_towers

        return transformers_towers.read(located, kind)
    if (located.folder / "open_clip_config.json").is_file():
        from aifeedback_dpo.scorers import open_clip_towers

        return open_clip_towers.folder(located)
    what = f"a model of type '{kind}'" if kind else "no config.json with a model_type"
    raise UserError(f"{located.folder} holds {what}, which is not known here. Known: {SUPPORTED}")
