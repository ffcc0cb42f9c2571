"""Folders in transformers' format: CLIP, SigLIP, and SigLIP 2 of fixed resolution (which is SigLIP to transformers).

The numbers of preprocessing are read from the folder, and carried out in `pixels`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transformers import AutoTokenizer, CLIPModel, SiglipModel

from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.scorers.network import Network, Tokenize, open_clip_tokens, transformers_tokens
from aifeedback_dpo.scorers.pixels import CLIP_MEAN, CLIP_STD, FILTERS, PixelRecipe
from aifeedback_dpo.scorers.pretrained import CLOSED, whole
from aifeedback_dpo.weights import Located, loading

KINDS = {"clip": CLIPModel, "siglip": SiglipModel}
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
CLIP_VOCABULARY = 49408
STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": False, "rescale_factor": 1 / 255}


def read(located: Located, kind: str) -> Network:
    """The model of a folder whose `model_type` is `kind`, in float32, as its temperature needs.

    Raises ModelMissing when a tensor or a file of it is not there.
    """
    with loading(located, f"a {kind} model with its processor and tokenizer"):
        model = whole(KINDS[kind], located.folder, "float32")
        text, image = model.config.text_config, model.config.vision_config
        tokenize, text_format = _tokens(located, kind, text.max_position_embeddings, text.vocab_size)
        recipe = pixel_recipe(_processor(located.folder), kind, image.image_size)
    return Network(
        module=model,
        image=lambda pixels: model.get_image_features(pixels).pooler_output,
        text=lambda ids: model.get_text_features(ids).pooler_output,
        tokenize=tokenize,
        text_format=text_format,
        recipe=recipe,
        logit_scale=float(model.logit_scale.detach().double().exp()),
        width=image.hidden_size if kind == "siglip" else model.config.projection_dim,
    )


def _tokens(located: Located, kind: str, limit: int, vocabulary: int) -> tuple[Tokenize, str]:
    """The folder's own tokenizer. PickScore_v1 and others have none: theirs is CLIP's, which open_clip carries."""
    if any((located.folder / name).is_file() for name in TOKENIZERS):
        try:
            tokenizer = AutoTokenizer.from_pretrained(located.folder, **CLOSED)
        except ImportError as error:
            raise UserError(
                f"the tokenizer of {located.name} needs a package that is not installed; "
                "run `pip install sentencepiece protobuf`"
            ) from error
        is_siglip = kind == "siglip"  # trained on lower case, padded to the end, and with the padding looked at
        return transformers_tokens(tokenizer, limit, to_limit=is_siglip, lower=is_siglip), "as in the folder"
    if kind != "clip" or vocabulary != CLIP_VOCABULARY:
        raise ModelMissing(
            f"{located.folder} holds no tokenizer ({', '.join(TOKENIZERS)}), and its {vocabulary} words are not CLIP's"
        )
    from open_clip import SimpleTokenizer

    return open_clip_tokens(SimpleTokenizer(), limit, to_limit=False), "CLIP's BPE"


def _processor(folder: Path) -> Mapping[str, Any]:
    """What the folder says of preprocessing; transformers 5 keeps it beside the tokenizer's settings."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text(encoding="utf-8"))
            said: Mapping[str, Any] = found if key is None else found.get(key, {})
            if said:
                return said
    return {}


def pixel_recipe(said: Mapping[str, Any], kind: str, image_size: int) -> PixelRecipe:
    """The recipe that a preprocessor_config.json stands for, its gaps filled with the defaults of CLIP or SigLIP.

    Raises UserError for steps that `pixels` does not have, rather than leaving one out.
    """
    settings = {**_defaults(kind, image_size), **said}
    resize = _resize(settings["size"], settings["crop_size"] if settings["do_center_crop"] else None, image_size)
    if resize is None:
        crop = f"crop_size {settings['crop_size']}" if settings["do_center_crop"] else "no centre crop"
        raise UserError(
            f"preprocessor_config.json has size {settings['size']} and {crop}, and the model takes {image_size} pixels; known "
            f"here: shortest_edge {image_size} and a centre crop to it, or height and width {image_size}"
        )
    for key, value in STEPS.items():
        if settings.get(key, value) != value:
            raise UserError(f"preprocessor_config.json has {key}={settings[key]!r}; known here is {value!r} only")
    filters = {int(code): name for name, code in FILTERS.items()}
    if settings["resample"] not in filters:
        raise UserError(f"preprocessor_config.json has resample={settings['resample']!r}; known here: {filters}")
    return PixelRecipe(
        size=image_size,
        resize=resize,
        interpolation=filters[settings["resample"]],
        mean=tuple(settings["image_mean"]),
        std=tuple(settings["image_std"]),
        crop="down",
    )


def _defaults(kind: str, image_size: int) -> dict[str, Any]:
    shared = {"crop_size": image_size, "resample": 3}
    if kind == "siglip":
        whole, half = {"height": image_size, "width": image_size}, (0.5, 0.5, 0.5)
        return {**shared, "size": whole, "do_center_crop": False, "image_mean": half, "image_std": half}
    return {**shared, "size": image_size, "do_center_crop": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}


def _resize(size: Any, crop: Any, image_size: int) -> Literal["shortest", "square"] | None:
    """Sizes were bare numbers once, and are mappings now."""
    whole = {"height": image_size, "width": image_size}
    if size in (image_size, {"shortest_edge": image_size}) and crop in (image_size, whole):
        return "shortest"
    return "square" if size == whole and crop in (None, image_size, whole) else None
