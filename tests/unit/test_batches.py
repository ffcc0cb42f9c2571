"""From preferences to labels, and the order of training."""

from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.dpo.batches import decided, hold_out, labels, schedule


def column(*values: str) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def preferences(**p_a: float) -> pa.Table:
    return pa.table({"pair_id": list(p_a), "p_a": pa.array(list(p_a.values()), pa.float32())})


def test_a_pair_has_its_judges_word_whatever_the_order_of_the_tables():
    said = labels(column("x", "y", "z"), preferences(z=0.25, elsewhere=1.0, x=0.75))
    assert said.tolist() == pytest.approx([0.75, np.nan, 0.25], nan_ok=True)


def test_ties_and_pairs_without_a_preference_never_train():
    assert decided(np.array([0.9, 0.1, 0.5, np.nan], np.float32)).tolist() == [True, True, False, False]


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 3))
def test_every_epoch_visits_every_pair_once(count, size, seed):
    pairs = [f"p{n}" for n in range(count)]
    visits = [visit for batch in schedule(pairs, size=size, steps=3 * count, seed=seed) for visit in batch]
    for epoch in range(3 * size):
        seen = visits[epoch * count : (epoch + 1) * count]
        assert {row for row, _ in seen} == set(range(count))
        assert {draw for _, draw in seen} == {epoch}


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 30))
def test_an_order_that_is_gone_on_with_is_the_straight_one(count, size, start):
    pairs = [f"p{n}" for n in range(count)]
    straight = list(schedule(pairs, size=size, steps=31, seed=4))
    assert list(schedule(pairs, size=size, steps=31, seed=4, start=start)) == straight[start:]


@given(st.integers(1, 5))
def test_a_number_of_draws_is_met_in_turn(draws):
    visits = [visit for batch in schedule(["a", "b"], size=1, steps=20, seed=0, draws=draws) for visit in batch]
    assert [draw for _, draw in visits] == [at // 2 % draws for at in range(20)]


def test_an_order_depends_on_the_ids_and_not_on_their_rows():
    ids = [f"p{n}" for n in range(9)]
    (one,), (other,) = (schedule(each, size=9, steps=1, seed=3) for each in (ids, ids[::-1]))
    assert [ids[row] for row, _ in one] == [ids[::-1][row] for row, _ in other]


def test_the_order_changes_with_epoch_and_seed():
    pairs = [f"p{n}" for n in range(20)]
    first, second = islice(schedule(pairs, size=20, steps=2, seed=1), 2)
    (other,) = schedule(pairs, size=20, steps=1, seed=2)
    assert len({tuple(row for row, _ in batch) for batch in (first, second, other)}) == 3


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40), st.integers(0, 40))
def test_pairs_are_held_out_by_whole_prompts_and_no_more_than_needed(prompts, wanted):
    kept = hold_out(column(*prompts), wanted, seed=0)
    inside = {prompt for prompt, out in zip(prompts, kept, strict=True) if out}
    outside = {prompt for prompt, out in zip(prompts, kept, strict=True) if not out}
    assert not inside & outside
    assert kept.sum() >= min(wanted, len(prompts))
    if inside:
        assert kept.sum() - max(prompts.count(prompt) for prompt in inside) < wanted
