"""Reading the parts of a table: whole and checked, or the pictures in them a part at a time."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.records import packed_ids

REMADE_BY = {
    "prompts": "`ddpo generate` or `ddpo import`",
    "images": "`ddpo generate` or `ddpo import` (or, for held-out prompts, `ddpo compare`)",
    "pairs": "`ddpo generate` or `ddpo import`",
    "scores": "`ddpo label` (or, for held-out prompts, `ddpo compare`)",
    "answers": "`ddpo label`",
    "votes": "`ddpo import` or `ddpo annotate`",
    "preferences": "`ddpo label` (or, of people, `ddpo import` or `ddpo annotate`)",
}


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


def read_part(path: Path, table: str, columns: Sequence[str] | None) -> pa.Table:
    """One part of a table, these columns or all. Raises DataError, with the next step, for one that is corrupted."""
    try:
        part = pq.read_table(path, columns=columns, partitioning=None, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DdpoError(f"{path} cannot be read: {error.strerror}") from error
        reason = str(error).splitlines()[0][:120]
        raise DataError(
            f"{path} is corrupted ({reason}). Delete it and run {REMADE_BY[table]} again; the rest is kept"
        ) from error
    return part.replace_schema_metadata(None)
