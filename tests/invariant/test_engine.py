"""Laws of the training engine: what must not change a policy's trajectory, and where every trajectory starts."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aifeedback_dpo import models
from aifeedback_dpo.dpo import batches, losses, train
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.opening import open_run
from tests import labelled, tiny
from tests.conftest import ddpo
from tests.labelled import FULL, JUDGES, assert_alike, folder, metrics, weights

pytestmark = pytest.mark.slow

LN_2 = math.log(2)
AI, RANDOM = ("--judge", "ai"), ("--judge", "random")
KTO = ("train.objective=kto", "train.ema=0.5")


class Watched(Network):
    """Counts how often the reference is asked, and keeps the shapes of what the denoiser is given."""

    made: list["Watched"]

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.asked, self.shapes = 0, set()
        self.made.append(self)
        self.before = fingerprint(self.frozen or self.original)

    def reference(self, *seen):
        self.asked += 1
        return super().reference(*seen)

    def _call(self, called, noisy, times, conditions):
        self.shapes.add(tuple(noisy.shape))
        return super()._call(called, noisy, times, conditions)


@pytest.fixture
def networks(monkeypatch) -> list[Watched]:
    """The networks of the trainings that follow, one a group."""
    monkeypatch.setattr(Watched, "made", [], raising=False)
    monkeypatch.setattr(train, "Network", Watched)
    return Watched.made


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A labelled run whose latents are in the cache. Tests train copies of it."""
    root = tmp_path_factory.mktemp("base")
    tiny.write("sd", root / "model")
    run = labelled.write(root / "run", f"model.id={root / 'model'}")
    labelled.train(run, *AI, "train.steps=1", "train.name=first")  # which leaves the run's own settings as they are
    return untrained(run)


@pytest.fixture
def copy(base, tmp_path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(base, tmp_path / f"run-{len(list(tmp_path.iterdir()))}"))


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory) -> Path:
    """LoRAs of three judges, trained at once."""
    run = Path(shutil.copytree(base, tmp_path_factory.mktemp("straight") / "run"))
    labelled.train(run)
    return run


def untrained(run: Path, *, references: bool = False) -> Path:
    """The run without its policies and, unless they are kept, without what the reference said."""
    shutil.rmtree(run / "policies")
    for kept in [] if references else run.glob("cache/reference-*"):
        shutil.rmtree(kept)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["made_by"] = {work: entry for work, entry in manifest["made_by"].items() if not work.startswith("train")}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def fingerprint(module: torch.nn.Module) -> int:
    """A hash of the weights that are frozen: without adapters, under the names they have without them."""
    state = {name.replace(".base_layer", ""): value for name, value in module.state_dict().items()}
    frozen = {name: value for name, value in state.items() if "lora_" not in name}
    return hash(
        tuple((name, str(frozen[name].dtype), frozen[name].float().numpy().tobytes()) for name in sorted(frozen))
    )


# -- several judges at once -----------------------------------------------------------------------------------------------


def test_judges_at_once_are_each_alone_whatever_their_ties(copy, straight):
    alone = copy()
    for judge in JUDGES:
        labelled.train(alone, "--judge", judge)
        shutil.rmtree(alone / "cache")
    assert {row["pairs"] for judge in JUDGES for row in metrics(straight, judge)} >= {3, 4}  # ties shrink a batch
    assert_alike(straight, alone)


@pytest.mark.parametrize("settings", [(), KTO], ids=["dpo", "kto with a mean of the weights"])
def test_the_order_of_the_judges_does_not_matter(copy, straight, settings):
    turned, run = copy(), straight
    if settings:
        run = copy()
        labelled.train(run, *settings)
    labelled.train(turned, *settings, *RANDOM, "--judge", "human", *AI)
    assert_alike(run, turned)


@pytest.mark.parametrize("how", ["failed", "ended"])
def test_a_judge_that_stops_leaves_the_others_as_they_were(copy, straight, monkeypatch, how):
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
    assert_alike(straight, run, ("human", "random"))
    assert metrics(run, "pickscore") == metrics(straight, "pickscore")[:2]
    if how == "failed":
        assert "pickscore, seed 0 was stopped at step 1: made to. Nothing was saved." in result.stderr
        assert not (folder(run, "pickscore") / "policy.json").exists()
    else:
        policy = json.loads((folder(run, "pickscore") / "policy.json").read_text())
        assert (policy["steps"], policy["ended_early"]) == (2, "made to")
        assert "ended early after 2 steps" in result.stdout


# -- what only makes it cheaper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["micro_batch_size=1", "gradient_checkpointing=true", "channels_last=true"])
def test_what_saves_memory_or_time_gives_the_same_trajectory(copy, straight, setting):
    run = copy()
    labelled.train(run, f"train.{setting}")
    assert_alike(straight, run, close=1e-4)


def test_what_saves_memory_or_time_gives_the_same_trajectory_of_all_weights(copy):
    run, plain = copy(), copy()
    labelled.train(plain, *FULL)
    labelled.train(
        run, *FULL, "train.micro_batch_size=2", "train.gradient_checkpointing=true", "train.channels_last=true"
    )
    assert_alike(plain, run, ("human",), close=1e-3)  # Adam makes a step of the rate of any gradient, however small


def test_a_compiled_denoiser_gives_the_same_trajectory(copy, straight, monkeypatch):
    """Traced and guarded as always, but run by PyTorch instead of generated code, which takes minutes to make."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **how: compiled(module, backend="eager", **how))
    run = copy()
    labelled.train(run, *RANDOM, "train.compile=true")
    assert_alike(straight, run, ("random",))


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
    labelled.train(untrained(run, references=True), *how)
    assert [made.asked > 0 for made in networks] == [True, False]
    assert_alike(live, run, judges)
    if method == "full":  # nobody needs a second copy of all weights, though some pairs are ties and were never asked
        assert [made.frozen is None for made in networks] == [False, True]
        assert metrics(run)[0]["loss"] == pytest.approx(LN_2, abs=1e-7)


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
def test_what_the_reference_said_serves_all_that_it_does_not_depend_on(straight, tmp_path, networks, settings, asked):
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    labelled.train(run, *AI, "train.name=other", "train.steps=2", *(f"train.{setting}" for setting in settings.split()))
    assert [bool(made.asked) for made in networks] == [asked]


def test_held_out_pairs_change_only_which_pairs_are_trained_on(base, copy, tmp_path):
    often, once = copy(), copy()
    labelled.train(often, *AI, "train.held_out.pairs=1", "train.held_out.every=1")
    labelled.train(once, *AI, "train.held_out.pairs=1", "train.held_out.every=100")
    looked = [{name for name in row if name.startswith("held_out")} for row in metrics(often, "pickscore")]
    assert looked == [{"held_out_accuracy", "held_out_margin"}] * 4
    prompts = open_run(once, None).read("pairs").column("prompt_id")
    held = [at // 2 for at in np.flatnonzero(batches.hold_out(prompts, 1, seed=0))]
    assert len(held) == 2 and held[0] == held[1]  # one pair was asked for, and the other of its prompt goes with it
    without = labelled.write(tmp_path / "without", f"model.id={base.parent / 'model'}", leave_out=held)
    labelled.train(without, *AI)
    for run in (often, once):
        assert_alike(without, run, ("pickscore",), besides=("held_out_accuracy", "held_out_margin"))


# -- where trajectories start ---------------------------------------------------------------------------------------------

# With the margin 0, z = 0: -log sigma(0) = ln 2, (0 - 1/2)^2, max(0, 1 - 0), ln 2 + alpha (1 - 1/2), and for robust
# ((1 - s) ln 2 - s ln 2) / (1 - 2 s) = ln 2. KTO's utilities are sigma(0) each: 1 - 1/2. Soft labels weigh two equal losses.
STARTS = {
    "dpo": (LN_2, ()),
    "ipo": (0.25, ()),
    "hinge": (1.0, ()),
    "poly": (LN_2 + 0.3 / 2, ("train.alpha=0.3",)),
    "robust": (LN_2, ("train.smoothing=0.1",)),
    "kto": (0.5, ()),
    "mapo": (None, ("train.beta=0.1",)),
    "sft": (None, ()),
}


@pytest.mark.parametrize("objective", losses.NAMES)
def test_every_objective_starts_at_its_closed_form_and_moves(copy, networks, objective):
    start, settings = STARTS[objective]
    run = copy()
    labelled.train(run, *AI, f"train.objective={objective}", *settings, "train.steps=3", "train.learning_rate=1e-3")
    first, *rest = metrics(run, "pickscore")
    if start is None:
        assert networks[0].asked == 0
        assert "implicit_accuracy" not in first
    else:
        assert first["loss"] == pytest.approx(start, rel=1e-6)
    if objective == "sft":
        assert first["loss"] == first["winner_error"]
    assert all(math.isfinite(row["loss"]) and row["gradient_norm"] > 0 for row in (first, *rest))
    assert all(value.any() for name, value in weights(run, "pickscore").items() if "lora_B" in name or ".up." in name)


@pytest.mark.parametrize("settings", [("labels=soft",), ("smoothing=0.2",), ("safeguard=0.9",)], ids=lambda s: s[0])
def test_soft_labels_smoothing_and_the_safeguard_start_as_dpo_and_go_their_own_way(copy, straight, settings):
    run = copy()
    labelled.train(run, *AI, *(f"train.{setting}" for setting in settings))
    ours, plain = metrics(run, "pickscore"), metrics(straight, "pickscore")
    assert ours[0]["loss"] == pytest.approx(LN_2, abs=1e-7)
    assert ours[0]["gradient_norm"] != pytest.approx(plain[0]["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("train.objective=mapo",), "train.beta=2000 is of DPO's scale; for mapo set train.beta=0.1"),
        (("train.objective=robust",), "robust needs the share of wrong labels, as in train.smoothing=0.1"),
        (("train.objective=kto", "train.smoothing=0.1"), "not with kto"),
        (("train.objective=sft", "train.labels=soft"), "not with sft"),
        (("train.objective=kto", "train.safeguard=0.9"), "train.safeguard goes with"),
        (("train.micro_batch_size=3",), "micro_batch_size 3 must divide batch_size 4"),
        (("train.objective=dop",), "'dop'"),
        (("train.smoothing=0.5",), "0.5"),
    ],
)
def test_settings_that_clash_are_told_in_one_line(base, settings, said):
    result = ddpo("train", *settings, run=base)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", ["lora", "full", "full of a bfloat16 model"])
def test_at_step_0_the_loss_is_ln_2_and_the_accuracy_one_half(copy, base, tmp_path, way, precision):
    """Of judges with ties too, who share a reference pass in which those ties are."""
    run = copy()
    if "bfloat16 model" in way:
        model = (f"model.id={base.parent / 'model'}", "model.dtype=bfloat16")
        run = labelled.write(tmp_path / "half", *model, "train.method=full")
    how = FULL if "full" in way else ()
    labelled.train(run, *how, f"train.precision={precision}", "train.steps=1")
    for judge in ("human",) if how else JUDGES:
        (row,) = metrics(run, judge)
        assert row["loss"] == pytest.approx(LN_2, abs=1e-7)
        assert (row["implicit_accuracy"], row["gradient_factor"]) == (0.5, 0.5)
        assert row["margin"] == row["winner_drift"] == row["loser_drift"] == 0.0
        assert row["gradient_norm"] > 0


# -- what training leaves as it was ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [("train.channels_last=true", "train.gradient_checkpointing=true"), FULL],
    ids=["lora", "full"],
)
def test_the_reference_and_the_model_are_left_as_they_were(copy, networks, monkeypatch, settings):
    loaded, load = [], models.load
    monkeypatch.setattr(models, "load", lambda *asked: loaded.append(load(*asked)) or loaded[-1])
    run = copy()
    labelled.train(run, *settings)
    (made,), (model,) = networks, loaded
    assert fingerprint(made.frozen or made.original) == made.before
    denoiser, plain = model.denoiser, load(open_run(run, None).recipe.model).denoiser
    assert list(denoiser.state_dict()) == list(plain.state_dict())
    assert fingerprint(denoiser) == fingerprint(plain)
    assert [type(module) for module in denoiser.modules()] == [type(module) for module in plain.modules()]
    assert not any(module.training for module in denoiser.modules())
    assert not any(value.requires_grad or value.grad is not None for value in denoiser.parameters())
    assert not denoiser.is_gradient_checkpointing
    strides = [(value.stride(), value.device.type, value.dtype) for value in denoiser.parameters()]
    assert strides == [(value.stride(), value.device.type, value.dtype) for value in plain.parameters()]
