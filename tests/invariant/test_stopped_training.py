"""Training that is stopped at any moment and run again: as if nothing had been; and what it may not go on with."""

import errno
import shutil
from pathlib import Path

import pytest
import torch

from aifeedback_dpo.dpo import outcome
from tests import labelled
from tests.conftest import Forked, ddpo
from tests.labelled import FULL, JUDGES, REORDERED, assert_alike, folder, saved
from tests.stopped import INTERRUPTED, assert_ended_as, same, stopping

pytestmark = pytest.mark.slow

WAYS = {
    "LoRAs of three judges": (),
    "all weights, and a mean of them": (*FULL, "train.ema=0.5", "train.schedule=cosine"),
    "kto, its zero point, draws in turn": (
        "train.objective=kto",
        "train.draws=1",
        "train.optimizer=adafactor",
        "--judge",
        "random",
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


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_stopped_at_every_checkpoint_in_turn_it_ends_as_a_straight_run_bit_for_bit(copy, settings):
    judges = (settings[settings.index("--judge") + 1],) if settings else JUDGES
    plain, run = copy(), copy()
    with stopping(set()) as wanted:
        labelled.train(plain, *settings)
    with stopping({(judges[-1], step) for step in (1, 2, 3)}) as states:
        for step in (1, 2, 3):
            assert ddpo("train", *settings, run=run).exit_code == INTERRUPTED
            assert saved(run) == dict.fromkeys(judges, [1, 2, 3][:step])  # two, and one that is not known to be good
        result = labelled.train(run, *settings)
    assert "going on after step 3" in result.stderr
    assert_ended_as(plain, run, judges)
    assert len(wanted) == 3 * len(judges)
    assert same(wanted, states)
    if "train.objective=kto" in settings:
        assert any(state["zero_point"] > 0 for state in wanted.values())


def test_judges_that_were_stopped_at_different_steps_end_as_if_straight(copy, trained):
    """Stopped after the first judge's checkpoint and before the others', and one judge a step behind the others."""
    run = copy()
    with stopping({("human", 1), ("pickscore", 2), ("human", 3)}) as states:
        for _ in range(3):
            assert ddpo("train", run=run).exit_code == INTERRUPTED
    assert len(states) >= 6
    (last,) = sorted(folder(run, "random").glob("checkpoints/*"))[-1:]
    last.unlink()
    labelled.train(run)
    assert_alike(trained, run, close=REORDERED)  # the reference is asked of other pairs at once


@pytest.mark.parametrize("order", [("human", "ai", "random"), ("random", "ai", "human")])
def test_judges_go_on_one_by_one_in_any_order(going_on, trained, order):
    for judge in order:
        assert "going on after step 3" in labelled.train(going_on, "--judge", judge).stderr
    assert_alike(trained, going_on)


def test_a_judge_that_is_added_while_others_go_on_ends_as_if_there_from_the_start(going_on, trained):
    shutil.rmtree(folder(going_on, "pickscore"))
    labelled.train(going_on)
    assert_alike(trained, going_on)


def test_a_kill_at_any_moment_loses_only_what_was_under_way(copy, trained):
    run = copy()
    # three judges save in turn: the fifth file is the second judge's after step 2
    killed = Forked("train", run=run, before=IN_A_FILE.format(saved=5))
    assert killed.exit_code == -9, killed.said
    assert saved(run) == {"human": [1, 2], "pickscore": [1], "random": [1]}
    assert len(list(run.glob("policies/*/seed-0/checkpoints/.*"))) == 1  # half a file, which nobody reads
    with (folder(run) / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "pai')  # had it been in the middle of a line
    # from step 1 on again: the fifth move of the weights is the second judge's in the third step
    killed = Forked("train", run=run, before=IN_A_STEP.format(steps=5))
    assert killed.exit_code == -9, killed.said
    assert saved(run) == {"human": [1, 2], "pickscore": [1, 2], "random": [1, 2]}
    labelled.train(run)
    assert_ended_as(trained, run)


def test_stopped_when_one_judge_is_saved_and_another_is_not_they_end_as_a_straight_run(copy, networks, monkeypatch):
    """Bit for bit, for what is left sees the same batches, with pairs that only the judge who is done took a side on."""
    plain, run, sync = copy(), copy(), outcome.sync
    judges = ("--judge", "pickscore", "--judge", "human", "train.checkpoint_steps=2")  # then a whole epoch is left
    labelled.train(plain, *judges)

    def sync_and_stop(folder):
        sync(folder)
        if folder.parent.name == "human":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outcome, "sync", sync_and_stop)
        assert ddpo("train", *judges, run=run).exit_code == INTERRUPTED
    assert [path.parents[1].name for path in run.rglob("policy.json")] == ["pickscore"]
    assert "going on after step 2" in labelled.train(run, *judges).stderr
    assert_ended_as(plain, run, ("human", "pickscore"))
    straight, _, rest = networks
    assert rest.shapes == straight.shapes


def test_a_disk_that_is_full_when_training_goes_on_costs_no_line_of_a_log(going_on, trained, monkeypatch):
    logs = {path: path.read_bytes() for path in going_on.glob("policies/*/*/*.jsonl")}
    real = Path.replace
    for path in logs:
        with path.open("a") as log:
            log.write('{"step": 3, "pai')  # a line that a kill cut short, which is to be taken off

    def replace(path, target):
        if target.suffix == ".jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        result = ddpo("train", run=going_on)
    assert result.exit_code == 1 and "the disk is full" in result.stderr
    assert all(path.read_bytes().startswith(lines) for path, lines in logs.items())
    labelled.train(going_on)
    assert_ended_as(trained, going_on)


def test_from_step_goes_on_from_an_earlier_checkpoint_and_ends_as_straight(going_on, trained):
    assert "going on after step 1" in labelled.train(going_on, "--from-step", "1").stderr
    assert_ended_as(trained, going_on)


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
        ddpo("train", "train.keep_checkpoints=1", run=run)
    assert saved(run) == {
        judge: [2, 3] for judge in JUDGES
    }  # the one before the last goes when the last is known to be good
    found = torch.load(folder(run) / "checkpoints" / "step-000003.pt", weights_only=True)
    state = found["state"]
    assert all("lora_" in name for name in state["trained"])
    weights = sum(value.numel() for value in state["trained"].values())
    moments = [value for of in state["optimizer"]["state"].values() for value in of.values() if value.dim()]
    assert sum(value.numel() for value in moments) == 2 * weights  # Adam's
    assert state.keys() == {"trained", "optimizer", "rate", "scaler", "mean", "zero_point"}


def test_a_damaged_checkpoint_is_told_and_without_it_training_goes_on_from_the_one_before(going_on, trained):
    path = folder(going_on, "pickscore") / "checkpoints" / "step-000003.pt"
    data = path.read_bytes()
    largest = max(torch.load(path, weights_only=True)["state"]["trained"].values(), key=torch.numel)
    at = data.index(largest.numpy().tobytes())
    directory = data.index(b"PK\x01\x02") + 38  # a file's attributes, of which torch's reader heeds one bit
    turned = {"a weight": at, "the archive": directory, "the first byte": 0, "the sum": len(data) - 1}
    damaged = {"emptied": b"", "cut": data[: len(data) // 2]}
    for where, byte in turned.items():
        damaged[where] = data[:byte] + bytes([data[byte] ^ 16]) + data[byte + 1 :]
    for how, found in damaged.items():
        path.write_bytes(found)
        result = ddpo("train", run=going_on)
        assert result.exit_code == 3, how
        assert f"{path} is corrupted" in result.stderr and "delete it" in result.stderr, how
    path.unlink()
    labelled.train(going_on)
    assert_ended_as(trained, going_on)


# -- another recipe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["begun", "trained"])
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


def test_a_policy_goes_on_at_another_pace(going_on, trained):
    pace = ("micro_batch_size=4", "checkpoint_steps=2", "keep_checkpoints=1", "gradient_checkpointing=true")
    labelled.train(going_on, *(f"train.{setting}" for setting in pace))
    assert_ended_as(trained, going_on)
