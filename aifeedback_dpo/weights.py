"""Finds weights: a local folder, the hub's cache, the hub itself, or the embedded world."""

from dataclasses import dataclass
from pathlib import Path

from aifeedback_dpo import shapes
from aifeedback_dpo.config import Weights
from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.provenance import fingerprint


@dataclass(frozen=True)
class Located:
    """A folder on this machine, the name it goes by, and the exact revision (a commit, or a hash of the content)."""

    folder: Path
    name: str
    revision: str


def locate(weights: Weights, part: str) -> Located:
    """The folder of these weights; `part` says which piece of the embedded world is meant (`pipeline`, `clip`, ...).

    Raises ModelMissing, with the command that fetches them, when they are not here and cannot be had.
    """
    if weights.id == "shapes":
        folder = shapes.weights(part)
        if not folder.is_dir():
            raise ModelMissing(f"the embedded weights are not at {folder}; run `python -m aifeedback_dpo.shapes.build`")
        return Located(folder, "shapes", fingerprint(folder))
    folder = Path(weights.id).expanduser()
    if folder.is_dir():
        return Located(folder, weights.id, fingerprint(folder.resolve()))
    return _from_hub(weights)


def _from_hub(weights: Weights) -> Located:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    fetch = f"hf download {weights.id}" + (f" --revision {weights.revision}" if weights.revision else "")
    patterns = ["*.json", "*.txt", "*.safetensors", "*.model"]
    try:
        path = snapshot_download(weights.id, revision=weights.revision, allow_patterns=patterns)
    except GatedRepoError as error:
        raise ModelMissing(
            f"{weights.id} is gated: accept its licence at https://huggingface.co/{weights.id}, then `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelMissing(f"'{weights.id}' is neither a folder here nor a model on the hub") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelMissing(
            f"{weights.id} is not on this machine and the hub cannot be reached; run `{fetch}` where it can"
        ) from error
    return Located(Path(path), weights.id, Path(path).name)
