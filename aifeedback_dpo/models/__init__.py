"""Text-to-image models: one file a family, the only places that know a diffusers architecture. Torch-free until `load`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aifeedback_dpo import weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.settings import Adapter, Model, Weights
from aifeedback_dpo.store import Run
from aifeedback_dpo.weights import Identity, LocatedFile

if TYPE_CHECKING:
    from aifeedback_dpo.models.diffuser import Diffuser

FAMILIES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}
LORA_FILE = "pytorch_lora_weights.safetensors"


def identify(model: Model) -> Identity:
    """Which pipeline this is, with its other autoencoder and its adapters. Raises ModelMissing where nobody can tell."""
    base = weights.identify(model, "pipeline")
    if not model.vae and not model.adapters:
        return base
    vae = weights.identify(model.vae.weights, "vae").revision if model.vae else None
    merged = [[adapter_file(adapter).revision, adapter.weight] for adapter in model.adapters]
    return Identity(base.name, content_id(base.revision, vae, merged))


def unchanged(run: Run, identities: Sequence[Identity]) -> None:
    """Raises UserError where a model that has drawn in this run goes by the same name and is another one now."""
    drew = run.manifest()["made_by"].get("generate", {}).get("models", {})
    for found in identities:
        known = drew.get(found.name, found.revision)
        if known != found.revision and run.parts("images"):
            raise UserError(
                f"{found.name} is not the model that drew the pictures of {run.root}: it was {known[:12]} and is "
                f"{found.revision[:12]} now. Put it back (of the hub: model.revision), or choose another --run"
            )


def check(model: Model) -> None:
    """Raises what keeps this pipeline from being loaded, as far as can be told without loading it: ModelMissing, UserError.

    Weights of the hub are fetched.
    """
    family_of(weights.locate(model, "pipeline").folder)
    for adapter in model.adapters:
        adapter_file(adapter)


def adapter_file(adapter: Adapter) -> LocatedFile:
    """The LoRA's file on this machine."""
    return weights.locate_file(Weights(id=adapter.id, revision=adapter.revision), adapter.file or LORA_FILE)


def family_of(folder: Path) -> str:
    """The family of a pipeline folder, by the class in its `model_index.json`.

    Raises ModelMissing where there is no such file, UserError for a class of no known family.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        name = str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelMissing(f"{folder} holds no pipeline in the diffusers format: no usable model_index.json") from error
    if name not in FAMILIES:
        raise UserError(f"{folder} is a {name}; supported are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def load(model: Model) -> "Diffuser":
    """The pipeline of a hub id, a local folder or the embedded world. Raises ModelMissing without its weights."""
    from aifeedback_dpo.models import loading

    return loading.load(model)
