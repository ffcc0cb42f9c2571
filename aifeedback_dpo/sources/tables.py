"""Sets in any format that `datasets` reads: a folder, a file, a `save_to_disk` folder, or an owner/name of the hub; streamed.

Pictures stay encoded. Reading can go on from a state of `datasets`, which skips whole files, or by counting rows.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aifeedback_dpo import hub
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.prompts import HUB_ID, downloaded
from aifeedback_dpo.records import content_id
from aifeedback_dpo.sources.comparison import Asked, Item, Opened, Row, Rows, State

ROWS_AT_ONCE = 32
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
        split, stream = _split(asked, place)
        columns = {name: _kind(feature) for name, feature in (stream.features or {}).items()}
        if not columns:
            columns = _first(stream)
    if not columns:
        raise UserError(f"{asked.path} has no rows in split {split}")

    def rows(start: int, state: State | None) -> Rows:
        with _readable(asked):
            _, again = _split(asked, place)
            assert state or not start, "a table goes on from a state"
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
        identity=content_id(place.identity, asked.config, split),
        columns=columns,
        total=_total(stream, split, place),
        licence=place.licence,
        rows=rows,
        read=read(columns),
    )


@dataclass(frozen=True)
class _Place:
    """Where a set lies: arguments of `load_dataset`, what stands for its content, its licence."""

    arguments: dict[str, Any]
    identity: str
    licence: str | None
    is_here: bool = True


def _place(asked: Asked) -> _Place:
    path = Path(asked.path).expanduser()
    if path.exists():
        return _folder(path, asked) if path.is_dir() else _file(path)
    if not re.fullmatch(HUB_ID, asked.path):
        raise UserError(f"{asked.path} is no file or folder here, and no owner/name of the hub")
    repository = Repository(asked.path, kind="dataset")
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
    found = [Path(name) for names in files.values() for name in names]
    found = found or sorted(file for file in path.rglob("*") if file.suffix in BUILDERS and file.is_file())
    return _Place(arguments, _identity(found, path), _licence(path / "README.md"))


def _file(path: Path) -> _Place:
    builder = BUILDERS.get(path.suffix.lower())
    if not builder:
        raise UserError(f"{path} ends in '{path.suffix}'; give a folder, or one of {', '.join(BUILDERS)}")
    arguments: dict[str, Any] = {"path": builder, "data_files": {"train": str(path)}}
    if path.suffix.lower() == ".tsv":
        arguments["sep"] = "\t"
    return _Place(arguments, _identity([path], path.parent), _licence(path.parent / "README.md"))


def _identity(files: list[Path], root: Path) -> str:
    """By name and size: a set of 335 GB is not hashed to be recognised."""
    return content_id(*((file.relative_to(root).as_posix(), file.stat().st_size) for file in files))


def _licence(card: Path) -> str | None:
    """What the card beside a set states, if anything."""
    from huggingface_hub import DatasetCard

    try:
        stated = DatasetCard.load(card, ignore_metadata_errors=True).data.license if card.is_file() else None
    except (ValueError, OSError):
        return None
    return str(stated) if stated else None


def _split(asked: Asked, place: _Place) -> tuple[str, Any]:
    from datasets import load_dataset

    found = load_dataset(**place.arguments, streaming=True)
    wanted = asked.split or ("train" if "train" in found or len(found) != 1 else next(iter(found)))
    if wanted not in found:
        raise UserError(f"{asked.path} has no split '{wanted}'; --split takes {', '.join(map(str, found))}")
    stream = found[wanted]
    if (
        stream.info.builder_name == "parquet"
    ):  # which would hold a whole file in memory, and hand out whole groups of rows
        from pyarrow.dataset import ParquetFragmentScanOptions

        sparing = ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
        more = {"batch_size": ROWS_AT_ONCE, "fragment_scan_options": sparing}
        stream = load_dataset(**place.arguments, **more, split=wanted, streaming=True)
        if place.is_here:  # a group of rows at a time; on the hub each file would have to be asked for its groups first
            stream = stream.reshard()
    return wanted, stream.decode(False)


def _first(stream: Any) -> dict[str, str]:
    """The columns of a set whose features nobody has written down."""
    rows = iter(stream)
    try:
        return {name: type(value).__name__ for name, value in next(rows, {}).items()}
    finally:
        rows.close()


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _total(stream: Any, split: str, place: _Place) -> int | None:
    """How many rows there are, where that is written somewhere: in the card, or in Parquet files that are here."""
    told = (stream.info.splits or {}).get(split) if stream.info else None
    if told and told.num_examples:
        return int(told.num_examples)
    from datasets import load_dataset_builder

    files = [Path(file) for file in (load_dataset_builder(**place.arguments).config.data_files or {}).get(split, [])]
    if files and all(file.suffix == ".parquet" and file.is_file() for file in files):
        return sum(int(pq.read_metadata(file).num_rows) for file in files)
    return None


@contextmanager
def _readable(asked: Asked) -> Iterator[None]:
    """What `datasets` says of a set that it cannot read, in one line."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    repository = Repository(asked.path, kind="dataset")
    on_hub = not Path(asked.path).expanduser().exists()
    try:
        if on_hub:
            with hub.explained(repository):
                yield
        else:
            yield
    except (
        pa.ArrowException,
        DatasetsError,
        ValueError,
        RuntimeError,
        TypeError,
        FileNotFoundError,
        EOFError,
    ) as error:
        if isinstance(error, DatasetNotFoundError) and on_hub:
            hub.check_access(repository)
        raise DataError(f"{asked.path} cannot be read as a dataset: {' '.join(str(error).split())[:240]}") from error
