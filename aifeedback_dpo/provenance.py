"""What made something: versions, the commit of this package, the fingerprint of a model folder."""

import datetime
import hashlib
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("aifeedback_dpo", "torch", "diffusers", "transformers", "accelerate", "peft", "datasets")


@cache
def versions() -> dict[str, Any]:
    """Installed versions and, in a checkout, the git commit of this package (with `+` when it has local changes)."""
    found = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    return {"versions": found, "commit": _commit()}


def now() -> str:
    """UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@cache
def fingerprint(folder: Path) -> str:
    """A hash of a model folder: of the name and content of each weight and configuration file."""
    return _hash(folder, {".safetensors", ".bin", ".json", ".pt", ".pth", ".txt", ".model", ".jinja"})


def weights_fingerprint(folder: Path) -> str:
    """A hash of the weights alone, as of a policy, whose description names times and versions."""
    return _hash(folder, {".safetensors"})


@cache
def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(folder: Path, suffixes: set[str]) -> str:
    digest = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _commit() -> str | None:
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "."], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
