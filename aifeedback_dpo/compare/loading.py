"""How a policy is loaded with diffusers: the lines of Python for its card."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aifeedback_dpo.markdown import escaped, fenced
from aifeedback_dpo.settings import Model

DENOISERS = ("unet", "transformer")
EMBEDDED = "shapes"


def on_hub(base: Mapping[str, Any]) -> bool:
    """Whether a base model is known to be the hub's: a commit of the hub has 40 digits, a folder's hash has 32."""
    return re.fullmatch(r"[0-9a-f]{40}", str(base["revision"])) is not None


def how_to_load(row: Mapping[str, Any], folders: Sequence[Path], base: Mapping[str, Any], model: Model | None) -> str:
    """Lines to run in the folder of the policy's run; `base` is its base model's id and revision."""
    folder = folders[0]
    at = "/".join(folder.parts[-3:])  # policies/NAME/seed-N, on whichever machine
    lines = ["from diffusers import DiffusionPipeline"]
    arguments = [_text(str(base["model"])), *_revision(base)]
    if base["model"] == EMBEDDED:
        lines.append("from aifeedback_dpo import shapes")
        arguments = ['shapes.weights("pipeline")']
    if row["training"]["method"] == "lora":
        rest = [f"pipeline = DiffusionPipeline.from_pretrained({', '.join(arguments)})"]
        rest.append(f"pipeline.load_lora_weights({_text(at)})")
    else:
        whole = next((name for name in DENOISERS if (folder / name).is_dir()), DENOISERS[0])
        lines[0] = "from diffusers import AutoModel, DiffusionPipeline"
        rest = [f"{whole} = AutoModel.from_pretrained({_text(at)}, subfolder={_text(whole)})"]
        rest.append(f"pipeline = DiffusionPipeline.from_pretrained({', '.join([*arguments, f'{whole}={whole}'])})")
    code = "\n".join([*lines, "", *rest])
    seeds = ", ".join(f"seed-{seed}" for seed in row["seeds"])
    said = [f"In the folder of its run (training seeds: {seeds}):", fenced(code, "python")]
    if model and (model.adapters or model.vae):
        parts = [f"the LoRA {escaped(each.id)} at weight {each.weight:g}, merged" for each in model.adapters]
        parts += [f"the autoencoder {escaped(model.vae.id)}"] if model.vae else []
        said.append(f"It was trained on the base model with {', and '.join(parts)}: load those first.")
    return "\n\n".join(said)


def _revision(base: Mapping[str, Any]) -> list[str]:
    """Only a commit of the hub can be asked for."""
    return [f"revision={_text(str(base['revision']))}"] if on_hub(base) else []


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a Python literal as well, on one line
