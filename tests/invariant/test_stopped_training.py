"""Training that is stopped, by a user, a kill or its own guards: what is kept, and how it goes on as if nothing had been."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from aifeedback_dpo.dpo import checkpoint, stability
from aifeedback_dpo.dpo.policy import Policy
from tests import labelled, tiny
from tests.conftest import ddpo, ddpo_process
from tests.labelled import FULL, JUDGES, assert_alike, folder, metrics, weights

pytestmark = pytest.mark.slow

INTERRUPTED = 130
WAYS = {
    "LoRAs of three judges": (),
    "all weights, and a mean of them": (*FULL, "train.ema=0.5", "train.schedule=cosine"),
    "kto, its zero point, draws in turn": (
        "train.objective=kto",
        "train.draws=1",
        "train.optimizer=adafactor",
        "--judge",
        "human",
    ),
}

IN_A_STEP = """
import os, signal
from aifeedback_dpo.dpo.policy import Policy
real, steps = Policy.step, []
def step(policy):
    steps.append(policy)
    if len(steps) == {steps}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(policy)
Policy.step = step
"""
IN_A_FILE = """
import io, os, signal, torch
real, saved = torch.save, []
def save(state, file):
    saved.append(state)
    if len(saved) < {saved}:
        return real(state, file)
    whole = io.BytesIO()
    real(state, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = save
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("base")
    tiny.write("sd", root / "model")
    return labelled.write(root / "run", f"model.id={root / 'model'}")


@pytest.fixture
def copy(base, tmp_path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(base, tmp_path / f"run-{len(list(tmp_path.iterdir()))}"))


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory) -> Path:
    run = Path(shutil.copytree(base, tmp_path_factory.mktemp("straight") / "run"))
    labelled.train(run)
    return run


@pytest.fixture(scope="module")
def begun(base, tmp_path_factory) -> Path:
    """Three judges, interrupted after the third of four steps, with all checkpoints kept. Tests copy it."""
    run = Path(shutil.copytree(base, tmp_path_factory.mktemp("begun") / "run"))
    with stopping({(JUDGES[-1], 3)}):
        assert ddpo("train", "train.keep_checkpoints=9", run=run).exit_code == INTERRUPTED
    return run


@pytest.fixture
def going_on(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "begun"))


@contextmanager
def stopping(after: set[tuple[str, int]]) -> Iterator[dict[tuple[str, int], Any]]:
    """Interrupts training after these (judge, step) are saved, once each; gives every state that is saved."""
    states, save = {}, checkpoint.save

    def save_and_stop(run, job, step, state, *, keep):
        save(run, job, step, state, keep=keep)
        states[job.judge, step] = deepcopy(state)
        if (job.judge, step) in after:
            after.remove((job.judge, step))
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "save", save_and_stop)
        yield states


def saved(run: Path) -> dict[str, list[int]]:
    """The steps that there are checkpoints of, by policy."""
    found: dict[str, list[int]] = {}
    for path in sorted(run.glob("policies/*/seed-0/checkpoints/*.pt")):
        found.setdefault(path.parents[2].name, []).append(int(path.stem.removeprefix("step-")))
    return found


def same(one: Any, other: Any) -> bool:
    """Bit for bit, at any depth."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_ended_as(straight: Path, run: Path, judges: Sequence[str] = JUDGES) -> None:
    """The same files, bit for bit, and nothing left of what was under way."""
    for judge in judges:
        assert (folder(run, judge) / "metrics.jsonl").read_bytes() == (
            folder(straight, judge) / "metrics.jsonl"
        ).read_bytes()
        assert same(weights(run, judge), weights(straight, judge)), judge
    assert saved(run) == {}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_stopped_at_every_checkpoint_in_turn_it_ends_as_a_straight_run_bit_for_bit(copy, settings):
    judges = ("human",) if "--judge" in settings else JUDGES
    plain, run = copy(), copy()
    with stopping(set()) as wanted:
        labelled.train(plain, *settings)
    with stopping({(judges[-1], step) for step in (1, 2, 3)}) as states:
        for step in (1, 2, 3):
            assert ddpo("train", *settings, run=run).exit_code == INTERRUPTED
            assert saved(run) == dict.fromkeys(judges, [1, 2, 3][max(0, step - 2) : step])
        result = labelled.train(run, *settings)
    assert "going on after step 3" in result.stderr
    assert_ended_as(plain, run, judges)
    assert len(wanted) == 3 * len(judges)
    assert same(wanted, states)


def test_judges_that_were_stopped_at_different_steps_end_as_if_straight(copy, straight):
    """Stopped after the first judge's checkpoint and before the others', and one judge a step behind the others."""
    run = copy()
    with stopping({("human", 1), ("pickscore", 2), ("human", 3)}) as states:
        for _ in range(3):
            assert ddpo("train", run=run).exit_code == INTERRUPTED
    assert len(states) >= 6
    (last,) = sorted(folder(run, "random").glob("checkpoints/*"))[-1:]
    last.unlink()
    labelled.train(run)
    assert_alike(straight, run, close=1e-4)  # the reference is asked of other pairs at once


@pytest.mark.parametrize("order", [("human", "ai", "random"), ("random", "ai", "human")])
def test_judges_go_on_one_by_one_in_any_order(going_on, straight, order):
    for judge in order:
        assert "going on after step 3" in labelled.train(going_on, "--judge", judge).stderr
    assert_alike(straight, going_on)


def test_a_judge_that_is_added_while_others_go_on_ends_as_if_there_from_the_start(going_on, straight):
    shutil.rmtree(folder(going_on, "pickscore"))
    labelled.train(going_on)
    assert_alike(straight, going_on)


def test_a_kill_at_any_moment_loses_only_what_was_under_way(copy, straight):
    run = copy()
    command = ("train", "--run", str(run))
    # three judges save in turn: the fifth file is the second judge's after step 2
    killed = ddpo_process(*command, cwd=run, before=IN_A_FILE.format(saved=5))
    assert killed.returncode == -9, killed.stderr
    assert saved(run) == {"human": [1, 2], "pickscore": [1], "random": [1]}
    assert len(list(run.glob("policies/*/seed-0/checkpoints/.*"))) == 1  # half a file, which nobody reads
    # from step 1 on again: the fifth move of the weights is the second judge's in the third step
    killed = ddpo_process(*command, cwd=run, before=IN_A_STEP.format(steps=5))
    assert killed.returncode == -9, killed.stderr
    assert saved(run) == {"human": [1, 2], "pickscore": [1, 2], "random": [1, 2]}
    labelled.train(run)
    assert_ended_as(straight, run)


def test_from_step_goes_on_from_an_earlier_checkpoint_and_ends_as_straight(going_on, straight):
    assert "going on after step 1" in labelled.train(going_on, "--from-step", "1").stderr
    assert_ended_as(straight, going_on)


def test_a_step_that_was_not_saved_is_refused_and_those_there_are_named(going_on):
    before = saved(going_on)
    for step, there in (("7", "there are 1, 2, 3"), ("2", "there is none")):
        if step == "2":
            shutil.rmtree(folder(going_on, "random") / "checkpoints")
        result = ddpo("train", "--from-step", step, run=going_on)
        assert result.exit_code == 2
        assert f"no checkpoint after step {step}: {there}" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert saved(going_on) == {name: steps for name, steps in before.items() if name != "random"}


def test_the_last_checkpoints_are_kept_and_hold_nothing_that_is_frozen(copy):
    run = copy()
    with stopping({(JUDGES[-1], 3)}):
        ddpo("train", "train.keep_checkpoints=2", run=run)
    assert saved(run) == {judge: [2, 3] for judge in JUDGES}
    found = torch.load(folder(run) / "checkpoints" / "step-000003.pt", weights_only=True)
    state = found["state"]
    assert all("lora_" in name for name in state["trained"])
    weights = sum(value.numel() for value in state["trained"].values())
    moments = [value for of in state["optimizer"]["state"].values() for value in of.values() if value.dim()]
    assert sum(value.numel() for value in moments) == 2 * weights  # Adam's
    assert state.keys() == {"trained", "optimizer", "rate", "scaler", "mean", "zero_point"}


def test_a_damaged_checkpoint_is_told_and_without_it_training_goes_on_from_the_one_before(going_on, straight):
    path = folder(going_on, "pickscore") / "checkpoints" / "step-000003.pt"
    data = path.read_bytes()
    largest = max(torch.load(path, weights_only=True)["state"]["trained"].values(), key=torch.numel)
    at = data.index(largest.numpy().tobytes())
    damaged = {
        "emptied": b"",
        "cut": data[: len(data) // 2],
        "a name changed": data.replace(b"made_from", b"made_\xff\xfe\xfdm"),
        "a bit of a weight turned": data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :],
    }
    for how, found in damaged.items():
        path.write_bytes(found)
        result = ddpo("train", run=going_on)
        assert result.exit_code == 3, how
        assert f"{path} is corrupted" in result.stderr and "delete it" in result.stderr, how
    path.unlink()
    labelled.train(going_on)
    assert_ended_as(straight, going_on)


# -- another recipe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["begun", "straight"])
def test_policies_of_other_settings_are_refused_or_kept_beside(request, state, tmp_path):
    run = Path(shutil.copytree(request.getfixturevalue(state), tmp_path / "run"))
    recipe = (run / "recipe.yaml").read_text()
    before = {path: path.read_bytes() for path in run.glob("policies/**/*") if path.is_file()}
    result = ddpo("train", "train.beta=10", run=run)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "train.beta: 2000.0 there, 10.0 asked for" in line
    assert all(way in line for way in ("Take these back", "train.name=NAME", "delete it"))
    labelled.train(run, "train.beta=10", "train.name=weak", "--judge", "human")
    assert (folder(run, "human+weak") / "policy.json").exists()
    assert {path: path.read_bytes() for path in before} == before
    assert (run / "recipe.yaml").read_text() == recipe


def test_a_policy_goes_on_at_another_pace(going_on, straight):
    pace = ("micro_batch_size=4", "checkpoint_steps=2", "keep_checkpoints=1", "gradient_checkpointing=true")
    labelled.train(going_on, *(f"train.{setting}" for setting in pace))
    assert_ended_as(straight, going_on)


# -- guards ---------------------------------------------------------------------------------------------------------------


def test_a_rate_that_diverges_ends_at_once_with_no_policy_and_no_state_that_diverged(copy):
    run = copy()
    result = ddpo("train", "--judge", "ai", "train.learning_rate=1e30", run=run)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("ddpo: pickscore, seed 0 was stopped at step 1: the loss is nan")
    assert "Try a smaller train.learning_rate" in result.stderr
    assert not (folder(run, "pickscore") / "policy.json").exists()
    assert saved(run) == {}  # weights of 1e30 are finite, and no state to go on from


def test_weights_that_are_no_numbers_are_never_saved_and_the_other_judges_are_as_they_were(copy, straight, monkeypatch):
    poison(monkeypatch, "pickscore")
    run = copy()
    result = ddpo("train", run=run)
    assert result.exit_code == 1
    assert (
        "pickscore, seed 0 was stopped at step 2: the loss is nan. The state after step 1 is kept in" in result.stderr
    )
    assert not (folder(run, "pickscore") / "policy.json").exists()
    assert saved(run) == {"pickscore": [1]}
    for judge in ("human", "random"):
        assert same(weights(run, judge), weights(straight, judge))


def test_a_spike_ends_with_the_error_and_its_usual_size(copy, straight):
    rows = metrics(straight, "pickscore")
    usual = [row["winner_error"] - row["winner_drift"] for row in rows]  # what the reference makes of the same draws
    times = [row["winner_error"] / its for row, its in zip(rows, usual, strict=True)]
    at = times.index(max(times))
    assert times[at] > 1.001
    run = copy()
    result = ddpo("train", "--judge", "ai", f"train.guard.spike={times[at] - 1e-4}", run=run)
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
    labelled.train(plain, "--judge", "ai", "train.steps=8")
    rows = metrics(plain, "pickscore")
    # over the window of the first two steps the reference's error is the policy's without the drift
    risen = sum(row["winner_drift"] for row in rows[1:3])
    drift = risen / (sum(row["winner_error"] for row in rows[1:3]) - risen)
    assert drift > 0
    labelled.train(run, "--judge", "ai", "train.steps=8", f"train.guard.winner_drift={drift * 0.99}")
    policy = json.loads((folder(run, "pickscore") / "policy.json").read_text())
    assert metrics(run, "pickscore") == rows[: policy["steps"]]
    assert (
        policy["ended_early"]
        == f"the error on winners rose {100 * drift:.1f} % above the reference's over the last 2 steps"
    )
