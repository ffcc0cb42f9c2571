"""The four commands, and the three ways of training, on tiny random pipelines of each family."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aifeedback_dpo import config, models
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.dpo import checkpoint, outcome
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.store import Run
from tests import tiny
from tests.conftest import ddpo

pytestmark = pytest.mark.slow

SMALL = (
    "prompts.train=4",
    "prompts.eval=3",
    "generate.candidates=2",
    "generate.pairs=1",
    "generate.steps=2",
    "generate.guidance=2",
    "generate.width=32",
    "generate.height=32",
    "label.raters=null",
    "train.judges=[ai,random]",
    "train.steps=4",
    "train.batch_size=3",
    "train.rank=2",
    "train.learning_rate=0.01",
    "train.checkpoint_steps=2",
    "train.caption_dropout=0.3",
    "compare.resamples=50",
)
FLOW = ("train.timesteps=logit_normal", "train.shift=model", "train.weighting=eps_equivalent")


def good(*command: str, run: Path) -> str:
    result = ddpo(*command, run=run)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Callable[[str], str]:
    """The folder of a family's model, written once."""
    root = tmp_path_factory.mktemp("models")
    return functools.cache(lambda family: str(tiny.write(family, root / family)))


@pytest.fixture(scope="module")
def labelled(model, tmp_path_factory) -> Callable[[str], Path]:
    """A run of a family, drawn and labelled once. Tests copy it before they train."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def made(family: str) -> Path:
        flow = FLOW if family in ("sd3", "flux") else ()
        good("generate", "--model", model(family), *SMALL, *flow, run=root / family)
        good("label", run=root / family)
        return root / family

    return made


@pytest.fixture
def copy(labelled, tmp_path):
    return lambda family: Path(
        shutil.copytree(labelled(family), tmp_path / f"{family}-{len(list(tmp_path.iterdir()))}")
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "policies" / "pickscore" / "seed-0"
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


def rows(run: Path) -> list[dict[str, float]]:
    log = run / "policies" / "pickscore" / "seed-0" / "metrics.jsonl"
    return [
        {k: v for k, v in json.loads(line).items() if k != "pairs_per_second"} for line in log.read_text().splitlines()
    ]


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_the_whole_loop_runs(family, copy):
    run = copy(family)
    good("train", run=run)
    good("compare", "ai", "vs", "random", run=run)
    report = json.loads((run / "report" / "report.json").read_text())
    assert {row["policy"] for row in report["policies"]} == {"base", "pickscore", "random"}
    assert all(0 <= row["win_rate"]["value"] <= 1 for row in report["sets"][0]["duels"])
    assert (run / "report" / "index.html").exists()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_plain_diffusers_reads_the_lora_that_was_trained(family, copy):
    run = copy(family)
    good("train", "--judge", "ai", run=run)
    first = rows(run)[0]
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4)  # the adapter starts as the identity
    model = models.load(open_run(run, None).recipe.model)
    prompts, seed = model.encode_prompts(["a red circle"]), torch.Generator().manual_seed(0)
    channels = 4 if family in ("sd", "sdxl") else 16
    noisy, times = torch.randn(1, channels, 16, 16, generator=seed), torch.tensor([300.0 if channels == 4 else 0.3])
    conditions = prompts | {"sizes": torch.tensor([[32, 32, 0, 0, 32, 32]])}

    def predict():
        with torch.no_grad():
            return model.family.predict(model.denoiser, noisy, times, conditions, guidance=3.5)

    before = predict()
    model.pipeline.load_lora_weights(run / "policies" / "pickscore" / "seed-0")
    ours = {name: value for name, value in weights(run).items() if "lora_B" in name or "lora.up" in name}
    assert ours and any(value.any() for value in ours.values())
    assert not torch.allclose(predict(), before, atol=1e-6)
    model.pipeline.fuse_lora()
    model.pipeline.unload_lora_weights()
    by_hand = models.load(open_run(run, None).recipe.model)
    for name, value in weights(run).items():  # W + B A, with rank = alpha
        if "lora_A" in name:
            module = by_hand.denoiser.get_submodule(name.split(".", 1)[1].removesuffix(".lora_A.weight"))
            module.weight.data += weights(run)[name.replace("lora_A", "lora_B")] @ value
    with torch.no_grad():
        expected = by_hand.family.predict(by_hand.denoiser, noisy, times, conditions, guidance=3.5)
    assert torch.allclose(predict(), expected, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_full_training_starts_at_log_2_and_saves_a_denoiser_that_draws(family, copy):
    run = copy(family)
    good("train", "--judge", "ai", "train.method=full", "train.gradient_checkpointing=true", run=run)
    assert rows(run)[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    recipe = open_run(run, None).recipe
    model = models.load(recipe.model)
    shot = {"steps": 2, "guidance": 2.0, "width": 32, "height": 32}
    base = np.asarray(model.sample(["a red circle"], [0], **shot)[0])
    with model.policy(run / "policies" / "pickscore" / "seed-0"):
        tuned = np.asarray(model.sample(["a red circle"], [0], **shot)[0])
    assert (tuned != base).any()
    assert (np.asarray(model.sample(["a red circle"], [0], **shot)[0]) == base).all()


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_a_run_that_was_stopped_ends_as_a_straight_one_bit_for_bit(family, copy, monkeypatch):
    """Those of sd are stopped at every step, in invariant/test_stopped_training.py."""
    straight, stopped = copy(family), copy(family)
    command = ("train", "--judge", "ai", "train.schedule=cosine")
    good(*command, run=straight)
    save = checkpoint.save

    def save_and_stop(*arguments, **settings):
        save(*arguments, **settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    assert ddpo(*command, run=stopped).exit_code == 130
    monkeypatch.undo()
    assert "going on after step 2" in good(*command, run=stopped)
    assert rows(stopped) == rows(straight)
    ours, theirs = weights(stopped), weights(straight)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list((stopped / "policies").rglob("step-*.pt"))


def test_a_stop_after_the_last_step_goes_on_from_the_last_checkpoint(copy, monkeypatch):
    run = copy("sd")
    monkeypatch.setattr(outcome, "sync", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    assert ddpo("train", "--judge", "ai", run=run).exit_code == 130
    monkeypatch.undo()
    assert "going on after step 2" in good("train", "--judge", "ai", run=run)
    assert not list((run / "policies").rglob("step-*.pt"))


def test_a_pool_deals_candidates_over_its_models_and_trains_the_first(model, tmp_path):
    sd, sdxl = model("sd"), model("sdxl")
    run = tmp_path / "pool"
    settings = [item for item in SMALL if "candidates" not in item]
    good("generate", "--model", sd, "--model", sdxl, *settings, "generate.candidates=4", run=run)
    opened = open_run(run, None)
    drawn = [(row["prompt_id"], row["model"]) for row in opened.rows("images", ["prompt_id", "model"])]
    assert len(drawn) == 16
    assert all(drawn.count((prompt, model)) == 2 for prompt, model in drawn)
    assert {model for _, model in drawn} == {sd, sdxl}
    assert opened.recipe.model.id == sd
    assert "16 images" in good("generate", run=run)  # nothing is drawn again


def test_pictures_of_several_sizes_need_a_resolution(model, tmp_path):
    sd = model("sd")
    run = tmp_path / "sizes"
    pool = [{"id": sd, "width": 32}, {"id": sd, "width": 48, "height": 40}]
    good("generate", "--model", sd, *SMALL, f"generate.pool={json.dumps(pool)}", run=run)
    assert picture_sizes(open_run(run, None)) == {(32, 32), (48, 40)}
    good("label", run=run)
    result = ddpo("train", "--judge", "ai", run=run)
    assert result.exit_code == 2
    assert "32x32, 48x40" in result.output and "train.resolution=32" in result.output
    good("train", "--judge", "ai", "train.resolution=32", run=run)


def picture_sizes(run: Run) -> set[tuple[int, int]]:
    wanted = {row["image_id"] for row in run.rows("images", ["image_id"])}
    return {decode_image(data).size for _, data in run.images(wanted)}


def test_settings_of_flow_models_are_refused_for_others(copy):
    result = ddpo("train", "--judge", "ai", "train.timesteps=logit_normal", run=copy("sdxl"))
    assert result.exit_code == 2
    assert "flow models" in result.output


def test_bfloat16_trains_a_lora_with_float32_weights(model, tmp_path):
    run = tmp_path / "half"
    half = ("model.dtype=bfloat16", "train.precision=bfloat16", "train.optimizer=adafactor")
    good("generate", "--model", model("sdxl"), *SMALL, *half, run=run)
    good("label", run=run)
    good("train", "--judge", "ai", run=run)
    assert {value.dtype for value in weights(run).values()} == {torch.float32}
    assert rows(run)[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_model_settings_of_a_pool_are_its_own():
    recipe = config.load("shapes", ["generate.pool=[{id: a, steps: 4, guidance: 0}]", "generate.steps=30"])
    assert (recipe.generate.pool[0].steps, recipe.generate.pool[0].guidance, recipe.generate.steps) == (4, 0, 30)
