"""Where a suite's files are: a folder or file here, the hub's cache, or the hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aifeedback_dpo import hub
from aifeedback_dpo.compare.suites.known import Known
from aifeedback_dpo.compare.suites.tables import FORMATS
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.prompts import HUB_ID


@dataclass(frozen=True)
class Place:
    """The files of a suite, and what they are called in a report."""

    files: tuple[Path, ...]
    source: str


def find(name: str, known: Known, where: str | None) -> Place:
    """The files of a known suite: from `where`, a file, a folder or `owner/name[@revision]`, or from where it is published.

    Raises UserError for a place that is not there or has none of the files, ModelMissing, with the command that fetches
    them, where the hub has to be asked and does not answer.
    """
    if where is None and known.hub is None:
        raise ModelMissing(f"the prompts of {name} are on no hub: run `{known.fetch}`, then give --suite {name}=PATH")
    path = Path(where or "").expanduser()
    if where and path.is_file():
        return Place((path,), path.name)
    if where and path.is_dir():
        if lacks := missing(path, known.files):
            raise UserError(f"{path} has no {lacks}, which --suite {name}=FOLDER reads; give the file itself")
        return Place(found(path, known.files), path.name)
    return _on_hub(name, known, where or known.hub or "")


def missing(folder: Path, files: Sequence[str]) -> str | None:
    """The first of these files (names or patterns) that is not under a folder; of files in pieces, one that lacks a piece.

    One is enough where they are several versions of the same, as captions of two years are.
    """
    if versions(files):
        return None if found(folder, files) else " or ".join(files)
    for file in files:
        there = _below(folder, file)
        pieces = {int(match[1]) for path in there if (match := re.search(r"-of-(\d+)", path.name))}
        if not there or any(len(there) < count for count in pieces):
            return file
    return None


def found(folder: Path, files: Sequence[str]) -> tuple[Path, ...]:
    """These files, wherever they lie under a folder; of several versions the first."""
    there = [path for file in files for path in _below(folder, file)]
    return tuple(there[:1] if versions(files) else there)


def versions(files: Sequence[str]) -> bool:
    """Whether these are the same captions of several years."""
    return all(file.startswith("captions_") for file in files)


def _below(folder: Path, file: str) -> list[Path]:
    """At its place, or else anywhere below: people keep such files flat."""
    return sorted(folder.glob(file)) or sorted(folder.rglob(Path(file).name))


def _on_hub(name: str, known: Known, where: str) -> Place:
    id_, _, revision = where.partition("@")
    if not re.fullmatch(HUB_ID, id_) or Path(id_).suffix.lower() in FORMATS:
        raise UserError(
            f"--suite {name}={where}: there is no such file or folder, and no dataset of the hub is called so"
        )
    repository = Repository(
        id_, revision or None, known.files, kind="dataset", instead=f", or give a copy as --suite {name}=PATH"
    )

    def lacks(folder: Path) -> str | None:
        return missing(folder, known.files)

    folder = hub.cached(repository, lacks) or hub.download(repository, lacks)
    return Place(found(folder, known.files), f"{id_}@{folder.name}")
