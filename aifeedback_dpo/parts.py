"""Reading the parts of a table, each of which says its table and its version: whole and checked, or ids or pictures alone."""

import json
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.records import CONSENSUS, CONTROL, HUMAN, MARK, SCHEMA_VERSION, TABLES, packed_ids

REMADE_BY = {
    "prompts": "`ddpo generate` or `ddpo import ...`",
    "images": "`ddpo generate` or `ddpo import ...` (or, for held-out prompts, `ddpo compare`)",
    "pairs": "`ddpo generate` or `ddpo import ...`",
    "scores": "`ddpo label` (or, for held-out prompts, `ddpo compare`)",
    "answers": "`ddpo label`",
    "votes": "`ddpo import ...` or `ddpo annotate --report`",
    "preferences": "`ddpo label` (or, of people, `ddpo import ...` or `ddpo annotate --report`)",
}
NEWER = "was written by a newer aifeedback_dpo (schema {found}, this one reads {SCHEMA_VERSION})"
UPDATE = "Update this one: `pip install --upgrade aifeedback_dpo`"


class BrokenFile(DataError):
    """A part, or the manifest, that cannot be used: where it lies, what is wrong with it, and what to do then."""

    def __init__(self, path: Path, what: str, then: str) -> None:
        super().__init__(f"{path} {what}. {then}")
        self.path, self.what, self.then = path, what, then


@dataclass(frozen=True, eq=False)
class Album:
    """The parts that hold pictures, and in which of them each id (sorted) lies, so that only those are opened."""

    paths: Sequence[Path]
    ids: NDArray[np.bytes_]
    parts: NDArray[np.int64]

    def images(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Encoded pictures by id, in stored order, a part at a time."""
        names = packed_ids(sorted(wanted))
        at = np.searchsorted(self.ids, names)
        there = at < len(self.ids)
        there[there] = self.ids[at[there]] == names[there]
        in_part = self.parts[at[there]]
        for number in np.unique(in_part):
            left = {name.decode() for name in names[there][in_part == number]}
            part = read_part(self.paths[number], "images", ["image_id", "image"])
            here = pc.is_in(part.column("image_id"), value_set=pa.array(sorted(left), pa.string()))
            for row in part.filter(here).to_pylist():
                if row["image_id"] in left:
                    left.remove(row["image_id"])  # once, were it there twice
                    yield row["image_id"], row["image"]["bytes"]


def album(paths: Sequence[Path]) -> Album:
    """Where each picture of these parts lies."""
    found, counts = ids(paths, "images", "image_id")
    order = np.argsort(found, kind="stable")
    return Album(paths, found[order], np.repeat(np.arange(len(paths)), counts)[order])


def ids(paths: Sequence[Path], table: str, key: str) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """A column of ids of many parts, packed and in path order, and how many of them each part has.

    Nothing else is read: a million ids in twenty thousand parts are a few seconds and 100 MB. Raises as `read_part` does.
    """
    columns = [read_part(path, table, [key]).column(key) for path in paths]
    counts = np.array([len(column) for column in columns], np.int64)
    return packed_ids(pa.chunked_array([chunk for one in columns for chunk in one.chunks], pa.string())), counts


def read_part(path: Path, table: str, columns: Sequence[str] | None) -> pa.Table:
    """One part of a table, these columns or all; what is read is held to the checksums of its pages.

    Raises BrokenFile, with the next step, for one that is corrupted, of another schema, or of a newer version.
    """
    wanted = TABLES[table].names if columns is None else list(columns)
    try:
        with pa.OSFile(str(path)) as file, pq.ParquetFile(file, page_checksum_verification=True) as part:
            _check(part.schema_arrow, path, table, wanted)
            found = part.read(columns=wanted, use_threads=False)
            found.validate(full=True)  # text is text
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last for a name that is no text any more
        if isinstance(error, OSError) and error.errno is not None:
            raise DdpoError(f"{path} cannot be read: {error.strerror}") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise BrokenFile(path, f"is corrupted ({reason})", again(path, table)) from error
    return found.select(wanted).replace_schema_metadata(None)


def again(path: Path, table: str) -> str:
    """How a part comes back once it is deleted, as a sentence."""
    root = root_of(path, table)
    folder, name = path.parent.name, path.stem.removeprefix("part-")
    slices = root / "imports" / name.rpartition("-")[0]
    if (slices / "about.json").exists():  # what its ledgers say was read is not read again
        return f"Delete it and {slices}, and run the same {of_run('`ddpo import ...`', root)} again; the rest is kept"
    commands = REMADE_BY[table]
    if table in ("scores", "answers", "preferences") and folder not in (HUMAN, CONTROL, table):
        said = f"--judge {CONSENSUS}" if folder == CONSENSUS else f"--scorer {folder}"
        commands = commands.replace("`ddpo label`", f"`ddpo label {said}`").partition(" (or, of people")[0]
    return f"Delete it and run {of_run(commands, root)} again; the rest is kept"


def root_of(path: Path, table: str) -> Path:
    """The run that a part of this table lies in."""
    above = path.parts[::-1]
    return path.parents[above.index(table)] if table in above else path.parent


def remade_by(table: str, root: Path) -> str:
    """The commands that make a table of this run."""
    return of_run(REMADE_BY[table], root)


def of_run(commands: str, root: Path) -> str:
    """Commands as a user may type them: with `--run`, and without an import where nothing was imported."""
    if not (root / "imports").exists():
        commands = commands.replace(" or `ddpo import ...`", "").replace("`ddpo import ...` or ", "")
    return re.sub(r"`(ddpo [^`]+)`", lambda told: f"`{told[1]} --run {shlex.quote(str(root))}`", commands)


def _check(schema: pa.Schema, path: Path, table: str, columns: Sequence[str]) -> None:
    """Raises BrokenFile unless a part is of this table and this version, and these columns are as they should be."""
    try:
        mark = json.loads((schema.metadata or {}).get(MARK, b"{}"))
        version, of = mark.get("schema_version"), mark.get("table")
    except (ValueError, AttributeError):
        version = of = None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BrokenFile(path, NEWER.format(found=version, SCHEMA_VERSION=SCHEMA_VERSION), UPDATE)
    if version != SCHEMA_VERSION:
        what = "does not say by which version of aifeedback_dpo it was written"
    elif of != table:
        what = f"is a part of {of}, and lies among {table}"
    elif wrong := _wrong(schema, table, columns):
        what = f"is of another schema ({wrong})"
    else:
        return
    raise BrokenFile(path, what, again(path, table))


def _wrong(schema: pa.Schema, table: str, columns: Sequence[str]) -> str:
    """The first column that is missing or of another type."""
    for name in columns:
        at, wanted = schema.get_field_index(name), TABLES[table].field(name).type
        if at < 0:
            return f"no column {name}: {wanted}"
        if (found := schema.field(at).type) != wanted:
            return f"column {name} is {found}, and should be {wanted}"
    return ""
