"""What the rows of a part must be by themselves: ids that are the hash of their content, numbers in range, the right folder."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aifeedback_dpo.records import KEYS, pair_id, prompt_id

NAMED = {"scores": "scorer", "answers": "judge", "preferences": "judge", "votes": "source"}
"""The column that says the same as the folder."""
SHARES = {"answers": ("choice_a_first", "choice_b_first"), "preferences": ("p_a",), "votes": ("p_a",)}
"""Columns of numbers from 0 to 1."""
NEEDED = ("p_a",)


def wrong(table: str, part: pa.Table, folder: str) -> Iterator[str]:
    """All that is wrong with the rows of a part, which lies in this folder of its table; a line a kind."""
    key = part.column(KEYS[table])
    if key.null_count:
        yield f"has {key.null_count} rows without {KEYS[table]}"
    if check := CHECKS.get(table):
        yield from check(part)
    if (name := NAMED.get(table)) is not None:
        strange = pc.unique(part.filter(pc.fill_null(pc.not_equal(part.column(name), folder), True)).column(name))
        if len(strange):
            yield f"has rows of {name} {strange[0].as_py()}, and lies among those of {folder}"
    for column in SHARES.get(table, ()):
        numbers = part.column(column)
        told = np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
        outside = ~((told >= 0) & (told <= 1))
        if column not in NEEDED:
            outside &= pc.is_valid(numbers).to_numpy(zero_copy_only=False)
        yield from _told(outside, key, f"rows whose {column} is no number from 0 to 1")


def _prompts(part: pa.Table) -> Iterator[str]:
    ids, texts = (part.column(name).to_pylist() for name in ("prompt_id", "prompt"))
    yield from _other(ids, map(prompt_id, texts), "prompts whose id is not that of their text")
    split = pc.is_in(part.column("split"), value_set=pa.array(["train", "eval"]))
    yield from _told(
        ~split.to_numpy(zero_copy_only=False), part.column("prompt_id"), "prompts of neither train nor eval"
    )


def _pairs(part: pa.Table) -> Iterator[str]:
    ids, first, second = (part.column(name).to_pylist() for name in ("pair_id", "image_a", "image_b"))
    yield from _other(ids, map(pair_id, first, second), "pairs whose id is not that of their images")
    same = pc.fill_null(pc.equal(part.column("image_a"), part.column("image_b")), False)
    yield from _told(same.to_numpy(zero_copy_only=False), part.column("pair_id"), "pairs of a picture with itself")


def _scores(part: pa.Table) -> Iterator[str]:
    """A score that is missing is null; a number is finite."""
    numbers = part.column("score")
    odd = pc.fill_null(pc.invert(pc.is_finite(numbers)), False)
    yield from _told(odd.to_numpy(zero_copy_only=False), part.column("image_id"), "scores that are not finite")


def _other(ids: Iterable[Any], expected: Iterable[str], what: str) -> Iterator[str]:
    strange = [found for found, wanted in zip(ids, expected, strict=True) if found != wanted]
    if strange:
        yield f"has {len(strange)} {what} (first: {strange[0]})"


def _told(bad: Any, key: pa.ChunkedArray, what: str) -> Iterator[str]:
    at = np.flatnonzero(bad)
    if len(at):
        yield f"has {len(at)} {what} (first: {key[int(at[0])].as_py()})"


CHECKS: dict[str, Callable[[pa.Table], Iterator[str]]] = {"prompts": _prompts, "pairs": _pairs, "scores": _scores}
