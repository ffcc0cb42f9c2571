"""Sets that are one JSON file, an array of records, read record by record however large it is; pictures lie beside it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import ijson
from ijson.common import ObjectBuilder

from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.sources import columns, pictures
from aifeedback_dpo.sources.comparison import Asked, Item, Opened, Row, Rows, State
from aifeedback_dpo.sources.pictures import Shelf, there
from aifeedback_dpo.sources.tables import fingerprint

FOLDERS = ("images", "image", "media")
DEEPEST = 64


def opened(
    asked: Asked, read: Callable[[list[str], Shelf], Callable[[Row], Iterable[Item]]], *, wants: str, fetch: str = ""
) -> Opened:
    """The set in this file, or in `<split>.json` of this folder; `read` is given the first record's keys.

    Raises UserError for a path that is not here (`fetch` says how it gets here), DataError for what is no array of records.
    """
    path = Path(asked.path).expanduser()
    file = _file(path, asked, fetch)
    first = next(_records(file), None)
    if first is None:
        raise UserError(f"{file} has no records; it must be one JSON array of them")
    keys = list(first) if isinstance(first, dict) else []
    if not keys:
        raise columns.refused("holds no records with keys", keys, asked, wants)
    lie = pictures.shelf(asked.images, file.parent, under=(file.stem, *FOLDERS), tars_too=True)

    def rows(start: int, _: State | None) -> Rows:
        for number, record in enumerate(_records(file)):
            if number >= start:
                yield record if isinstance(record, dict) else {}, lambda: None

    return Opened(
        name=path.name.removesuffix(".json"),
        split=file.stem,
        identity=content_id(file.name, fingerprint(file)),
        columns={key: type(value).__name__ for key, value in first.items()},
        total=None,
        licence=None,
        rows=rows,
        read=read(keys, lie),
    )


def _file(path: Path, asked: Asked, fetch: str) -> Path:
    if not there(path):
        raise UserError(f"{asked.path} is no file or folder here{f'; {fetch}' if fetch else ''}")
    if path.is_file():
        return path
    found = {file.stem: file for file in sorted(path.glob("*.json"))}
    wanted = asked.split_of(list(found))
    if wanted not in found:
        raise UserError(
            f"{path} has no {wanted}.json; --split takes {', '.join(found) or 'nothing, as no .json is there'}"
        )
    return found[wanted]


def _records(file: Path) -> Iterator[Any]:
    try:
        with file.open("rb") as stream:
            yield from _members(stream)
    except (ijson.JSONError, ValueError) as error:
        raise DataError(f"{file} is no JSON array: {' '.join(str(error).split())[:160]}; fetch it again") from error


def _members(stream: IO[bytes]) -> Iterator[Any]:
    """The members of an array one by one; nothing for what is none.

    Raises ValueError for one that is nested deeper than any set: `ijson.items` takes memory by the square of the depth.
    """
    depth, builder = 0, ObjectBuilder()
    for event, value in ijson.basic_parse(stream, use_float=True):
        if not depth:
            if event != "start_array":
                return
            depth = 1
            continue
        depth -= event in ("end_map", "end_array")
        if not depth:
            continue  # what stands behind it is an error
        builder.event(event, value)
        depth += event in ("start_map", "start_array")
        if depth > DEEPEST:
            raise ValueError(f"lists and objects are nested more than {DEEPEST} deep")
        if depth == 1:
            yield builder.value
            builder = ObjectBuilder()
