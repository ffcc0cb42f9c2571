"""From preferences to the order of training."""

from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.dpo.batches import Pair, decided, schedule
from aifeedback_dpo.dpo.jobs import Job

PAIRS = [{"pair_id": f"p{n}", "prompt_id": "q", "image_a": f"a{n}", "image_b": f"b{n}"} for n in range(4)]


def test_the_winner_is_the_image_with_more_than_half():
    made = decided(PAIRS, [{"pair_id": "p0", "p_a": 0.9}, {"pair_id": "p1", "p_a": 0.1}])
    assert [(pair.winner, pair.loser) for pair in made] == [("a0", "b0"), ("b1", "a1")]


def test_ties_and_pairs_without_a_preference_never_train():
    assert decided(PAIRS, [{"pair_id": "p0", "p_a": 0.5}]) == []


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 3))
def test_every_epoch_visits_every_pair_once(count, size, seed):
    pairs = [f"p{n}" for n in range(count)]
    visits = [visit for batch in schedule(pairs, size=size, steps=3 * count, seed=seed) for visit in batch]
    for epoch in range(3 * size):
        seen = visits[epoch * count : (epoch + 1) * count]
        assert {pair_id for pair_id, _ in seen} == set(pairs)
        assert {visit for _, visit in seen} == {epoch}


def job(pairs: list[Pair], visited: list[str]) -> Job:
    return Job("j", "j", 0, pairs, visited, len(visited) - len(pairs), "", Path())


@given(st.sets(st.integers(0, 9), max_size=9), st.integers(1, 5))
def test_a_tie_leaves_its_batch_and_moves_nothing_else(ties, size):
    ids = [f"p{n}" for n in range(10)]
    every = [Pair(pair_id, "q", "w", "l") for pair_id in ids]
    fewer = [Pair(pair.pair_id, "q", "l", "w") for n, pair in enumerate(every) if n not in ties]
    whole = job(every, ids).schedule(size=size, steps=12, seed=5)
    partial = job(fewer, ids).schedule(size=size, steps=12, seed=5)
    for all_visits, visits in zip(whole, partial, strict=True):
        expected = [(pair.pair_id, visit) for pair, visit in all_visits if int(pair.pair_id[1:]) not in ties]
        assert [(pair.pair_id, visit) for pair, visit in visits] == expected


def test_the_order_changes_with_epoch_and_seed():
    pairs = [f"p{n}" for n in range(20)]
    first, second = islice(schedule(pairs, size=20, steps=2, seed=1), 2)
    (other,) = schedule(pairs, size=20, steps=1, seed=2)
    orders = [[pair_id for pair_id, _ in batch] for batch in (first, second, other)]
    assert len({tuple(order) for order in orders}) == 3
