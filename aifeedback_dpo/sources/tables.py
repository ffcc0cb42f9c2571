"""Sets in any format that `datasets` reads: a folder, a file, a `save_to_disk` folder, or an owner/name of the hub; streamed.

Pictures stay encoded. Reading can go on from a state of `datasets`, which skips whole files, or by counting rows.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from yaml import YAMLError

from aifeedback_dpo import hub
from aifeedback_dpo.errors import DataError, DdpoError, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.prompts import HUB_ID, downloaded
from aifeedback_dpo.records import content_id
from aifeedback_dpo.sources import pictures
from aifeedback_dpo.sources.comparison import Asked, Item, Opened, Row, Rows, State
from aifeedback_dpo.sources.pictures import Shelf, there

ROWS_AT_ONCE = 32
ENDS = 2**16
BUILDERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".tar": "webdataset",
}


def opened(asked: Asked, read: Callable[[dict[str, str]], Callable[[Row], Iterator[Item]]]) -> Opened:
    """The set; `read` is given its columns with their types and gives what makes a row into comparisons.

    Raises UserError for a split or a configuration it does not have, ModelMissing for a hub dataset that cannot be had.
    """
    place = _place(asked)
    with _readable(asked):
        builder = _builder(place)
        split = _split(asked, builder)
        stream = _stream(builder, split, place)
        columns = {name: _kind(feature) for name, feature in (stream.features or {}).items()}
        if not columns:
            columns = _first(stream)
    if not columns:
        raise UserError(f"{asked.path} has no rows in split {split}")

    def rows(start: int, state: State | None) -> Rows:
        with _readable(asked):
            again = _stream(builder, split, place)
            if start and not state:
                raise DataError(
                    f"the ledger of {asked.path} does not say how to go on after row {start}; take another --run"
                )
            if state:
                again.load_state_dict(state)
            stream = iter(again)
            try:
                for row in stream:
                    yield row, again.state_dict
            finally:
                stream.close()  # while pyarrow is there: at the end of the interpreter it would complain

    return Opened(
        name=asked.path.rstrip("/").rsplit("/", 1)[-1] or "set",
        split=split,
        identity=content_id(place.identity or _identity(_files(builder, split)), asked.config, split),
        columns=columns,
        total=_total(builder, split),
        licence=place.licence,
        rows=rows,
        read=read(columns),
        splits=tuple(map(str, builder.config.data_files or {})),
    )


@dataclass(frozen=True)
class _Place:
    """Where a set lies: arguments of `load_dataset`, its commit on the hub, its licence."""

    arguments: dict[str, Any]
    identity: str
    licence: str | None
    is_here: bool = True


def _place(asked: Asked) -> _Place:
    path = Path(asked.path).expanduser()
    if there(path):
        return _folder(path, asked) if path.is_dir() else _file(path)
    if not re.fullmatch(HUB_ID, asked.path):
        raise UserError(f"{asked.path} is no file or folder here, and no owner/name of the hub")
    repository = Repository(asked.path, kind="dataset", instead=", or give the folder of a copy")
    if folder := downloaded(repository):
        place = _folder(folder, asked)
        return _Place(place.arguments, folder.name, place.licence)
    at = hub.commit(repository)
    return _Place({"path": asked.path, "name": asked.config, "revision": at}, at, hub.licence(repository), False)


def _folder(path: Path, asked: Asked) -> _Place:
    if (path / "dataset_dict.json").exists():  # of `DatasetDict.save_to_disk`
        kinds = sorted(folder.name for folder in path.iterdir() if (folder / "state.json").exists())
        files = {kind: sorted(str(file) for file in (path / kind).glob("*.arrow")) for kind in kinds}
    elif (path / "state.json").exists():
        files = {"train": sorted(str(file) for file in path.glob("*.arrow"))}
    else:
        files = {}
    arguments = {"path": "arrow", "data_files": files} if files else {"path": str(path), "name": asked.config}
    return _Place(arguments, "", _licence(path / "README.md"))


def _file(path: Path) -> _Place:
    builder = BUILDERS.get(path.suffix.lower())
    if not builder:
        raise UserError(f"{path} ends in '{path.suffix}'; give a folder, or one of {', '.join(BUILDERS)}")
    arguments: dict[str, Any] = {"path": builder, "data_files": {"train": str(path)}}
    if path.suffix.lower() == ".tsv":
        arguments["sep"] = "\t"
    return _Place(arguments, "", _licence(path.parent / "README.md"))


def _identity(files: list[Path]) -> str:
    """By the names of a split's files, and the size, beginning and end of each: 335 GB are not hashed to be recognised."""
    return content_id(*((file.name if file.is_file() else str(file), fingerprint(file)) for file in sorted(set(files))))


def fingerprint(file: Path) -> str:
    """The size of a file and a hash of how it begins and ends; empty for what is no file here."""
    if not file.is_file():
        return ""
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as stream:
        digest.update(stream.read(ENDS))
        stream.seek(max(0, size - ENDS))
        digest.update(stream.read(ENDS))
    return f"{size}-{digest.hexdigest()[:32]}"


def shelf(asked: Asked) -> Shelf | None:
    """Where pictures lie that a table names by their paths: beside it, or where the user says; None for a set of the hub."""
    path = Path(asked.path).expanduser()
    beside = path if path.is_dir() else path.parent
    return pictures.shelf(asked.images, beside) if there(path) or asked.images else None


def _licence(card: Path) -> str | None:
    """What the card beside a set states, if anything."""
    from huggingface_hub import DatasetCard

    try:
        stated = DatasetCard.load(card, ignore_metadata_errors=True).data.license if card.is_file() else None
    except (ValueError, OSError, YAMLError, RecursionError):
        return None
    return str(stated) if stated else None


def _builder(place: _Place) -> Any:
    """What `datasets` reads the set with, made once: each time it asks the folder, or the hub, for all files."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(**place.arguments)
    if builder.info.builder_name == "parquet":
        # else a whole file is held in memory, and whole groups of rows are handed out
        from pyarrow.dataset import ParquetFragmentScanOptions

        builder.config.batch_size = ROWS_AT_ONCE
        builder.config.fragment_scan_options = ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
    return builder


def _split(asked: Asked, builder: Any) -> str:
    found = list(map(str, builder.config.data_files or {}))
    wanted = asked.split_of(found)
    if wanted not in found:
        raise UserError(f"{asked.path} has no split '{wanted}'; --split takes {', '.join(found)}")
    return wanted


def _stream(builder: Any, split: str, place: _Place) -> Any:
    """The rows of a split, from the first one on, pictures as they are encoded."""
    stream = builder.as_streaming_dataset(split=split)
    if builder.info.builder_name == "parquet" and place.is_here:
        # a group of rows at a time, for which each file is asked how many it has
        stream = stream.reshard()
    return stream if stream.features is None else stream.decode(False)  # a table of text has no pictures in it


def _files(builder: Any, split: str) -> list[Path]:
    return [Path(file) for file in (builder.config.data_files or {}).get(split, [])]


def _first(stream: Any) -> dict[str, str]:
    """The columns of a set whose features nobody has written down."""
    rows = iter(stream)
    try:
        return {name: type(value).__name__ for name, value in next(rows, {}).items()}
    finally:
        rows.close()


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _total(builder: Any, split: str) -> int | None:
    """How many rows there are, where that is written somewhere: in the card, or in Parquet files that are here."""
    told = (builder.info.splits or {}).get(split)
    if told and told.num_examples:
        return int(told.num_examples)
    files = _files(builder, split)
    if files and all(file.suffix == ".parquet" and file.is_file() for file in files):
        return sum(int(pq.read_metadata(file).num_rows) for file in files)
    return None


@contextmanager
def _readable(asked: Asked) -> Iterator[None]:
    """What `datasets` says of a set that it cannot read, in one line."""
    from datasets.exceptions import DatasetNotFoundError

    repository = Repository(asked.path, kind="dataset", instead=", or give the folder of a copy")
    on_hub = not there(Path(asked.path).expanduser())
    try:
        if on_hub:
            with hub.explained(repository):
                yield
        else:
            yield
    except DdpoError:
        raise
    except Exception as error:  # on damaged files `datasets`, and the parsers below it, raise whatever they do
        if isinstance(error, DatasetNotFoundError) and on_hub:
            hub.check_access(repository)
        says = " ".join(str(error).split())[:240]
        if "config" in says.lower():
            raise UserError(
                f"{asked.path} has several configurations, or not this one; --config picks one: {says}"
            ) from error
        raise DataError(f"{asked.path} cannot be read as a dataset: {says}") from error
