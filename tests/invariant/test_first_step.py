"""Where every trajectory starts, by hand; and that training leaves the reference and the model as they were."""

import math

import pytest

from aifeedback_dpo import models
from aifeedback_dpo.dpo import losses
from aifeedback_dpo.opening import open_run
from tests import labelled
from tests.conftest import ddpo
from tests.labelled import FULL, JUDGES, fingerprint, metrics, weights

pytestmark = pytest.mark.slow

LN_2 = math.log(2)
AI = ("--judge", "ai")

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
def test_soft_labels_smoothing_and_the_safeguard_start_as_dpo_and_go_their_own_way(copy, trained, settings):
    run = copy()
    labelled.train(run, *AI, *(f"train.{setting}" for setting in settings))
    ours, plain = metrics(run, "pickscore"), metrics(trained, "pickscore")
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
@pytest.mark.parametrize("way", ["lora", "lora in micro-batches", "full", "full of a bfloat16 model"])
def test_at_step_0_the_loss_is_ln_2_and_the_accuracy_one_half(copy, base, tmp_path, way, precision):
    """Of judges with ties too, who share a reference pass in which those ties are."""
    run = copy()
    if "bfloat16 model" in way:
        model = (f"model.id={base.parent / 'model'}", "model.dtype=bfloat16")
        run = labelled.write(tmp_path / "half", *model, "train.method=full")
    how = FULL if "full" in way else ("train.micro_batch_size=2",) if "micro" in way else ()
    labelled.train(run, *how, f"train.precision={precision}", "train.steps=1")
    for judge in ("human",) if "full" in way else JUDGES:
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
