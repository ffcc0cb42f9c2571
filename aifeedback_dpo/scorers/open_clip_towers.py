"""Models in open_clip's format: folders, names of its table of pretrained weights, and single checkpoints.

A model that was trained with QuickGELU and runs with GELU gives other scores, and open_clip 3 only warns. Here that is an
error, which names the right architecture.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import open_clip

from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.checkpoints import fill, state_dict
from aifeedback_dpo.scorers.network import OPEN_CLIP, Network, open_clip_tokens
from aifeedback_dpo.scorers.pixels import CLIP_MEAN, CLIP_STD, PixelRecipe
from aifeedback_dpo.scorers.pretrained import CLOSED
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import Located, LocatedFile, file_here, loading, locate_file

CONFIG = "open_clip_config.json"
CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
Resize = Literal["shortest", "longest", "square"]
RESIZE: dict[str, Resize] = {"shortest": "shortest", "longest": "longest", "squash": "square"}


@dataclass(frozen=True)
class Checkpoint:
    """One file of weights, the architecture it fills, and the preprocessing it was trained with."""

    file: LocatedFile
    architecture: str
    model: Mapping[str, Any]
    preprocessing: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """A hash of all of them; a hub's commit alone does not tell one file of a repository from another."""
        return content_id(self.file.revision, self.file.path.name, self.model, self.preprocessing)

    @property
    def image_size(self) -> int:
        """The side that the image tower takes."""
        return _side(self.model)

    def load(self, recipe: PixelRecipe | None = None) -> Network:
        """The network, every tensor accounted for. Raises ModelMissing where one is not there."""
        what = f"weights of open_clip's {self.architecture}"
        tensors = state_dict(self.file, what)
        model = _build(self.model)
        fill(model, tensors, self.file, what)
        tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
        return _network(model, tokenizer, recipe or _recipe(self.preprocessing, self.model), self.model)


def folder(located: Located) -> Network:
    """The model of a folder with an open_clip_config.json, and the tokenizer it names."""
    with loading(located, f"an open_clip model ({CONFIG})"):
        config = json.loads((located.folder / CONFIG).read_text(encoding="utf-8"))
        model_config, preprocessing = config["model_cfg"], config.get("preprocess_cfg", {})
        _check_text(located.name, model_config)
        _check_published(located.name, model_config)
        if not any((located.folder / name).is_file() for name in CHECKPOINTS):
            raise ModelMissing(
                f"{located.folder} holds neither {' nor '.join(CHECKPOINTS)}; one of them has to be there"
            )
        where = f"local-dir:{located.folder}"
        try:
            model = open_clip.create_model(where, require_pretrained=True, weights_only=True)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        closed = CLOSED if model_config["text_cfg"].get("hf_tokenizer_name") else {}
        tokenizer = open_clip.get_tokenizer(where, **closed)
    return _network(model, tokenizer, _recipe(preprocessing, model_config), model_config)


def named(weights: Weights) -> Checkpoint:
    """What `open_clip:ARCHITECTURE/TAG` stands for, or `open_clip:ARCHITECTURE` with a local `file`.

    A file does not show its activation. Where open_clip has an architecture with both, `-quickgelu` or `-gelu` says which.
    Raises UserError for names that open_clip does not have, and ModelMissing where the weights cannot be had.
    """
    named_as, _, tag = weights.id.removeprefix(OPEN_CLIP).partition("/")
    plain = named_as.removesuffix("-gelu")
    has_both = f"{plain}-quickgelu" in open_clip.list_models()
    architecture = plain if has_both and not tag else named_as
    if architecture not in open_clip.list_models():
        raise UserError(f"{weights.id}: open_clip has no architecture '{architecture}'; see open_clip.list_models()")
    model = open_clip.get_model_config(architecture)
    _check_text(weights.id, model)
    if tokenizer := model["text_cfg"].get("hf_tokenizer_name"):
        raise UserError(
            f"{weights.id} reads prompts with the tokenizer of {tokenizer}; give the model's hub id or folder"
        )
    if not tag:
        file = weights.file if isinstance(weights, ScorerWeights) else None
        if file is None:
            example = f"{OPEN_CLIP}{architecture}/TAG"
            raise UserError(f"{weights.id} names no weights; write {example}, or give a checkpoint as `file`")
        if has_both and named_as == plain:
            raise UserError(
                f"{weights.id}: a file does not tell whether it was trained with QuickGELU; write {weights.id}-quickgelu for "
                f"OpenAI's and most of MetaCLIP's and DFN's, {weights.id}-gelu for those with GELU, such as LAION's"
            )
        return Checkpoint(locate_file(Weights(id=file), file), architecture, model, {})
    published = open_clip.get_pretrained_cfg(architecture, tag)
    if not published:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise UserError(f"{weights.id}: open_clip has no weights '{tag}' of {architecture}. Known: {known}")
    _check_activation(weights.id, model, published, f"{architecture}/{tag}")
    owner, name, *inside = published["hf_hub"].strip("/").split("/")
    repository = Weights(id=f"{owner}/{name}", revision=weights.revision)
    return Checkpoint(_first(repository, inside or CHECKPOINTS), architecture, model, published)


def architecture_beside(file: LocatedFile, default: str) -> Checkpoint:
    """A checkpoint as it lies there: of the architecture of an open_clip_config.json beside it, or else of `default`."""
    beside = file.path.parent / CONFIG
    if not beside.is_file():
        return Checkpoint(file, default, open_clip.get_model_config(default), {})
    with loading(file, f"an architecture in the {CONFIG} beside it"):
        model = json.loads(beside.read_text(encoding="utf-8"))["model_cfg"]
        _check_text(str(beside), model)
    return Checkpoint(file, CONFIG, model, {})


def _first(repository: Weights, names: tuple[str, ...] | list[str]) -> LocatedFile:
    """The file that is here, of several that would do, or else the first one that the hub has."""
    missing: list[ModelMissing] = []
    for name in names:
        if found := file_here(repository, name):
            return found
    for name in names:
        try:
            return locate_file(repository, name)
        except ModelMissing as error:
            missing.append(error)
    raise missing[0]


def _build(config: Mapping[str, Any]) -> Any:
    if "multimodal_cfg" in config:
        raise UserError(
            "a CoCa model as a single checkpoint is not known here; give a folder with open_clip_config.json"
        )
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    return (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**arguments)


def _network(model: Any, tokenizer: Any, recipe: PixelRecipe, config: Mapping[str, Any]) -> Network:
    return Network(
        module=model,
        image=model.encode_image,
        text=model.encode_text,
        tokenize=open_clip_tokens(tokenizer, tokenizer.context_length, to_limit=True),
        text_format=f"open_clip's {type(tokenizer).__name__}",
        recipe=recipe,
        logit_scale=float(model.logit_scale.detach().double().exp()),
        width=config["embed_dim"],
    )


def _recipe(said: Mapping[str, Any], model: Mapping[str, Any]) -> PixelRecipe:
    resize, interpolation = said.get("resize_mode", "shortest"), said.get("interpolation", "bicubic")
    if resize not in RESIZE or said.get("fill_color", 0):
        raise UserError(
            f"open_clip preprocessing with resize_mode {resize} and fill_color {said.get('fill_color', 0)} is not known "
            f"here; known: resize_mode {', '.join(RESIZE)}, fill_color 0"
        )
    return PixelRecipe(
        size=_side(model),
        resize=RESIZE[resize],
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        mean=_three(said.get("mean", CLIP_MEAN)),
        std=_three(said.get("std", CLIP_STD)),
    )


def _side(model: Mapping[str, Any]) -> int:
    size = model["vision_cfg"].get("image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if height != width:
        raise UserError(f"an open_clip model for pictures of {height}x{width} is not known here; only square ones are")
    return int(height)


def _three(values: float | tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return red, green, blue


def _check_text(name: str, model: Mapping[str, Any]) -> None:
    """Refuses a text tower that is itself a model of the hub: open_clip would ask there, offline for half a minute."""
    if tower := model["text_cfg"].get("hf_model_name"):
        raise UserError(
            f"{name} has {tower} of the hub as its text tower, which is not known here; give a model whose text tower is "
            "open_clip's own"
        )


def _check_published(repository: str, model: Mapping[str, Any]) -> None:
    """The settings of a folder from the hub against open_clip's table; of a local folder nobody knows."""
    for architecture, tag in open_clip.list_pretrained():
        published = open_clip.get_pretrained_cfg(architecture, tag)
        if published["hf_hub"].strip("/") == repository:
            _check_activation(repository, model, published, f"{architecture}/{tag}")


def _check_activation(name: str, model: Mapping[str, Any], published: Mapping[str, Any], listed: str) -> None:
    if published.get("quick_gelu") and not model.get("quick_gelu"):
        architecture, tag = listed.split("/")
        right = f"{OPEN_CLIP}{architecture.removesuffix('-quickgelu')}-quickgelu/{tag}"
        raise UserError(f"{name}: its weights were trained with QuickGELU and would run with GELU; write {right}")
