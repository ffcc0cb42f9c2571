"""What must not change a policy's trajectory: who else is trained, what only saves time or memory, what is only looked at."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aifeedback_dpo.dpo import batches, train
from aifeedback_dpo.opening import open_run
from tests import labelled
from tests.conftest import ddpo
from tests.labelled import FULL, JUDGES, REORDERED, assert_alike, folder, metrics

pytestmark = pytest.mark.slow

AI, RANDOM = ("--judge", "ai"), ("--judge", "random")
KTO = ("train.objective=kto", "train.ema=0.5")


# -- several judges at once -----------------------------------------------------------------------------------------------


def test_judges_at_once_are_each_alone_whatever_their_ties(copy, trained):
    alone = copy()
    for judge in JUDGES:
        labelled.train(alone, "--judge", judge)
        shutil.rmtree(alone / "cache")
    assert {row["pairs"] for judge in JUDGES for row in metrics(trained, judge)} >= {3, 4}  # ties shrink a batch
    assert_alike(trained, alone, close=REORDERED)


@pytest.mark.parametrize("settings", [(), KTO], ids=["dpo", "kto with a mean of the weights"])
def test_the_order_of_the_judges_does_not_matter(copy, trained, settings):
    turned, run = copy(), trained
    if settings:
        run = copy()
        labelled.train(run, *settings)
    labelled.train(turned, *settings, *RANDOM, "--judge", "human", *AI)
    assert_alike(run, turned)


@pytest.mark.parametrize("how", ["failed", "ended"])
def test_a_judge_that_stops_leaves_the_others_as_they_were(copy, trained, monkeypatch, how):
    watches = []

    class Stopped(train.Watch):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            watches.append(self)

        def broken(self, row):
            return "made to" if how == "failed" and self is watches[1] and row["step"] == 1 else super().broken(row)

        def see(self, row):
            return "made to" if how == "ended" and self is watches[1] and row["step"] == 1 else super().see(row)

    monkeypatch.setattr(train, "Watch", Stopped)
    run = copy()
    result = ddpo("train", run=run)
    assert result.exit_code == (1 if how == "failed" else 0), result.output
    assert_alike(trained, run, ("human", "random"))
    assert metrics(run, "pickscore") == metrics(trained, "pickscore")[:2]
    if how == "failed":
        assert "pickscore, seed 0 was stopped at step 1: made to. " in result.stderr
        assert not (folder(run, "pickscore") / "policy.json").exists()
    else:
        policy = json.loads((folder(run, "pickscore") / "policy.json").read_text())
        assert (policy["steps"], policy["ended_early"]) == (2, "made to")
        assert "ended early after 2 steps" in result.stdout


# -- what only makes it cheaper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "judges"),
    [("micro_batch_size=1", JUDGES), ("gradient_checkpointing=true", JUDGES[:1]), ("channels_last=true", JUDGES[:1])],
)
def test_what_saves_memory_or_time_gives_the_same_trajectory(copy, trained, setting, judges):
    run = copy()
    labelled.train(run, f"train.{setting}", *(f"--judge={judge}" for judge in judges))
    assert_alike(trained, run, judges, close=REORDERED)


def test_what_saves_memory_or_time_gives_the_same_trajectory_of_all_weights(copy):
    run, plain = copy(), copy()
    labelled.train(plain, *FULL)
    labelled.train(
        run, *FULL, "train.micro_batch_size=2", "train.gradient_checkpointing=true", "train.channels_last=true"
    )
    assert_alike(plain, run, ("human",), close=REORDERED)


def test_a_compiled_denoiser_gives_the_same_trajectory(copy, trained, monkeypatch):
    """Traced and guarded as always, but run by PyTorch instead of generated code, which takes minutes to make."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **how: compiled(module, backend="eager", **how))
    run = copy()
    labelled.train(run, *RANDOM, "train.compile=true")
    assert_alike(trained, run, ("random",))


def test_a_compiled_denoiser_meets_one_shape_whatever_is_a_tie_or_known(copy, networks, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **how: module)
    run = copy()
    for judge in ("random", "human"):  # of the second's pairs the reference knows some
        labelled.train(run, "--judge", judge, "train.compile=true")
    assert [made.shapes for made in networks] == [{(8, 4, 16, 16)}] * 2


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_the_reference_said_is_never_asked_again(copy, networks, method):
    run = copy()
    how, judges = ((), JUDGES) if method == "lora" else (FULL, ("human",))
    labelled.train(run, *how)
    live = Path(shutil.copytree(run, run.with_name("live")))
    shutil.rmtree(run / "policies")
    labelled.train(run, *how)
    assert [made.asked > 0 for made in networks] == [True, False]
    assert_alike(live, run, judges)
    if method == "full":  # nobody needs a second copy of all weights, though some pairs are ties and were never asked
        assert [made.frozen is None for made in networks] == [False, True]
        assert metrics(run)[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)


def test_of_one_draw_the_reference_is_asked_in_the_first_epoch_only(copy, networks):
    run = copy()
    for draws in (1, 2):
        labelled.train(run, *AI, f"train.draws={draws}", f"train.name=draws-{draws}")
    # two epochs of two batches: the first draws only, and then the second ones, the first being known
    assert [made.asked for made in networks] == [2, 2]


@pytest.mark.parametrize(
    ("asked", "settings"),
    [
        (False, "beta=10 learning_rate=1e-4 rank=4 ema=0.9 steps=1"),
        (False, "objective=ipo labels=soft smoothing=0.1 safeguard=0.5 weighting=eps_equivalent"),
        (True, "seeds=[1]"),
        (True, "caption_dropout=0.5"),
        (True, "flip=true"),
        (True, "resolution=16"),
        (True, "precision=bfloat16"),
        (True, "method=full"),
    ],
)
def test_what_the_reference_said_serves_all_that_it_does_not_depend_on(trained, tmp_path, networks, settings, asked):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    labelled.train(run, *AI, "train.name=other", "train.steps=2", *(f"train.{setting}" for setting in settings.split()))
    assert [bool(made.asked) for made in networks] == [asked]


def test_held_out_pairs_change_only_which_pairs_are_trained_on(base, copy, tmp_path):
    often, once = copy(), copy()
    labelled.train(often, *AI, "train.held_out.pairs=1", "train.held_out.every=1")
    labelled.train(once, *AI, "train.held_out.pairs=1", "train.held_out.every=100")
    for run, looks in ((often, 4), (once, 1)):  # the last step is looked at in any case
        looked = [sorted(name for name in row if name.startswith("held_out")) for row in metrics(run, "pickscore")]
        assert looked == [[]] * (4 - looks) + [["held_out_accuracy", "held_out_margin"]] * looks
    prompts = open_run(once, None).read("pairs").column("prompt_id")
    held = [at // 2 for at in np.flatnonzero(batches.hold_out(prompts, 1, seed=0))]
    assert len(held) == 2 and held[0] == held[1]  # one pair was asked for, and the other of its prompt goes with it
    without = labelled.write(tmp_path / "without", f"model.id={base.parent / 'model'}", leave_out=held)
    labelled.train(without, *AI)
    for run in (often, once):
        assert_alike(without, run, ("pickscore",), besides=("held_out_accuracy", "held_out_margin"))
