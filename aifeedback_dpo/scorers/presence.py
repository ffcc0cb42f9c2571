"""Whether what a scorer needs is on this machine, found out without loading it and without asking the hub."""

from importlib.util import find_spec

from aifeedback_dpo import shapes
from aifeedback_dpo.config import ScorerWeights, Weights
from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.weights import file_here, here, repository

PACKAGES = {"ocr": ("rapidocr", "onnxruntime", "rapidfuzz")}  # of an extra of this package
INSIDE = ("none", "rapidocr")  # no weights, or those of an installed package
# where open_clip's own table points; asking open_clip itself would load torch
OPEN_CLIP = {"open_clip:ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def missing(name: str, weights: ScorerWeights) -> list[str]:
    """What to run or to mend before this scorer can work here; empty where all is there."""
    entry = CATALOGUE.get(weights.uses or name)
    steps = []
    if entry and entry.extra and not all(map(find_spec, PACKAGES[entry.extra])):
        steps.append(f'pip install "aifeedback_dpo[{entry.extra}]"')
    if weights.id in INSIDE:
        return steps
    base_part = "tokenizer" if (weights.uses or name) == "imagereward" else "clip"
    try:
        steps += _weights(name, weights, weights.file)
        steps += _weights(base_part, weights.base, None) if weights.base else []
    except ModelMissing as error:
        steps.append(str(error))
    return steps


def is_embedded(name: str) -> bool:
    """Whether the embedded world has weights of its own for this scorer, which go by the id `shapes`."""
    return shapes.weights(name).is_dir()


def _weights(part: str, weights: Weights, file: str | None) -> list[str]:
    if weights.id in OPEN_CLIP:
        source = Weights(id=OPEN_CLIP[weights.id], revision=weights.revision)
        there = any(file_here(source, name) for name in OPEN_CLIP_FILES)
        return [] if there else [Repository(source.id, source.revision, OPEN_CLIP_FILES[:1]).fetch]
    if file:
        return [] if file_here(weights, file) else [Repository(weights.id, weights.revision, (file,)).fetch]
    return [] if here(weights, part) else [repository(weights, part).fetch]
