"""Tiny models in the real formats, and what transformers, open_clip and torchvision make of them with nothing of ours.

A `Case` is one scorer on one such model beside its reference; tests and `benchmarks/parity.py` run the same ones.
One file, so that the independent references, one a scorer, are read side by side and rest on the same few helpers.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import functional as vision
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipImageProcessorPil,
    SiglipModel,
)

from aifeedback_dpo import scorers
from aifeedback_dpo.scorers import Scorer
from aifeedback_dpo.settings import ScorerWeights, Weights

SIZE, WIDTH = 32, 16
LONG = " ".join(f"a red fox number {count} in the snow," for count in range(25))  # about 200 tokens
PROMPTS = ["a red circle", "Two GREEN crosses, & a dog's bone", "café ☕ in the snow", "", LONG, "a cat !="]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Case:
    """A scorer, and the same numbers from elsewhere; `unit` is what a cosine of 1 comes to."""

    name: str
    reference: str
    scorer: Scorer
    expected: Callable[[Sequence[Image.Image], Sequence[str]], NDArray[np.float64]]
    unit: float = 1.0

    def difference(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> float:
        """The largest one, in units of a cosine."""
        return float(np.abs(self.scorer.score(images, prompts) - self.expected(images, prompts)).max() / self.unit)


def pictures(count: int = 6, *, seed: int = 0) -> list[Image.Image]:
    """Square, wide, tall, and of every mode that a folder of pictures may hold."""
    draw = np.random.default_rng(seed)
    sizes = [(64, 64), (81, 45), (37, 90), (50, 50), (33, 61), (70, 40)]
    made = []
    for at in range(count):
        width, height = sizes[at % len(sizes)]
        coarse = draw.integers(0, 256, size=(5, 5, 4), dtype=np.uint8)
        picture = Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
        mode = ("RGB", "RGB", "RGB", "RGBA", "P", "L")[at % len(sizes)]
        made.append(picture.convert("RGB").quantize(32) if mode == "P" else picture.convert(mode))
    return made


def lively(make: Callable[[], nn.Module], seed: int) -> Any:
    """A module with random weights, drawn from `seed`, so large that different inputs give different outputs."""
    torch.manual_seed(seed)
    module = make()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return module


@cache
def bpe() -> CLIPTokenizer:
    """CLIP's own tokenizer, from the merges that open_clip carries."""
    theirs = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): at for word, at in theirs.encoder.items()}
    return CLIPTokenizer(vocabulary, list(theirs.bpe_ranks), model_max_length=77)


def write_clip(
    folder: Path, *, activation: str = "quick_gelu", seed: int = 0, legacy: bool = False, tokenizer: bool = True
) -> Path:
    """A CLIPModel folder; `legacy` as OpenAI's own, with sizes as bare numbers and the end token told by its size."""
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": activation,
    }
    end = {"eos_token_id": 2, "bos_token_id": 0} if legacy else {"eos_token_id": 49407, "bos_token_id": 49406}
    config = CLIPConfig(
        text_config={**tower, **end, "vocab_size": 49408, "max_position_embeddings": 77},
        vision_config={**tower, "image_size": SIZE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    lively(lambda: CLIPModel(config), seed).save_pretrained(folder)
    if legacy:
        said = {"crop_size": SIZE, "do_center_crop": True, "do_normalize": True, "do_resize": True, "size": SIZE}
        said |= {"feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD, "resample": 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    else:
        sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
        CLIPImageProcessor(**sizes).save_pretrained(folder)
    if tokenizer:
        bpe().save_pretrained(folder)
    return folder


def with_code(folder: Path, auto_class: str) -> Path:
    """Gives a folder code of its own for what it holds; it makes a folder `ran` in the current directory when it runs."""
    (folder / "theirs.py").write_text("import os\nos.mkdir('ran')\nclass Theirs: ...\n")
    theirs = "theirs.Theirs"
    name, said = {
        "AutoTokenizer": (
            "tokenizer_config.json",
            {"tokenizer_class": "Theirs", "auto_map": {auto_class: [theirs, None]}},
        ),
        "AutoProcessor": ("processor_config.json", {"processor_class": "Theirs", "auto_map": {auto_class: theirs}}),
        "AutoConfig": ("config.json", {"model_type": "theirs", "auto_map": {auto_class: theirs}}),
    }[auto_class]
    before = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
    (folder / name).write_text(json.dumps({**before, **said}))
    return folder


def write_siglip(folder: Path, *, seed: int = 0) -> Path:
    """A SiglipModel folder with a tokenizer of SigLIP 2's kind, which does not put words into lower case by itself."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyz0123456789,.▁", "re", "ed"]
    text = {**tower, "vocab_size": len(words), "max_position_embeddings": 64, "projection_size": 32}
    config = SiglipConfig(text_config=text, vision_config={**tower, "image_size": SIZE, "patch_size": 8})
    lively(lambda: SiglipModel(config), seed).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    inner = Siglip2Tokenizer({word: at for at, word in enumerate(words)}, [("r", "e"), ("e", "d")]).backend_tokenizer
    inner.normalizer = None
    from tokenizers.processors import TemplateProcessing

    inner.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder)
    return folder


def open_clip_settings(**changes: object) -> dict[str, object]:
    """A tiny model_cfg."""
    tower = {"width": 32, "layers": 2}
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {**tower, "image_size": SIZE, "patch_size": 8, "head_width": 8},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 4},
        **changes,
    }


def write_open_clip(folder: Path, *, seed: int = 0, pickled: bool = False, **changes: object) -> Path:
    """A folder with open_clip_config.json and weights beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = open_clip_settings(**changes)
    preprocessing = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": preprocessing}))
    tensors = lively(lambda: open_clip.CLIP(**settings), seed).state_dict()
    if pickled:
        torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def write_hps(folder: Path, *, seed: int = 0) -> Path:
    """A checkpoint as HPSv2's training leaves it, and its architecture beside it. Gives the checkpoint's path."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = open_clip_settings()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings}))
    tensors = lively(lambda: open_clip.CLIP(**settings), seed).state_dict()
    torch.save({"epoch": 1, "name": "tiny", "state_dict": tensors}, folder / "HPS_tiny.pt")
    return folder / "HPS_tiny.pt"


class PublishedHead(nn.Module):
    """LAION's second predictor as its file numbers the layers; `relu` is its sister."""

    def __init__(self, width: int, *, relu: bool) -> None:
        super().__init__()
        sizes = [(width, 1024), (1024, 128), (128, 64), (64, 16), (16, 1)]
        between = [[nn.ReLU()] if relu else [] for _ in range(4)]
        after = [*([*gap, nn.Dropout(0.2)] for gap in between[:3]), between[3], []]
        self.layers = nn.Sequential(
            *(layer for size, rest in zip(sizes, after, strict=True) for layer in [nn.Linear(*size), *rest])
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.layers(embeddings)


def published_head(kind: str, width: int = WIDTH, *, seed: int = 0) -> nn.Module:
    """`v1`, `v2` or `relu`, with random weights."""
    return lively(lambda: nn.Linear(width, 1) if kind == "v1" else PublishedHead(width, relu=kind == "relu"), seed)


def half_cosines(images: Tensor, texts: Tensor) -> NDArray[np.float64]:
    """Row by row, in float64."""
    return np.array(nn.functional.cosine_similarity(images.double(), texts.double(), dim=1).tolist())


@torch.no_grad()
def transformers_images(folder: Path, images: Sequence[Image.Image], kind: str = "clip") -> Tensor:
    """Projected by transformers in float64, one picture at a time, through its PIL processor."""
    model = (CLIPModel if kind == "clip" else SiglipModel).from_pretrained(folder, dtype=torch.float64).eval()
    processor = (CLIPImageProcessorPil if kind == "clip" else SiglipImageProcessorPil).from_pretrained(folder)
    seen = [processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"] for image in images]
    return torch.cat([model.get_image_features(pixels.double()).pooler_output for pixels in seen])


@torch.no_grad()
def transformers_texts(folder: Path, prompts: Sequence[str], kind: str = "clip") -> Tensor:
    """Projected by transformers in float64, one prompt at a time; SigLIP's in lower case and padded, as trained."""
    model = (CLIPModel if kind == "clip" else SiglipModel).from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in prompts:
        if kind == "clip":
            tokens = tokenizer(
                prompt,
                truncation=True,
                max_length=model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
            rows.append(model.get_text_features(**tokens).pooler_output)
        else:
            tokens = tokenizer(
                prompt.lower(), truncation=True, padding="max_length", max_length=64, return_tensors="pt"
            )
            rows.append(model.get_text_features(input_ids=tokens["input_ids"]).pooler_output)
    return torch.cat(rows)


def clip_case(root: Path, activation: str = "quick_gelu", **how: bool) -> Case:
    """CLIP score on a transformers folder."""
    folder = write_clip(root / f"clip-{activation}-{'-'.join(how)}", activation=activation, **how)
    return Case(
        f"clip ({', '.join(['transformers', activation, *how])})",
        "transformers CLIPModel, float64",
        scorers.load("clip", ScorerWeights(id=str(folder))),
        lambda images, prompts: half_cosines(transformers_images(folder, images), transformers_texts(folder, prompts)),
    )


def siglip_case(root: Path) -> Case:
    """CLIP score on a SigLIP folder."""
    folder = write_siglip(root / "siglip")
    return Case(
        "clip (transformers, SigLIP)",
        "transformers SiglipModel, float64",
        scorers.load("clip", ScorerWeights(id=str(folder))),
        lambda images, prompts: half_cosines(
            transformers_images(folder, images, "siglip"), transformers_texts(folder, prompts, "siglip")
        ),
    )


def open_clip_case(root: Path, **how: bool) -> Case:
    """CLIP score on an open_clip folder."""
    folder = write_open_clip(root / f"open-clip-{'-'.join(how)}", **how)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model, tokenizer = model.double().eval(), open_clip.get_tokenizer(f"local-dir:{folder}")

    @torch.no_grad()
    def expected(images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        pixels = torch.stack([preprocess(image.convert("RGB")) for image in images]).double()
        return half_cosines(model.encode_image(pixels), model.encode_text(tokenizer(list(prompts))))

    name = ", ".join(["open_clip", *how])
    scorer = scorers.load("clip", ScorerWeights(id=str(folder)))
    return Case(f"clip ({name})", "open_clip model and transforms, float64", scorer, expected)


def pickscore_case(root: Path, **how: bool) -> Case:
    """PickScore, with and without a tokenizer in the folder."""
    folder = write_clip(root / f"pickscore-{'-'.join(how)}", activation="gelu", seed=3, **how)
    words = folder if how.get("tokenizer", True) else write_clip(root / "tokenizer", activation="gelu", seed=3)
    scale = float(CLIPModel.from_pretrained(folder).logit_scale.detach().exp())
    return Case(
        f"pickscore{'' if how.get('tokenizer', True) else ' (no tokenizer)'}",
        "transformers CLIPModel as on the model card, float64",
        scorers.load("pickscore", ScorerWeights(id=str(folder))),
        lambda images, prompts: (
            scale * half_cosines(transformers_images(folder, images), transformers_texts(words, prompts))
        ),
        scale,
    )


def hps_case(root: Path, *, antialias: bool) -> Case:
    """HPSv2, with pictures letterboxed by torchvision as its repository does."""
    checkpoint = write_hps(root / f"hps-{antialias}")
    model = open_clip.CLIP(**open_clip_settings())
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    model, tokenizer = model.double().eval(), open_clip.SimpleTokenizer()

    @torch.no_grad()
    def expected(images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        pixels = torch.stack([letterboxed(image, SIZE, antialias=antialias) for image in images]).double()
        return half_cosines(model.encode_image(pixels), model.encode_text(tokenizer(list(prompts))))

    name = "hpsv2.1" if antialias else "hpsv2.1-legacy"
    scorer = scorers.load(name, ScorerWeights(id=str(checkpoint)))
    return Case(name, "torchvision letterbox and open_clip CLIP, float64", scorer, expected)


def letterboxed(image: Image.Image, size: int, *, antialias: bool) -> Tensor:
    """(3, h, w): floats first, then the longest side to `size`, then bars, then mean and deviation."""
    pixels = vision.to_tensor(image.convert("RGB"))
    height, width = pixels.shape[1:]
    new = [round(side * (size / float(max(height, width)))) for side in (height, width)]
    pixels = vision.resize(pixels, new, vision.InterpolationMode.BICUBIC, antialias=antialias)
    rows, columns = size - new[0], size - new[1]
    bars = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    return vision.normalize(vision.pad(pixels, bars, fill=0), MEAN, STD)


def aesthetic_case(root: Path, kind: str) -> Case:
    """LAION's heads on a tiny CLIP."""
    folder, file = write_clip(root / f"under-{kind}", seed=5), root / f"{kind}.pth"
    head = published_head(kind)
    torch.save(head.state_dict(), file)
    weights = ScorerWeights(id=str(file), base=Weights(id=str(folder)))
    exact = head.double().eval()

    @torch.no_grad()
    def expected(images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        embeddings = transformers_images(folder, images)
        return np.array(exact(embeddings / embeddings.norm(dim=1, keepdim=True))[:, 0].tolist())

    reference = "transformers CLIPModel and the published nn.Sequential, float64"
    return Case(f"aesthetic ({kind})", reference, scorers.load("aesthetic", weights), expected)


CASES: dict[str, Callable[[Path], Case]] = {
    "clip, QuickGELU": clip_case,
    "clip, GELU": lambda root: clip_case(root, "gelu"),
    "clip, OpenAI's own folder": lambda root: clip_case(root, legacy=True),
    "clip, SigLIP": siglip_case,
    "clip, open_clip": open_clip_case,
    "clip, open_clip QuickGELU": lambda root: open_clip_case(root, quick_gelu=True),
    "clip, open_clip pickled": lambda root: open_clip_case(root, pickled=True),
    "pickscore": pickscore_case,
    "pickscore, no tokenizer": lambda root: pickscore_case(root, tokenizer=False),
    "aesthetic, V1": lambda root: aesthetic_case(root, "v1"),
    "aesthetic, V2": lambda root: aesthetic_case(root, "v2"),
    "aesthetic, ReLU": lambda root: aesthetic_case(root, "relu"),
    "hpsv2.1": lambda root: hps_case(root, antialias=True),
    "hpsv2.1-legacy": lambda root: hps_case(root, antialias=False),
}
