"""Rows of a file of prompts, whatever its format: a dictionary each, with lower-case keys."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aifeedback_dpo.errors import DataError, UserError

PROMPTS = ("prompt", "prompts", "caption", "text")
CATEGORIES = ("category", "tag", "style")

Row = Mapping[str, Any]


def rows(path: Path) -> Iterator[Row]:
    """The rows; a bare text is one with `prompt` alone, one in a JSON object of lists has its key as `category`.

    Raises UserError for a file that cannot be opened or is of no known format, DataError for one that breaks its format.
    """
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path} ends in '{path.suffix}'; prompts are read from {', '.join(FORMATS)}")
    try:
        for row in read(path):
            yield {str(key).strip().lower(): value for key, value in row.items()}
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (ValueError, csv.Error, pa.ArrowException) as error:  # json's too
        raise DataError(f"{path} cannot be understood: {' '.join(str(error).split())[:160]}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def column(row: Row, names: Iterable[str]) -> str | None:
    """The first of these keys that a row has."""
    return next((name for name in names if name in row), None)


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        yield from ({"prompt": line} for line in file)


def _delimited(path: Path) -> Iterator[Row]:
    """A .csv as spreadsheets write it; in a .tsv a quotation mark is a character like any other."""
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, **(tabs if path.suffix.lower() == ".tsv" else {})):
            if None in row:
                raise ValueError(f"a row has more fields than the head: {row[None]}")
            yield row


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield _record(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error


def _json(path: Path) -> Iterator[Row]:
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    groups = found if isinstance(found, dict) else {"": found}
    if not all(isinstance(group, list) for group in groups.values()):
        raise ValueError("it is neither a list of prompts nor an object of lists")
    for name, group in groups.items():
        category = {"category": name} if len(groups) > 1 else {}
        yield from ({**category, **_record(record)} for record in group)


def _record(found: Any) -> Row:
    if isinstance(found, str):
        return {"prompt": found}
    if not isinstance(found, dict):
        raise ValueError(f"{str(found)[:40]!r} is neither a text nor an object with keys")
    return found


def _parquet(path: Path) -> Iterator[Row]:
    """Without columns of bytes: pictures beside the prompts would be gigabytes."""
    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if not _has_bytes(field.type)]
        for batch in file.iter_batches(columns=names):
            yield from batch.to_pylist()


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    return any(_has_bytes(kind.field(at).type) for at in range(kind.num_fields))


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".txt": _lines,
    ".tsv": _delimited,
    ".csv": _delimited,
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
}
