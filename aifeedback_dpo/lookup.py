"""Rows found by id, for a million of them: ids packed side by side, where a dictionary would take hundreds of megabytes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.records import Ids, packed_ids

T = TypeVar("T")


def find(known: NDArray[np.bytes_], wanted: Ids) -> NDArray[np.intp]:
    """Where each of the wanted ids lies among those known, the first time; -1 where it is not there."""
    packed = packed_ids(wanted)
    if not len(known) or not len(packed):
        return np.full(len(packed), -1)
    width = max(packed.dtype.itemsize, known.dtype.itemsize)
    found = pc.index_in(_fixed(packed, width), value_set=_fixed(known, width))
    return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.intp)


def find_sorted(known: NDArray[np.bytes_], wanted: Ids) -> NDArray[np.intp]:
    """The same among sorted ids, for few wanted ones at a time: nothing is made of those known."""
    packed = packed_ids(wanted)
    if not len(known):
        return np.full(len(packed), -1)
    at = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    return np.where(known[at] == packed, at, -1)


def absent(wanted: Ids, known: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which of the wanted ids are not among those known."""
    return find(known, wanted) < 0


def distinct(ids: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """Each id once, in the order in which they come up."""
    if not len(ids):
        return ids
    found = pc.unique(_fixed(ids, ids.dtype.itemsize))
    return np.frombuffer(found.buffers()[1], ids.dtype, len(found))


class Lookup(Mapping[str, T]):
    """A mapping from ids to values, in the order given; an id that is there twice has its first value."""

    def __init__(self, ids: Ids, values: "Sequence[T] | NDArray[Any] | pa.Array") -> None:
        self.ids, self.values_in_order = packed_ids(ids), values

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again: another process gets as little as it needs."""
        return {"ids": self.ids, "values_in_order": self.values_in_order}

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.ids, kind="stable")

    @cached_property
    def _sorted(self) -> NDArray[np.bytes_]:
        return self.ids[self._order]

    def __getitem__(self, name: str) -> T:
        key = name.encode()
        at = int(np.searchsorted(self._sorted, key))
        if at == len(self.ids) or self._sorted[at] != key:
            raise KeyError(name)
        value: Any = self.values_in_order[int(self._order[at])]
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, pa.Scalar):
            value = value.as_py()
        return cast(T, value)

    def __iter__(self) -> Iterator[str]:
        return (name.decode() for name in self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def _fixed(ids: NDArray[np.bytes_], width: int) -> pa.Array:
    """As an Arrow array over the same memory."""
    packed = np.ascontiguousarray(ids.astype(f"S{width}", copy=False))
    return pa.Array.from_buffers(pa.binary(width), len(packed), [None, pa.py_buffer(packed)])
