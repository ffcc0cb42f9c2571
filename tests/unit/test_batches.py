"""From preferences to the order of training."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.dpo.batches import Pair, decided, schedule

PAIRS = [{"pair_id": f"p{n}", "prompt_id": "q", "image_a": f"a{n}", "image_b": f"b{n}"} for n in range(4)]


def test_the_winner_is_the_image_with_more_than_half():
    made = decided(PAIRS, [{"pair_id": "p0", "p_a": 0.9}, {"pair_id": "p1", "p_a": 0.1}])
    assert [(pair.winner, pair.loser) for pair in made] == [("a0", "b0"), ("b1", "a1")]


def test_ties_and_pairs_without_a_preference_never_train():
    assert decided(PAIRS, [{"pair_id": "p0", "p_a": 0.5}]) == []


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 3))
def test_every_epoch_visits_every_pair_once(count, size, seed):
    pairs = [Pair(f"p{n}", "q", "w", "l") for n in range(count)]
    visits = [visit for batch in schedule(pairs, size=size, steps=3 * count, seed=seed) for visit in batch]
    for epoch in range(3 * size):
        seen = visits[epoch * count : (epoch + 1) * count]
        assert {pair.pair_id for pair, _ in seen} == {pair.pair_id for pair in pairs}
        assert {visit for _, visit in seen} == {epoch}


def test_two_judges_visit_common_pairs_in_the_same_order():
    every = [Pair(f"p{n}", "q", "w", "l") for n in range(10)]
    fewer = [Pair(pair.pair_id, "q", "l", "w") for pair in every if pair.pair_id != "p3"]
    (first,) = schedule(every, size=10, steps=1, seed=5)
    (second,) = schedule(fewer, size=9, steps=1, seed=5)
    assert [pair.pair_id for pair, _ in first if pair.pair_id != "p3"] == [pair.pair_id for pair, _ in second]


def test_the_order_changes_with_epoch_and_seed():
    pairs = [Pair(f"p{n}", "q", "w", "l") for n in range(20)]
    first, second = islice(schedule(pairs, size=20, steps=2, seed=1), 2)
    (other,) = schedule(pairs, size=20, steps=1, seed=2)
    orders = [[pair.pair_id for pair, _ in batch] for batch in (first, second, other)]
    assert len({tuple(order) for order in orders}) == 3
