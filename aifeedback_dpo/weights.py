"""Finds weights: a local folder, the hub's cache, the hub itself, or the embedded world."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from aifeedback_dpo import shapes
from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.provenance import fingerprint

PIPELINE_FILES = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
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


def identify(weights: Weights, part: str) -> Identity:
    """Which weights these are, without downloading them. Raises ModelMissing where nobody can tell."""
    local = _local(weights, part)
    return Identity(local.name, local.revision) if local else Identity(weights.id, _commit(weights, part))


def locate(weights: Weights, part: str) -> Located:
    """The folder of these weights; `part` says which piece of the embedded world is meant (`pipeline`, `clip`, ...).

    Raises ModelMissing, with the command that fetches them, when they are not here and cannot be had.
    """
    return _local(weights, part) or _from_hub(weights, part)


@contextmanager
def loading(located: Located, what: str) -> Iterator[None]:
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
    from huggingface_hub import snapshot_download

    if cached := _cached(weights, part):
        return cached.name
    with _explained(weights):
        files = snapshot_download(weights.id, revision=weights.revision, dry_run=True, **_files(part))
    if not files:
        raise ModelMissing(
            f"{weights.id} has none of the files that are needed: {', '.join(_files(part)['allow_patterns'])}"
        )
    return str(files[0].commit_hash)


def _from_hub(weights: Weights, part: str) -> Located:
    from huggingface_hub import snapshot_download

    folder = _cached(weights, part)
    if folder is None:
        with _explained(weights):
            folder = Path(snapshot_download(weights.id, revision=weights.revision, **_files(part)))
    return Located(folder, weights.id, folder.name)


def _cached(weights: Weights, part: str) -> Path | None:
    """The copy in the hub's cache, which is not looked for anew on the hub: a run keeps its revision."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(weights.id, revision=weights.revision, local_files_only=True, **_files(part)))
    except (OSError, HFValidationError):
        return None


def _files(part: str) -> dict[str, Any]:
    allowed = PIPELINE_FILES if part == "pipeline" else MODEL_FILES
    return {"allow_patterns": allowed, "ignore_patterns": NOT_NEEDED}


@contextmanager
def _explained(weights: Weights) -> Iterator[None]:
    """The hub's errors as ModelMissing, each with the next step."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    fetch = f"hf download {weights.id}" + (f" --revision {weights.revision}" if weights.revision else "")
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
    except OSError as error:
        raise ModelMissing(
            f"{weights.id} is not on this machine and the hub cannot be reached; run `{fetch}` where it can"
        ) from error
