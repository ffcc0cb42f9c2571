"""Ids that must be elsewhere, and ids that are there twice."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.lookup import find_sorted
from aifeedback_dpo.parts import again, read_part, remade_by, root_of
from aifeedback_dpo.records import KEYS, Ids, packed_ids
from aifeedback_dpo.verify.findings import Findings

DISTINCT = {"scores": "recipe", "answers": "recipe"}
"""A scorer with other weights may score a picture again: with what a key is one row's."""


@dataclass
class Seen:
    """The ids of a table, or of one folder of it, as its parts are read; then sorted, with the part that each is of."""

    table: str
    paths: list[Path] = field(default_factory=list)
    _found: list[NDArray[np.bytes_]] = field(default_factory=list)

    def add(self, path: Path, part: pa.Table) -> None:
        """Takes up a part."""
        self.paths.append(path)
        self._found.append(packed_ids(_keys(self.table, part)))

    def sorted(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64], NDArray[np.int64]]:
        """The ids in order, where each was among all that were added, and its part; what was added is let go."""
        counts = [len(one) for one in self._found]
        every = np.concatenate([np.empty(0, "S1"), *self._found])
        self._found.clear()
        order = np.argsort(every, kind="stable")
        return every[order], order, np.repeat(np.arange(len(counts)), counts)[order]


def lost(found: Findings, path: Path, table: str, target: str, named: Ids, at: NDArray[np.int64]) -> None:
    """Tells of ids of a part that are not in the target table."""
    if (at < 0).any():
        missing = np.unique(packed_ids(named)[at < 0])
        what = f"names {len(missing)} {target} that are not in the run (first: {missing[0].decode()})"
        mend = again(path, table)
        if "the same `ddpo import" not in mend:
            commands = remade_by(target, root_of(path, table))
            mend = f"Run {commands} again; if this is told once more: {mend[0].lower()}{mend[1:]}"
        found.fault(f"{table} to {target}", path, what, mend)


def twice(found: Findings, seen: Seen, ids: NDArray[np.bytes_], parts: NDArray[np.int64]) -> None:
    """Tells of ids that are there twice: a fault where their rows differ, and a note where they do not."""
    again_there = np.flatnonzero(ids[1:] == ids[:-1])
    if not len(again_there):
        return
    doubled = np.unique(ids[again_there])
    involved = np.unique(parts[np.union1d(again_there, again_there + 1)])
    first: dict[bytes, tuple[bytes, Path]] = {}
    sound = True
    for number in involved:
        path = seen.paths[number]
        rows = [(key, *first.setdefault(key, (said, path)), said) for key, said in _digests(path, seen.table, doubled)]
        differ = [(key, where) for key, known, where, said in rows if known != said]
        if differ:
            sound = False
            key, where = differ[0][0][:32].decode(), differ[0][1]
            what = f"has {len(differ)} rows that contradict those of the same id (first: {key}, in {where.name})"
            found.fault(f"{seen.table} twice", path, what, again(path, seen.table))
    if sound:
        found.note(
            f"{seen.paths[0].parent}: {len(doubled)} ids are there twice, with the very same rows, which does no harm"
        )


def _digests(path: Path, table: str, wanted: NDArray[np.bytes_]) -> Sequence[tuple[bytes, bytes]]:
    """Of the rows of a part with these keys: the key, and a hash of the row."""
    part = read_part(path, table, None)
    keys = packed_ids(_keys(table, part))
    rows = np.flatnonzero(find_sorted(wanted, keys) >= 0)
    told = part.take(pa.array(rows)).to_pylist()
    return [(keys[at], hashlib.sha256(repr(row).encode()).digest()) for at, row in zip(rows, told, strict=True)]


def _keys(table: str, part: pa.Table) -> pa.ChunkedArray:
    key = pc.fill_null(part.column(KEYS[table]), "")
    return (
        pc.binary_join_element_wise(key, pc.fill_null(part.column(DISTINCT[table]), ""), "")
        if table in DISTINCT
        else key
    )
