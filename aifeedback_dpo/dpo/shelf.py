"""A shelf: rows of named tensors on disk, found by id, in parts that are there whole or not at all.

A part is a safetensors file of `ids` (uint8, n and the bytes of the longest) and of tensors with n rows each. Rows are read
through memory maps that last for one call, so neither memory nor open files grow with what was read.
"""

import json
import math
import mmap
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.lookup import find_sorted
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.store import Run

OPEN_AT_ONCE = 64  # an operating system allows a process 1,024 files, or 256
AHEAD = getattr(mmap, "MADV_WILLNEED", None)
DTYPES = {
    "U8": torch.uint8,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}


@dataclass(frozen=True)
class Column:
    """A tensor of a part: its dtype, the shape and the bytes of a row, and the byte of the file at which it begins."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    row_bytes: int
    begin: int

    @property
    def kind(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}" if self.begin else "absent"


ABSENT = Column(torch.uint8, (), row_bytes=0, begin=0)


@dataclass(frozen=True)
class Layout:
    """What the header of a part says: its number of rows, its tensors, and the bytes of the whole file."""

    count: int
    columns: dict[str, Column]
    file_bytes: int


class Shelf:
    """The rows of these ids (sorted, without doubles) in the committed parts of a folder; row i is that of `ids[i]`.

    Raises DataError for a part that is damaged.
    """

    def __init__(self, folder: Path, ids: NDArray[np.bytes_]) -> None:
        self.folder = folder
        self._names: list[str] = []
        self._layouts: list[Layout] = []
        found = [np.empty(0, "S1")]
        for path in sorted(folder.glob("part-*.safetensors")):
            layout, own = _open(path)
            self._names.append(path.name)
            self._layouts.append(layout)
            found.append(own)
        self._starts = np.cumsum([0, *(layout.count for layout in self._layouts)])
        ranks = find_sorted(ids, np.concatenate(found))
        wanted = np.flatnonzero(ranks >= 0)
        self._places = np.full(len(ids), -1, np.int32)
        self._places[ranks[wanted]] = wanted
        self._columns: dict[str, Column] = {}

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which of the ids are in no part."""
        return self._places < 0

    @property
    def names(self) -> list[str]:
        """Of the tensors."""
        layout = self._layouts[int(self._part(self._places[:1])[0])]
        return [name for name in layout.columns if name != "ids"]

    def column(self, name: str) -> Column:
        """A tensor as most parts have it. Raises DataError for a part in use that has it otherwise."""
        if name not in self._columns:
            used = [int(part) for part in np.unique(self._part(self._places[~self.missing]))]
            columns = [self._layouts[part].columns.get(name, ABSENT) for part in used]
            usual = Counter(column.kind for column in columns).most_common(1)[0][0]
            for part, column in zip(used, columns, strict=True):
                if column.kind != usual or column is ABSENT:
                    raise _corrupted(self.folder / self._names[part], f"{name}: {column.kind}, elsewhere {usual}")
            self._columns[name] = columns[0]
        return self._columns[name]

    def read(self, name: str, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """Copies of these rows of a tensor (n ...), exact in every dtype; only their pages are read.

        The pages of up to 64 parts are asked for before the first is copied, so that a disk can fetch them side by side.
        """
        wanted = np.asarray(rows, np.int64)
        assert not len(wanted) or wanted.min() >= 0, "a row that was not asked for when the cache was prepared"
        column, places = self.column(name), self._places[wanted]
        if not len(places):
            return torch.empty(0, *column.shape, dtype=column.dtype)
        parts = self._part(places)
        order = np.argsort(parts, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(parts[order])) + 1)
        flat = np.empty(len(places) * column.row_bytes, np.uint8)  # by numpy, which asks for huge pages
        copied = flat.reshape(len(places), column.row_bytes)
        for first in range(0, len(groups), OPEN_AT_ONCE):
            mapped = []
            for group in groups[first : first + OPEN_AT_ONCE]:
                part = int(parts[group[0]])
                offsets = (places[group] - self._starts[part]).tolist()
                mapped.append((self._map(part, name, offsets), group.tolist(), offsets))
            for pages, group, offsets in mapped:
                for at, offset in zip(group, offsets, strict=True):
                    copied[at] = pages[offset]
        return torch.from_numpy(flat).view(column.dtype).view(len(places), *column.shape)

    def _part(self, places: NDArray[np.int32]) -> NDArray[np.intp]:
        return np.searchsorted(self._starts, places, side="right") - 1

    def _map(self, part: int, name: str, offsets: Iterable[int]) -> NDArray[np.uint8]:
        """A tensor of a part as rows of bytes in a memory map, which goes with the array; these rows are fetched ahead."""
        path, layout = self.folder / self._names[part], self._layouts[part]
        column = layout.columns[name]
        skipped = column.begin % mmap.ALLOCATIONGRANULARITY
        length = layout.count * column.row_bytes
        try:
            with path.open("rb", buffering=0) as file:
                start = column.begin - skipped
                pages = mmap.mmap(file.fileno(), skipped + length, access=mmap.ACCESS_READ, offset=start)
        except ValueError as error:
            raise _corrupted(path, str(error)) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if AHEAD is not None and column.row_bytes >= mmap.PAGESIZE:
            for offset in offsets:
                begin = skipped + offset * column.row_bytes
                page = begin - begin % mmap.PAGESIZE
                pages.madvise(AHEAD, page, begin + column.row_bytes - page)
        return np.frombuffer(pages, np.uint8, length, skipped).reshape(layout.count, column.row_bytes)


def commit(run: Run, folder: Path, name: str, ids: Sequence[str], rows: Rows) -> None:
    """One part, all or nothing; the same rows give the same bytes."""
    packed = packed_ids(ids)
    letters = torch.from_numpy(packed.view(np.uint8).reshape(len(packed), -1).copy())
    tensors = {"ids": letters, **{name: value.contiguous() for name, value in rows.items()}}
    run.write(folder / f"part-{name}.safetensors", lambda file: file.write(save(tensors)))


def _open(path: Path) -> tuple[Layout, NDArray[np.bytes_]]:
    try:
        with path.open("rb") as file:
            there = os.fstat(file.fileno()).st_size
            layout = _layout(file.read(min(int.from_bytes(file.read(8), "little"), there)))
            if layout.file_bytes != there:
                raise _corrupted(path, f"{there} bytes instead of {layout.file_bytes}")
            ids = layout.columns["ids"]
            file.seek(ids.begin)
            return layout, np.frombuffer(file.read(layout.count * ids.row_bytes), f"S{ids.row_bytes}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupted(path, f"no usable header: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=256)
def _layout(header: bytes) -> Layout:
    """Parts that are alike share one, so that thousands of them weigh little. Raises ValueError, KeyError, TypeError."""
    tensors, start, end = json.loads(header), 8 + len(header), 0
    if len(counts := {tensor["shape"][0] for tensor in tensors.values()}) != 1:
        raise ValueError(f"tensors of {sorted(counts)} rows")
    (count,) = counts
    columns = {}
    for name, tensor in tensors.items():
        dtype, shape, (first, last) = DTYPES[tensor["dtype"]], tuple(tensor["shape"][1:]), tensor["data_offsets"]
        row_bytes = dtype.itemsize * math.prod(shape)
        if last - first != count * row_bytes:
            raise ValueError(f"{last - first} bytes of {name}")
        columns[name] = Column(dtype, shape, row_bytes, start + first)
        end = max(end, last)
    return Layout(count, columns, start + end)


def _corrupted(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is corrupted ({reason}); delete it and run `ddpo train` again")


def _unreadable(path: Path, error: OSError) -> DdpoError:
    return DdpoError(f"{path} cannot be read: {error.strerror}")
