"""A policy that goes wrong is stopped and told of, and nothing of it is kept that nobody should go on from."""

import itertools
import json

import pytest
import torch

from aifeedback_dpo.dpo import stability
from aifeedback_dpo.dpo.policy import Policy
from tests import labelled
from tests.conftest import ddpo
from tests.labelled import folder, metrics, saved, weights

pytestmark = pytest.mark.slow

AI = ("--judge", "ai")


def test_a_rate_that_diverges_ends_at_once_with_no_policy_and_no_state_that_diverged(copy):
    run = copy()
    result = ddpo("train", *AI, "train.learning_rate=1e30", run=run)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("ddpo: pickscore, seed 0 was stopped at step 1: the loss is nan")
    assert "Try a smaller train.learning_rate" in result.stderr
    assert not (folder(run, "pickscore") / "policy.json").exists()
    assert saved(run) == {}  # weights of 1e30 are finite, and no state to go on from


def test_weights_that_are_no_numbers_are_never_saved_and_the_other_judges_are_as_they_were(copy, trained, monkeypatch):
    poison(monkeypatch, "pickscore")
    run = copy()
    result = ddpo("train", "train.keep_checkpoints=1", run=run)
    assert result.exit_code == 1
    assert (
        "pickscore, seed 0 was stopped at step 2: the loss is nan. The state after step 1 is kept in" in result.stderr
    )
    assert not (folder(run, "pickscore") / "policy.json").exists()
    assert saved(run) == {"pickscore": [1]}
    for judge in ("human", "random"):
        ours, theirs = weights(run, judge), weights(trained, judge)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_spike_ends_with_the_error_and_its_usual_size(copy, trained):
    rows = metrics(trained, "pickscore")
    usual = [row["winner_error"] - row["winner_drift"] for row in rows]  # what the reference makes of the same draws
    times = [row["winner_error"] / its for row, its in zip(rows, usual, strict=True)]
    at = times.index(max(times))
    assert times[at] > 1.001
    run = copy()
    result = ddpo("train", *AI, f"train.guard.spike={times[at] - 1e-4}", run=run)
    assert result.exit_code == 1
    assert (
        f"stopped at step {at}: the error on winners, {rows[at]['winner_error']:.3g}, is {times[at]:.1f} times the usual "
        f"{usual[at]:.3g}."
    ) in result.stderr
    assert len(metrics(run, "pickscore")) == at + 1
    good = [step for step in (1, 2, 3) if step < at][-2:]  # the state after step `at` is what spiked
    assert saved(run) == ({"pickscore": good} if good else {})
    assert not (folder(run, "pickscore") / "policy.json").exists()


def poison(monkeypatch: pytest.MonkeyPatch, judge: str) -> None:
    """Makes a weight of a judge no number after the second step."""
    step, seen = Policy.step, []

    def step_and_break(policy: Policy) -> torch.Tensor:
        norm = step(policy)
        seen.append(policy.job.judge)
        if policy.job.judge == judge and seen.count(judge) == 2:
            policy.parameters[0].data[0] = float("nan")
        return norm

    monkeypatch.setattr(Policy, "step", step_and_break)


def test_winners_that_drift_end_a_policy_early_and_its_description_says_so(copy, monkeypatch):
    monkeypatch.setattr(stability, "WINDOW", 2)
    plain, run = copy(), copy()
    labelled.train(plain, *AI, "train.steps=8")
    rows = metrics(plain, "pickscore")
    drifts = [0.0]  # over the last two steps; the reference's error is the policy's without the drift
    for last_two in itertools.pairwise(rows):
        risen = sum(row["winner_drift"] for row in last_two)
        drifts.append(risen / (sum(row["winner_error"] for row in last_two) - risen))
    at = drifts.index(max(drifts))
    assert 0 < at < 7 and drifts[at] > 1e-3
    labelled.train(run, *AI, "train.steps=8", f"train.guard.winner_drift={drifts[at] - 1e-4}")
    policy = json.loads((folder(run, "pickscore") / "policy.json").read_text())
    assert len(metrics(run, "pickscore")) == policy["steps"] == at + 1
    assert policy["ended_early"] == (
        f"the error on winners rose {100 * drifts[at]:.1f} % above the reference's over the last 2 steps"
    )
    assert weights(run, "pickscore").keys() == weights(plain, "pickscore").keys()
    assert saved(run) == {}
