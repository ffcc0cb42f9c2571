"""Whether a file is whole, by what its format says of itself. Each raises one of BROKEN for one that is not."""

import json
import shutil
import sqlite3
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

BROKEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    SafetensorError,
    zipfile.BadZipFile,
    pa.ArrowException,
    sqlite3.Error,
)
DIGEST = sha256().digest_size
JOURNAL = [f"SELECT 1 FROM {table} LIMIT 1" for table in ("showings", "answers", "undone", "annotators")]  # noqa: S608


def safetensors(path: Path) -> None:
    """A header that can be read, and tensors that fill the file to its last byte."""
    with safe_open(path, framework="numpy") as file:
        if not list(file.keys()):
            raise ValueError("no tensors")


def shelf(path: Path) -> None:
    """A part of what training keeps: a safetensors file of ids, and of tensors with as many rows."""
    with safe_open(path, framework="numpy") as file:
        rows = {file.get_slice(name).get_shape()[0] for name in [*file.keys(), "ids"]}
    if len(rows) != 1:
        raise ValueError(f"tensors of {sorted(rows)} rows")


def checkpoint(path: Path) -> None:
    """It ends with the SHA-256 of the rest."""
    left, digest = path.stat().st_size - DIGEST, sha256()
    with path.open("rb") as file:
        while left > 0:
            data = file.read(min(left, 2**20))
            digest.update(data)
            left -= len(data)
        if file.read() != digest.digest():
            raise ValueError("it is not what was written")


def parquet(path: Path) -> None:
    """Its pages are what their checksums say."""
    with pq.ParquetFile(path, page_checksum_verification=True) as part:
        part.read()


def archive(path: Path) -> None:
    """A zip, as numpy's .npz, whose members are what their checksums say."""
    with zipfile.ZipFile(path) as file:
        if bad := file.testzip():
            raise ValueError(f"{bad} is not what was written")


def lines(path: Path) -> None:
    """JSON in each line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def journal(path: Path) -> None:
    """A copy is looked at, with what has not come into the file yet: opening the journal itself would write beside it."""
    with tempfile.TemporaryDirectory() as copies:
        copy = Path(copies) / path.name
        for name in (path.name, f"{path.name}-wal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), Path(copies) / name)
        base = sqlite3.connect(copy)
        try:
            (said,) = base.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = base.execute("SELECT value FROM settings WHERE key = 'version'").fetchone()
            for look in JOURNAL:
                base.execute(look)
        finally:
            base.close()
    if said != "ok":
        raise ValueError(said)
    if version != "1":
        raise ValueError(f"it is of version {version}, and this program reads 1")


def json_object(path: Path) -> dict[str, Any]:
    """Its content."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
