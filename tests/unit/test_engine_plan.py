"""Shares of a plan: between them every slice once, whatever is missing; what says which share is whose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.cli import places
from aifeedback_dpo.engine import Here, Slice, left
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import content_id, packed_ids

plans = st.lists(st.booleans(), max_size=40)
sizes = st.integers(1, 9)
counts = st.integers(1, 7)


def ids(count: int) -> np.ndarray:
    return packed_ids([content_id(at) for at in range(count)])


def told(parts: list[Slice]) -> list[tuple[str, list[int]]]:
    return [(part.name, list(part.at)) for part in parts]


@given(plans, sizes, counts)
def test_the_shares_of_all_are_every_slice_once(missing, size, count):
    plan = ids(len(missing)), np.array(missing, bool), size
    shares = [told(left(*plan, (at, count))) for at in range(count)]
    assert sorted(part for share in shares for part in share) == sorted(told(left(*plan)))


@given(plans, sizes)
def test_the_slices_are_what_is_missing_in_order_and_each_has_a_name_of_its_own(missing, size):
    parts = left(ids(len(missing)), np.array(missing, bool), size)
    assert [at for part in parts for at in part.at] == np.flatnonzero(missing).tolist()
    assert len({part.name for part in parts}) == len(parts)
    assert all(len(part.at) <= size for part in parts)


@given(plans, plans, sizes, counts)
def test_a_slice_and_whose_it_is_do_not_depend_on_what_others_have_done(missing, done, size, count):
    """Of a share that is worked off while others are, what is left later is a part of what was left before."""
    names, later = ids(len(missing)), np.array(missing, bool)
    for at in range(0, len(missing), size):  # slices are done whole
        if at // size < len(done) and done[at // size]:
            later[at : at + size] = False
    for share in ((at, count) for at in range(count)):
        before, after = (told(left(names, which, size, share)) for which in (np.array(missing, bool), later))
        assert [part for part in before if later[part[1][0]]] == after


@given(st.integers(0, 30), st.integers(0, 30), sizes)
def test_what_was_whole_keeps_its_name_where_the_plan_grows(count, more, size):
    grown = ids(count + more)
    before = told(left(grown[:count], np.ones(count, bool), size))
    after = told(left(grown, np.ones(count + more, bool), size))
    assert [part for part in before if len(part[1]) == size] == after[: count // size]


# -- which share is whose --------------------------------------------------------------------------------------------


def slurm(task: object, count: object, **more: object) -> dict[str, str]:
    known = {"ID": task, "COUNT": count, **{name.upper(): value for name, value in more.items()}}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in known.items()}


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 20))
def test_the_tasks_of_an_array_are_all_shares_once(first, step, count):
    last = first + (count - 1) * step
    found = [
        places.chosen(
            None, "local", None, environment=slurm(first + at * step, count, min=first, max=last, step=step)
        ).place
        for at in range(count)
    ]
    assert found == [Here((at, count)) for at in range(count)]


@pytest.mark.parametrize(
    "environment",
    [
        slurm(3, 2),
        slurm(0, 4, min=1, max=4),
        slurm(2, 3, min=1, max=9),  # of 1,2,9: each of them, not the last alone
        slurm(2, 2, min=1, max=4, step=2),
        slurm(1, 0),
        slurm(1, 2, step=0),
        slurm("", 2),
        slurm("one", 2),
        slurm(-1, 2),
        slurm("²", 3),
        slurm("1", "9" * 5000),
        slurm(0, 1, max="x"),
    ],
    ids=str,
)
def test_an_array_with_gaps_or_of_no_numbers_is_refused(environment):
    with pytest.raises(UserError, match=r"is no share; an array with gaps needs --shard I/N"):
        places.chosen(None, "local", None, environment=environment)


@pytest.mark.parametrize(
    "text", ["", "/", "1", "1/", "/2", "2/2", "-1/2", "0/0", "a/b", "1/2/3", " 0/2", "1.0/2", "²/3"]
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UserError, match=r"is no share; write I/N with I from 0 to N - 1"):
        places.share(text)
    with pytest.raises(UserError, match=r"is no share"):
        places.share("9" * 5000 + "/" + "9" * 5001)


def test_a_share_comes_before_the_array_and_workers_do_not_go_with_one():
    array = slurm(1, 4)
    assert places.chosen("2/3", "local", None, environment=array) == places.Chosen(Here((2, 3)))
    for engine, workers in (("local", 2), ("ray", 2), ("ray", None)):  # each task would do everything
        with pytest.raises(UserError, match=r"each of the 4 tasks of this Slurm array would start workers for all"):
            places.chosen(None, engine, workers, environment=array)
        assert places.chosen(None, engine, workers, environment=slurm(0, 1)).place.whole
    assert places.chosen(None, "local", None, environment=array).why == "share 1 of 4, as the Slurm array says"
    assert places.chosen(None, "local", None, environment={"SLURM_ARRAY_TASK_ID": "1"}) == places.Chosen(Here())


@pytest.mark.parametrize(
    ("engine", "workers", "words"),
    [("ray", None, "--engine ray"), ("local", 2, "--workers 2"), ("ray", 2, "--engine ray")],
)
def test_a_share_of_several_processes_is_refused(engine, workers, words):
    with pytest.raises(UserError, match=f"--shard 0/2 is the share of one process, and {words} starts several"):
        places.chosen("0/2", engine, workers, environment={})
