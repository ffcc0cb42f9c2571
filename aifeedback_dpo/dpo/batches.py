"""Preferences to labels, and the order in which pairs are visited. Pairs are known by their row in the run's table."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aifeedback_dpo.seeds import derive

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Visit = tuple[int, int]
"""A pair's row, and the number of the draw it is met at."""


def labels(pair_ids: pa.ChunkedArray, preferences: pa.Table) -> Floats:
    """A judge's p_a for each of these pairs; NaN where it has said nothing."""
    at = pc.index_in(pair_ids, value_set=preferences.column("pair_id"))
    return np.asarray(pc.fill_null(preferences.column("p_a").take(at), float("nan")).to_numpy(), dtype=np.float32)


def decided(p_a: Floats) -> npt.NDArray[np.bool_]:
    """Where a judge took a side: a tie, or no word, never trains."""
    return ~np.isnan(p_a) & (p_a != 0.5)


def hold_out(prompt_ids: pa.ChunkedArray, pairs: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Marks the pairs of whole prompts, drawn by hash, until there are at least `pairs` of them; all pairs are too many."""
    counted = pc.value_counts(prompt_ids)
    order = sorted(counted.to_pylist(), key=lambda row: derive(seed, "held-out", row["values"]))
    kept, total = [], 0
    for row in order:
        if total >= pairs:
            break
        kept.append(row["values"])
        total += row["counts"]
    marked: npt.NDArray[np.bool_] = np.asarray(pc.is_in(prompt_ids, value_set=pa.array(kept, pa.string())))
    return marked


def schedule(
    pair_ids: Sequence[Any] | pa.ChunkedArray,
    *,
    size: int,
    steps: int,
    seed: int,
    draws: int | None = None,
    start: int = 0,
) -> Iterator[list[Visit]]:
    """The batches of steps `start` to `steps`: each epoch visits every pair once, in an order hashed from seed, epoch and pair.

    The draw is a new one each epoch, or one of `draws` in turn.

    The order is over all pairs of the run, so that every judge meets the same pairs at the same step; a pair that a judge
    called a tie is left out of that judge's batch, which shrinks by one.
    """
    count = len(pair_ids)
    epoch, at = divmod(start * size, count)
    order = _order(pair_ids, seed, epoch)
    for _ in range(start, steps):
        batch: list[Visit] = []
        while len(batch) < size:
            if at == count:
                epoch, at = epoch + 1, 0
                order = _order(pair_ids, seed, epoch)
            taken = order[at : at + size - len(batch)]
            batch += [(int(row), epoch % draws if draws else epoch) for row in taken]
            at += len(taken)
        yield batch


def _order(pair_ids: Sequence[Any] | pa.ChunkedArray, seed: int, epoch: int) -> Rows:
    keys = np.fromiter((derive(seed, "order", epoch, str(pair_id)) for pair_id in pair_ids), np.int64, len(pair_ids))
    return np.argsort(keys, kind="stable")
