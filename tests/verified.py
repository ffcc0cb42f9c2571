"""Runs to verify: looked at, damaged, and looked at again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aifeedback_dpo import config
from aifeedback_dpo.store import Run
from tests.conftest import ddpo

Row = dict[str, Any]


def verified(run: Path, *options: str) -> tuple[int, Any]:
    """What it leaves with, and says as JSON."""
    result = ddpo("verify", "--json", *options, run=run)
    assert result.stdout, result.output
    return result.exit_code, json.loads(result.stdout)


def faults(run: Path, *options: str) -> list[dict[str, str]]:
    code, told = verified(run, *options)
    assert code == (3 if told["faults"] else 0)
    return told["faults"]


def the_fault(run: Path, path: Path, *options: str) -> dict[str, str]:
    """The only one of this file."""
    (found,) = (fault for fault in faults(run, *options) if fault["path"] == str(path))
    return found


def opened(run: Path) -> Run:
    return Run(run, config.load(run / "recipe.yaml"))


def part_of(run: Path, table: str, name: str | None = None) -> Path:
    return opened(run).parts(table, name)[0]


def edited(path: Path, edit: Callable[[list[Row]], object]) -> None:
    """The part with other rows, whole and with the marks of its table."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path, compression="zstd", write_page_checksum=True)


def inside(path: Path, column: str) -> int:
    """A byte of the file that is one of this column's values."""
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    (chunk,) = (chunk for chunk in chunks if chunk.path_in_schema == column)
    return (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size // 2


def first(**values: object) -> Callable[[list[Row]], object]:
    """An edit of the first row."""
    return lambda rows: rows[0].update(values)


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "copy"))


def files(run: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}
