"""Finds weights: a local folder, the hub's cache, the hub itself, or the embedded world."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from aifeedback_dpo import hub, shapes
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.provenance import file_hash, fingerprint
from aifeedback_dpo.settings import Weights

TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.jinja")  # the last are chat templates
MODEL_FILES = (*TOKENIZER_FILES, "*.safetensors")
PIPELINE_FILES = (*TOKENIZER_FILES, "*/*.safetensors")  # those at the top are the same weights for other programs
NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder")
VARIANTS = ("*.fp16.safetensors", "*non_ema*")
NOT_NEEDED = (
    *(f"{part}/*" for part in NOT_LOADED),
    "text_encoders/*",  # for other programs, in Stable Diffusion 3.5
    "vae_1_0/*",  # SDXL's first
    *VARIANTS,
)


@dataclass(frozen=True)
class Identity:
    """The name that weights go by, and their exact revision: a commit of the hub, or a hash of the content."""

    name: str
    revision: str


@dataclass(frozen=True)
class Located:
    """The same, with the folder on this machine that holds them."""

    folder: Path
    name: str
    revision: str


@dataclass(frozen=True)
class LocatedFile:
    """The same for weights that are one file."""

    path: Path
    name: str
    revision: str

    @property
    def folder(self) -> Path:
        """What an error names: the file itself."""
        return self.path


def identify(weights: Weights, part: str) -> Identity:
    """Which weights these are, without downloading them. Raises ModelMissing where nobody can tell."""
    if found := here(weights, part):
        return Identity(found.name, found.revision)
    return Identity(weights.id, hub.commit(repository(weights, part)))


def locate(weights: Weights, part: str) -> Located:
    """The folder of these weights; `part` says what is meant: `pipeline`, `tokenizer`, or a model such as `clip`.

    Raises ModelMissing, with the command that fetches them, when they are not here and cannot be had.
    """
    if found := here(weights, part):
        return found
    folder = hub.download(repository(weights, part), _lacks(part))
    return Located(folder, weights.id, folder.name)


def here(weights: Weights, part: str) -> Located | None:
    """The same where they are on this machine, and nobody is asked; None where they are not."""
    if found := _local(weights, part):
        return found
    folder = hub.cached(repository(weights, part), _lacks(part))
    return Located(folder, weights.id, folder.name) if folder else None


def locate_file(weights: Weights, file: str) -> LocatedFile:
    """One file: `weights.id` itself where it is one, or `file` in a local folder or a hub repository.

    Its revision is a hash of its content, or the hub's commit. Raises ModelMissing as `locate` does.
    """
    if found := file_here(weights, file):
        return found
    folder = hub.download(_only(weights, file), _lacks_file(file))
    return LocatedFile(folder / file, weights.id, folder.name)


def file_here(weights: Weights, file: str) -> LocatedFile | None:
    """The same where it is on this machine, and nobody is asked; None where it is not.

    Raises ModelMissing for a local folder without it.
    """
    path = Path(weights.id).expanduser()
    if path.is_dir():
        path /= file
        if not path.is_file():
            raise ModelMissing(f"{weights.id} holds no {file}; name the file with `file`, or give its path as `id`")
    if path.is_file():
        _takes_no_revision(weights, "file")
        return LocatedFile(path, weights.id, file_hash(path.resolve())[:32])
    folder = hub.cached(_only(weights, file), _lacks_file(file))
    return LocatedFile(folder / file, weights.id, folder.name) if folder else None


def repository(weights: Weights, part: str) -> Repository:
    """What of a hub repository is needed of such weights."""
    files = {"pipeline": PIPELINE_FILES, "tokenizer": TOKENIZER_FILES}.get(part, MODEL_FILES)
    return Repository(weights.id, weights.revision, files, NOT_NEEDED)


@contextmanager
def loading(located: Located | LocatedFile, what: str) -> Iterator[None]:
    """Raises ModelMissing, in one line, when the folder turns out not to hold what is loaded from it."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelMissing(f"{located.folder} does not hold {what}: {reason}") from error


def _local(weights: Weights, part: str) -> Located | None:
    if weights.id == "shapes":
        folder = shapes.weights(part)
        if not folder.is_dir():
            raise ModelMissing(f"the embedded weights are not at {folder}; run `python -m aifeedback_dpo.shapes.build`")
        return Located(folder, "shapes", fingerprint(folder))
    folder = Path(weights.id).expanduser()
    if part == "pipeline" and folder.is_file():
        raise ModelMissing(
            f"{weights.id} is a single file, and a folder in the diffusers format is needed; "
            "`Pipeline.from_single_file(...).save_pretrained(FOLDER)` of diffusers makes one of it"
        )
    if not folder.is_dir():
        return None
    _takes_no_revision(weights, "folder")
    return Located(folder, weights.id, fingerprint(folder.resolve()))


def _takes_no_revision(weights: Weights, kind: str) -> None:
    if weights.revision:
        raise UserError(f"revision {weights.revision} goes with a hub id, and {weights.id} is a {kind}; leave it out")


def _only(weights: Weights, file: str) -> Repository:
    return Repository(weights.id, weights.revision, (file,))


def _lacks_file(file: str) -> Callable[[Path], str | None]:
    return lambda folder: None if (folder / file).is_file() else file


def _lacks(part: str) -> Callable[[Path], str | None]:
    """What a downloaded folder is short of, by its own listings: a snapshot may be there in part."""
    return {"pipeline": _pipeline_lacks, "tokenizer": _files_lack}.get(part, _model_lacks)


def _pipeline_lacks(folder: Path) -> str | None:
    index = folder / "model_index.json"
    if not index.is_file():
        return index.name
    listed = json.loads(index.read_text(encoding="utf-8"))
    parts = [
        name
        for name, made_by in listed.items()
        if isinstance(made_by, list) and None not in made_by and name not in NOT_LOADED
    ]
    return next((f"{part}/{missing}" for part in parts if (missing := _model_lacks(folder / part))), None)


def _model_lacks(folder: Path) -> str | None:
    """A model with a config.json has weights, and each shard of its index; a scheduler or a LoRA has no such file."""
    if missing := _files_lack(folder):
        return missing
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if absent := sorted(shard for shard in shards if not (folder / shard).is_file()):
            return str(absent[0])
        return None
    there = [path.name for path in folder.glob("*.safetensors") if path.is_file()]
    whole = any(not any(fnmatch(name, variant) for variant in VARIANTS) for name in there)
    return None if whole or not (folder / "config.json").is_file() else "*.safetensors"


def _files_lack(folder: Path) -> str | None:
    return None if any(path.is_file() for path in folder.rglob("*")) else "*"
