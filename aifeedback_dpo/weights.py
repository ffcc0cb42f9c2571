"""Finds weights: a local folder, the hub's cache, the hub itself, or the embedded world."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from aifeedback_dpo import shapes
from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.provenance import file_hash, fingerprint

PIPELINE_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
PATIENCE = 4.0  # seconds that the hub has to answer
NOT_NEEDED = ["safety_checker/*", "feature_extractor/*", "*.fp16.safetensors", "*non_ema*"]


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
    local = _local(weights, part)
    return Identity(local.name, local.revision) if local else Identity(weights.id, _commit(weights, part))


def locate(weights: Weights, part: str) -> Located:
    """The folder of these weights; `part` says which piece of the embedded world is meant (`pipeline`, `clip`, ...).

    Raises ModelMissing, with the command that fetches them, when they are not here and cannot be had.
    """
    return _local(weights, part) or _from_hub(weights, _files(part))


def locate_file(weights: Weights, file: str) -> LocatedFile:
    """One file: `weights.id` itself where it is one, or `file` in a local folder or a hub repository.

    Its revision is a hash of its content, or the hub's commit. Raises ModelMissing as `locate` does.
    """
    path = Path(weights.id).expanduser()
    if path.is_dir():
        path /= file
        if not path.is_file():
            raise ModelMissing(f"{weights.id} holds no {file}; name the file with `file`, or give its path as `id`")
    if path.is_file():
        if weights.revision:
            raise UserError(f"revision {weights.revision} goes with a hub id, and {path} is a file; leave it out")
        return LocatedFile(path, weights.id, file_hash(path.resolve())[:32])
    located = _from_hub(weights, {"allow_patterns": [file]})
    path = located.folder / file
    if not path.is_file():
        raise ModelMissing(f"{weights.id} has no {file} on this machine; run `{_fetch(weights, [file])}`")
    return LocatedFile(path, located.name, located.revision)


@contextmanager
def loading(located: Located | LocatedFile, what: str) -> Iterator[None]:
    """Raises ModelMissing, in one line, when the folder turns out not to hold what is loaded from it."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelMissing(f"{located.folder} does not hold {what}: {reason}") from error


def _local(weights: Weights, part: str) -> Located | None:
    if weights.id == "shapes":
        folder = shapes.weights(part)
        if not folder.is_dir():
            raise ModelMissing(f"the embedded weights are not at {folder}; run `python -m aifeedback_dpo.shapes.build`")
        return Located(folder, "shapes", fingerprint(folder))
    folder = Path(weights.id).expanduser()
    if not folder.is_dir():
        return None
    if weights.revision:
        raise UserError(f"revision {weights.revision} goes with a hub id, and {weights.id} is a folder; leave it out")
    return Located(folder, weights.id, fingerprint(folder.resolve()))


def _commit(weights: Weights, part: str) -> str:
    """The commit of a hub model: of the copy in the cache, or else what the hub says now."""
    if cached := _cached(weights, _files(part)):
        return cached.name
    return _ask_hub(weights, _files(part))


def _from_hub(weights: Weights, patterns: dict[str, Any]) -> Located:
    from huggingface_hub import snapshot_download

    folder = _cached(weights, patterns)
    if folder is None:
        commit = _ask_hub(weights, patterns)
        with _explained(weights, patterns):
            folder = Path(snapshot_download(weights.id, revision=commit, **patterns))
    return Located(folder, weights.id, folder.name)


def _ask_hub(weights: Weights, patterns: dict[str, Any]) -> str:
    """The commit that the hub has now: one question, answered within seconds or given up."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    with _explained(weights, patterns):
        found = HfApi().model_info(weights.id, revision=weights.revision, timeout=PATIENCE)
    names = [file.rfilename for file in found.siblings or []]
    if not list(filter_repo_objects(names, **patterns)):
        raise ModelMissing(f"{weights.id} has none of the files that are needed: {', '.join(patterns['allow_patterns'])}")
    return str(found.sha)


def _cached(weights: Weights, patterns: dict[str, Any]) -> Path | None:
    """The copy in the hub's cache, which is not looked for anew on the hub: a run keeps its revision."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(
            snapshot_download(weights.id, revision=weights.revision, local_files_only=True, **patterns)
        )
    except (OSError, HFValidationError):
        return None
    return folder if any(path.is_file() for path in folder.rglob("*")) else None


def _files(part: str) -> dict[str, Any]:
    allowed = PIPELINE_FILES if part == "pipeline" else MODEL_FILES
    return {"allow_patterns": allowed, "ignore_patterns": NOT_NEEDED}


def _fetch(weights: Weights, files: Sequence[str] = ()) -> str:
    """The command that puts a model into the hub's cache."""
    revision = ["--revision", weights.revision] if weights.revision else []
    return shlex.join(["hf", "download", weights.id, *files, *revision])


@contextmanager
def _explained(weights: Weights, patterns: dict[str, Any]) -> Iterator[None]:
    """The hub's errors as ModelMissing, each with the next step."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    single = [name for name in patterns["allow_patterns"] if "*" not in name]
    fetch = _fetch(weights, single if len(single) == len(patterns["allow_patterns"]) else ())
    try:
        yield
    except GatedRepoError as error:
        raise ModelMissing(
            f"{weights.id} is gated: accept its licence at https://huggingface.co/{weights.id}, then `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelMissing(f"'{weights.id}' is neither a folder here nor a model on the hub") from error
    except RevisionNotFoundError as error:
        raise ModelMissing(f"{weights.id} has no revision {weights.revision} on the hub") from error
    except (OSError, HTTPError) as error:
        raise ModelMissing(
            f"{weights.id} is not on this machine and the hub cannot be reached; run `{fetch}` where it can"
        ) from error
