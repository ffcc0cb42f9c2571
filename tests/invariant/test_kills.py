"""kill -9 at random moments, again and again: what comes out is what a straight run makes, byte for byte."""

import random

import pytest

from tests import killed
from tests.conftest import TINY, Forked
from tests.killed import kill_and_run_again, tables

pytestmark = pytest.mark.slow

SMALL = (*TINY, "generate.images_per_part=3", "label.images_per_part=4")
STAGES = (("generate", *SMALL), ("label", "--scorer", "pickscore"))
KILLS = 20


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nobody disturbed, and how many moments each stage has."""
    folder = tmp_path_factory.mktemp("straight")
    return folder / "run", [killed.events(*stage, run=folder / "run", into=folder / stage[0]) for stage in STAGES]


def test_twenty_kills_in_a_row_lose_nothing_and_change_nothing(straight, tmp_path):
    run, totals = straight
    draw, kills, trials = random.Random(7), 0, 0
    while kills < KILLS:
        trials += 1
        again = tmp_path / str(trials)
        for stage, total in zip(STAGES, totals, strict=True):
            kills += kill_and_run_again(*stage, run=again, total=total, draw=draw)
        assert tables(again) == tables(run)


def test_shares_that_are_killed_and_one_that_finishes_for_all_end_as_a_straight_run(straight, tmp_path):
    run, totals = straight
    draw = random.Random(3)
    for stage, total in zip(STAGES, totals, strict=True):
        pending = [
            Forked(*stage, "--shard", f"{at}/3", run=tmp_path, before=killed.killing(draw.randrange(total)))
            for at in range(3)
        ]
        assert {process.exit_code for process in pending} <= {0, killed.KILLED}
        assert Forked(*stage, run=tmp_path).exit_code == 0
    assert tables(tmp_path) == tables(run)


def test_two_at_once_share_the_work_and_both_end_well(straight, tmp_path):
    run, _ = straight
    for stage in STAGES:
        both = [Forked(*stage, run=tmp_path) for _ in range(2)]
        assert [process.exit_code for process in both] == [0, 0], [process.said for process in both]
    assert tables(tmp_path) == tables(run)
