"""Preferences to training pairs, and the order in which they are visited."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifeedback_dpo.seeds import derive


@dataclass(frozen=True)
class Pair:
    """A pair with a winner. Ties never get here."""

    pair_id: str
    prompt_id: str
    winner: str
    loser: str


def decided(pairs: Sequence[Mapping[str, Any]], preferences: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """The pairs on which a judge took a side: p_a > 1/2 prefers image_a, < 1/2 image_b, and a tie is left out."""
    p_a = {row["pair_id"]: row["p_a"] for row in preferences}
    made = []
    for pair in pairs:
        p = p_a.get(pair["pair_id"])
        if p is None or p == 0.5:
            continue
        images = (pair["image_a"], pair["image_b"])
        winner, loser = images if p > 0.5 else images[::-1]
        made.append(Pair(pair["pair_id"], pair["prompt_id"], winner, loser))
    return made


def schedule(pair_ids: Sequence[str], *, size: int, steps: int, seed: int) -> Iterator[list[tuple[str, int]]]:
    """`steps` batches of (pair id, visit): each epoch visits every pair once, in an order hashed from seed, epoch and pair.

    The order is over all pairs of the run, so that every judge meets the same pairs at the same step; a pair that a judge
    called a tie is left out of that judge's batch, which shrinks by one.
    """
    visits = _visits(pair_ids, seed)
    for _ in range(steps):
        yield [next(visits) for _ in range(size)]


def _visits(pair_ids: Sequence[str], seed: int) -> Iterator[tuple[str, int]]:
    epoch = 0
    while True:
        for pair_id in sorted(pair_ids, key=lambda pair_id: derive(seed, "order", epoch, pair_id)):
            yield pair_id, epoch
        epoch += 1
