"""Ctrl-C and SIGTERM during training: the step under way is saved, and what is told is so."""

import shutil
import signal

import pytest

from aifeedback_dpo.dpo.policy import Policy
from tests import labelled
from tests.conftest import ddpo
from tests.labelled import JUDGES, folder, saved
from tests.stopped import INTERRUPTED, assert_ended_as

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_under_way_end_and_saves_it(copy, trained, monkeypatch, number):
    run, step, steps = copy(), Policy.step, []

    def step_and_signal(policy):
        steps.append(policy)
        if len(steps) == 5:  # the second judge's in the second step
            signal.raise_signal(number)
        return step(policy)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        patched.setattr(Policy, "step", step_and_signal)
        result = ddpo("train", "train.checkpoint_steps=9", run=run)
    assert result.exit_code == INTERRUPTED
    assert "Saved up to step 2 of 4" in result.stderr
    assert saved(run) == {judge: [2] for judge in JUDGES}
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert "going on after step 2" in labelled.train(run).stderr
    assert_ended_as(trained, run)


def test_a_second_interrupt_stops_at_once_and_one_in_the_last_step_stops_nothing(copy, trained, monkeypatch):
    run, step, steps = copy(), Policy.step, []

    def interrupted_twice(policy):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return step(policy)

    def interrupted_at_the_end(policy):
        steps.append(policy)
        if len(steps) == 4 * len(JUDGES):
            signal.raise_signal(signal.SIGINT)
        return step(policy)

    with monkeypatch.context() as patched:
        patched.setattr(Policy, "step", interrupted_twice)
        assert ddpo("train", run=run).exit_code == INTERRUPTED
        assert saved(run) == {}
        patched.setattr(Policy, "step", interrupted_at_the_end)
        labelled.train(run)
    assert_ended_as(trained, run)


def test_an_interrupt_tells_what_was_saved(going_on, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Policy, "step", interrupted)
        assert "Saved up to step 3 of 4" in ddpo("train", run=going_on).stderr
        shutil.rmtree(folder(going_on, "random") / "checkpoints")
        said = ddpo("train", run=going_on).stderr
        assert "Saved: human (simulated), seed 0 up to step 3, pickscore, seed 0 up to step 3; train.checkpoint" in said
        for judge in JUDGES:
            shutil.rmtree(folder(going_on, judge))
        assert "Saved: no step yet; train.checkpoint_steps=1" in ddpo("train", run=going_on).stderr
