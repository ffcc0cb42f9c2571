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


def schedule(pairs: Sequence[Pair], *, size: int, steps: int, seed: int) -> Iterator[list[tuple[Pair, int]]]:
    """`steps` batches of (pair, visit): each epoch visits every pair once, in an order hashed from seed, epoch and pair.

    Two judges who decided the same pairs therefore visit them in the same order, whoever wins.
    """
    visits = _visits(pairs, seed)
    for _ in range(steps):
        yield [next(visits) for _ in range(size)]


def _visits(pairs: Sequence[Pair], seed: int) -> Iterator[tuple[Pair, int]]:
    epoch = 0
    while True:
        for pair in sorted(pairs, key=lambda pair: derive(seed, "order", epoch, pair.pair_id)):
            yield pair, epoch
        epoch += 1
