"""What the reference said of a draw of a pair is found again by those two alone, whole or not at all."""

import os

import numpy as np
import pyarrow as pa
import pytest

from aifeedback_dpo import config
from aifeedback_dpo.dpo.references import References
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run

IDS = pa.chunked_array([["p0", "p1"], ["p2", "p3"]])
VISITS = [(2, 0), (0, 1), (3, 0)]  # (row, draw)
SAID = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)  # on a and on b


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path, config.load("shapes"))


def opened(run: Run, ids=IDS, *, draws: int = 2, made_by: tuple[str, ...] = ("lora", "0"), writes: bool = True):
    return References(run, ids, draws, made_by=made_by, writes=writes)


def told(run: Run) -> References:
    """With the three visits on disk."""
    references = opened(run)
    references.learn(VISITS, SAID)
    references.commit()
    return references


def parts(run: Run) -> list[str]:
    return sorted(path.name for path in run.cache.rglob("part-*"))


def test_what_was_learnt_is_known_to_the_bit_at_once_and_when_it_is_opened_again(run):
    for references in (told(run), opened(run)):
        assert references.known(VISITS).dtype == np.float32
        assert (references.known(VISITS) == SAID).all()
        assert (references.known(VISITS[::-1]) == SAID[:, ::-1]).all()


def test_what_nobody_has_asked_is_nan_and_another_draw_of_a_pair_is_another_question(run):
    references = told(run)
    assert np.isnan(references.known([(1, 0), (2, 1), (0, 0)])).all()
    assert references.complete(VISITS)
    assert not references.complete([*VISITS, (2, 1)])
    assert references.complete([])
    assert references.known([]).shape == (2, 0)


def test_pairs_are_known_by_their_ids_wherever_their_rows_are(run):
    told(run)
    fewer = opened(run, pa.chunked_array([["p9", "p3", "p0"]]))
    assert (fewer.known([(1, 0), (2, 1)]) == SAID[:, [2, 1]]).all()
    assert np.isnan(fewer.errors).sum() == fewer.errors.size - 4


def test_draws_beyond_those_of_this_training_are_left_out(run):
    told(run)
    one = opened(run, draws=1)
    assert one.errors.shape == (4, 1, 2)
    assert (one.known([(2, 0), (3, 0)]) == SAID[:, [0, 2]]).all()
    assert np.isnan(one.known([(0, 0)])).all()


def test_what_follows_from_something_else_is_kept_apart(run):
    told(run)
    other = opened(run, made_by=("lora", "1"))
    assert np.isnan(other.errors).all()
    assert other.folder != opened(run).folder


def test_only_what_is_new_is_written_as_one_part_and_nothing_as_none(run):
    references = told(run)
    references.commit()
    assert len(parts(run)) == 1
    again = opened(run)
    again.commit()
    again.learn([(1, 1)], np.array([[0.7], [0.8]], np.float32))
    again.learn([(1, 0)], np.array([[0.9], [1.0]], np.float32))
    again.commit()
    assert len(parts(run)) == 2
    assert opened(run).complete([*VISITS, (1, 0), (1, 1)])


def test_the_same_work_gives_the_same_file(run, tmp_path):
    told(run)
    other = Run(tmp_path / "other", run.recipe)
    told(other)
    (one,), (two,) = run.cache.rglob("part-*"), other.cache.rglob("part-*")
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


def test_of_several_processes_one_writes_and_all_know(run):
    references = opened(run, writes=False)
    references.learn(VISITS, SAID)
    references.commit()
    assert parts(run) == []
    assert references.complete(VISITS)


def test_a_part_that_is_not_there_whole_is_no_part(run, monkeypatch):
    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    references = opened(run)
    references.learn(VISITS, SAID)
    with pytest.raises(KeyboardInterrupt):
        references.commit()
    monkeypatch.undo()
    assert parts(run) == []
    assert np.isnan(opened(run).errors).all()


@pytest.mark.parametrize("damage", ["emptied", "cut", "a byte changed"])
def test_a_damaged_part_is_told_with_its_path(run, damage):
    told(run)
    (path,) = run.cache.rglob("part-*")
    data = bytearray(path.read_bytes())
    if damage == "a byte changed":
        data[len(data) // 4] ^= 1
    path.write_bytes({"emptied": b"", "cut": data[: len(data) // 2]}.get(damage, bytes(data)))
    with pytest.raises(DataError, match=r"part-.*\.parquet is corrupted .*; delete it and run `ddpo train` again"):
        opened(run)
