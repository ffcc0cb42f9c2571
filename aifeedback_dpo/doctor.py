"""What this machine can run: versions, device, memory, disk, the hub, and what each recipe that ships needs of them.

Memory is computed from parameter counts, not measured: what the weights, their gradients and the optimizer take. Activations
come on top, for which ROOM leaves some.
"""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from aifeedback_dpo import config, hub, prompts, weights
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.scorers import presence
from aifeedback_dpo.settings import Model, Recipe, Weights

PACKAGES = (
    "aifeedback_dpo",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "huggingface_hub",
    "open_clip_torch",
)
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
ROOM = 1.3
T5 = 4.76
# Billions of parameters: the network that is trained, and text encoders and autoencoder beside it (the models' cards, and
# counted from their configurations)
PARAMETERS = {
    "shapes": (0.0006, 0.001),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (0.86, 0.21),
    "stabilityai/stable-diffusion-xl-base-1.0": (2.57, 0.90),
    "stabilityai/stable-diffusion-3-medium-diffusers": (2.03, 0.90 + T5),
    "stabilityai/stable-diffusion-3.5-medium": (2.47, 0.90 + T5),
    "black-forest-labs/FLUX.1-dev": (11.9, 0.21 + T5),
    "black-forest-labs/FLUX.1-schnell": (11.9, 0.21 + T5),
}


@dataclass(frozen=True)
class Machine:
    """What is here. Gigabytes are 1e9 bytes; `gpu` is the first GPU's name, None without one."""

    python: str
    packages: dict[str, str | None]
    cores: int
    gpu: str | None
    gpus: int
    bfloat16: bool
    gpu_gb: float | None
    memory_gb: float | None
    disk_free_gb: dict[str, float]
    hub: str
    logged_in: bool
    extras: dict[str, bool]

    @property
    def working_gb(self) -> float | None:
        """The memory that models run in."""
        return self.gpu_gb if self.gpu else self.memory_gb


@dataclass(frozen=True)
class Needs:
    """What a recipe needs: memory without activations, weights that are not here, and the commands that fetch them.

    `enough` says whether the memory does, with room for activations; None where the model's size or the machine's is unknown.
    `hub_prompts` is the dataset that is read from the hub when it is first run.
    """

    recipe: str
    memory_gb: float | None
    enough: bool | None
    here: list[str]
    missing: list[str]
    fetch: list[str]
    hub_prompts: str | None


def machine() -> Machine:
    """This one. Loads torch, which alone can tell about GPUs."""
    import torch
    from huggingface_hub import constants

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name(0) if gpus else None,
        gpus=gpus,
        bfloat16=torch.cuda.is_bf16_supported() if gpus else True,
        gpu_gb=round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1) if gpus else None,
        memory_gb=_memory(),
        disk_free_gb={str(folder): _free(folder) for folder in (Path(constants.HF_HUB_CACHE), Path.cwd())},
        hub=hub.state(),
        logged_in=hub.has_token(),
        extras={name: all(map(find_spec, packages)) for name, packages in presence.PACKAGES.items()},
    )


def needs(name: str, here: Machine) -> Needs:
    """What a recipe needs that this machine has or lacks; neither the hub nor a model is touched."""
    recipe = config.load(name)
    fetch: dict[str, list[str]] = {}
    for model in (recipe.model, *recipe.generate.pool):
        fetch[model.id] = _part(model, "pipeline")
        if model.vae:
            fetch[model.vae.id] = _part(model.vae.weights, "vae")
    for scorer, found in recipe.label.scorers.items():
        fetch[scorer] = presence.missing(scorer, found)
    memory, dataset = memory_gb(recipe), hub_prompts(recipe)
    commands = [step for steps in fetch.values() for step in steps] + ([dataset.fetch] if dataset else [])
    return Needs(
        recipe=name,
        memory_gb=None if memory is None else round(memory, 1),
        enough=None if memory is None or here.working_gb is None else memory * ROOM <= here.working_gb,
        here=[part for part, steps in fetch.items() if not steps],
        missing=[part for part, steps in fetch.items() if steps],
        fetch=list(dict.fromkeys(commands)),
        hub_prompts=dataset.id if dataset else None,
    )


def memory_gb(recipe: Recipe) -> float | None:
    """What drawing or training takes, whichever is more; None where a model's parameters are not in the table.

    Full training holds the frozen and the trained network, the gradient and, for AdamW, two moments, each in float32, beside
    the network as it was loaded.
    """
    drawers = recipe.generate.pool or (recipe.model,)
    if any(model.id not in PARAMETERS for model in (recipe.model, *drawers)):
        return None
    denoiser = PARAMETERS[recipe.model.id][0]
    loaded = denoiser * BYTES[recipe.model.dtype]
    moments = 8 if recipe.train.optimizer == "adamw" else 0
    trained = loaded + (denoiser * (4 + 4 + 4 + moments) if recipe.train.method == "full" else 0)
    return max(trained, *map(_drawing, drawers))


def _drawing(model: Model) -> float:
    """With offload the largest component alone is on the GPU: the network or T5."""
    denoiser, rest = PARAMETERS[model.id]
    held = denoiser + rest if model.offload == "none" else max(denoiser, min(rest, T5))
    return held * BYTES[model.dtype]


def _part(model: Weights, part: str) -> list[str]:
    return [] if weights.here(model, part) else [weights.repository(model, part).fetch]


def hub_prompts(recipe: Recipe) -> Repository | None:
    """The dataset that prompts are read from; None for the grammar, a file, or one that `hf download` has fetched."""
    if not prompts.on_hub(recipe.prompts):
        return None
    dataset = Repository(recipe.prompts.source, kind="dataset")
    return None if prompts.downloaded(dataset) else dataset


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> float | None:
    """Of the machine; None where the system does not tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _free(folder: Path) -> float:
    """On the disk where this folder is, or will be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return round(shutil.disk_usage(there).free / 1e9, 1)
