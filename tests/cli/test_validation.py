"""Pictures and trackers while a policy trains: what they show, and that training does not notice them."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from aifeedback_dpo import config, shapes
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.dpo import stability, tracking, validation
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models import loading
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo

pytestmark = pytest.mark.slow

SIDE, SHOWN, GAP = 48, 240, 8  # pixels of a picture, and of it in the strip: 5 x 48 is the last multiple up to 256
LEFT, TOP = 240 + 2 * GAP, 20 + 20 + 2 * GAP  # a column for prompts; a line for the title and one for steps
LORA = ("--judge", "human", "--judge", "random", "train.held_out.pairs=3", "train.learning_rate=0.02")
WAYS = {
    "lora": LORA,
    "lora, the mean kept": ("--judge", "random", "train.ema=0.5", "train.learning_rate=0.02"),
    "full": ("--judge", "human", "train.method=full", "train.learning_rate=3e-4"),
}


def trained(run: Path, *arguments: str) -> Path:
    shutil.rmtree(run / "policies", ignore_errors=True)
    result = ddpo("train", *arguments, run=run)
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def unseen_and_seen(request, finished, tmp_path_factory) -> tuple[Path, Path]:
    """The same policies trained twice: nobody looks on, and somebody looks after every second of three steps."""
    runs = [Path(shutil.copytree(finished, tmp_path_factory.mktemp("watch") / "run")) for _ in range(2)]
    states = []
    real = validation.Gallery.show

    def show(gallery, group, done):
        before = global_randomness()
        real(gallery, group, done)
        states.append(global_randomness() == before)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(validation.Gallery, "show", show)
        trained(runs[0], *request.param)
        trained(runs[1], *request.param, "train.validation.prompts=3", "train.validation.every=2")
    assert len(states) == 8 and all(states)  # both times at the start and after three steps
    return runs[0], runs[1]


def global_randomness() -> tuple[object, ...]:
    numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002 - the global state is what must not move
    return torch.get_rng_state().numpy().tobytes(), numpys, random.getstate()


def policies(run: Path) -> list[Path]:
    return sorted(run.glob("policies/*/seed-0"))


def rows(folder: Path) -> dict[int, Path]:
    return {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("validation/step-*"))}


def cells(row: Path, count: int = 3) -> list[np.ndarray]:
    sheet = np.asarray(decode_image(row.read_bytes()), np.int16)
    assert sheet.shape == (SIDE, SIDE * count, 3)
    return [sheet[:, at * SIDE : (at + 1) * SIDE] for at in range(count)]


def test_a_policy_that_was_watched_is_bit_for_bit_the_one_that_was_not(unseen_and_seen):
    unseen, seen = map(policies, unseen_and_seen)
    for one, other in zip(unseen, seen, strict=True):
        (weights,) = one.rglob("*.safetensors")
        assert (other / weights.relative_to(one)).read_bytes() == weights.read_bytes()
        assert (other / "metrics.jsonl").read_bytes() == (one / "metrics.jsonl").read_bytes()
        assert not (one / "validation").exists() and not (one / "validation.png").exists()


def test_the_strip_has_the_base_every_nth_and_the_last_step_beside_each_other(unseen_and_seen):
    for folder in policies(unseen_and_seen[1]):
        assert list(rows(folder)) == [0, 2, 3]
        sheet = np.asarray(Image.open(folder / "validation.png"))
        assert sheet.shape == (TOP + 3 * (SHOWN + GAP), LEFT + 3 * (SHOWN + GAP), 3)
        for column, row in enumerate(rows(folder).values()):
            for prompt, cell in enumerate(cells(row)):
                x, y = LEFT + column * (SHOWN + GAP), TOP + prompt * (SHOWN + GAP)
                shown = sheet[y : y + SHOWN, x : x + SHOWN]
                assert (shown == cell.repeat(5, axis=0).repeat(5, axis=1)).all()
                assert (sheet[GAP + 20 : TOP, x : x + SHOWN].min(axis=(0, 1)) < 100).all()  # the step is written above
                assert (sheet[y : y + SHOWN, :LEFT].min(axis=(0, 1)) < 100).all()  # and the prompt to the left


def test_its_pictures_are_those_that_plain_diffusers_draws_of_the_base_and_of_the_policy(unseen_and_seen):
    run = Run(unseen_and_seen[1], config.load(unseen_and_seen[1] / "recipe.yaml"))
    prompts = [row["prompt"] for row in run.rows("prompts") if row["split"] == "eval"][:3]
    for folder in policies(run.root):
        pipeline = StableDiffusionPipeline.from_pretrained(shapes.weights("pipeline"), safety_checker=None)
        before = drawn(pipeline, prompts)
        if (folder / "unet").is_dir():
            pipeline.unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        else:
            pipeline.load_lora_weights(folder)
        after = drawn(pipeline, prompts)
        for step, pictures in ((0, before), (3, after)):
            # one by one and in a batch, float32 sums may fall to either side of a rounding edge
            assert max(np.abs(a - b).max() for a, b in zip(cells(rows(folder)[step]), pictures, strict=True)) <= 1
        assert max(np.abs(a - b).max() for a, b in zip(before, after, strict=True)) > 10


def drawn(pipeline: StableDiffusionPipeline, prompts: list[str]) -> list[np.ndarray]:
    """By the settings of TINY, at the seeds of the run's seed 0."""
    pictures = []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(derive(0, "validation", prompt))
        pictures += pipeline(prompt, num_inference_steps=2, guidance_scale=1.0, generator=generator).images
    return [np.asarray(picture, np.int16) for picture in pictures]


RESUMED = (
    *("--judge", "human", "--judge", "random", "train.steps=4", "train.checkpoint_steps=2"),
    *("train.validation.prompts=2", "train.validation.every=2"),
)


@pytest.fixture(scope="module")
def straight(finished, tmp_path_factory) -> Path:
    return trained(Path(shutil.copytree(finished, tmp_path_factory.mktemp("straight") / "run")), *RESUMED)


@pytest.mark.parametrize(
    ("stopped_at", "there"),
    [("human/seed-0/validation/step-000002", [0]), ("random/seed-0/validation/step-000004", [0, 2])],
)
def test_stopped_while_it_drew_and_resumed_a_training_has_the_strip_of_a_straight_one(
    copied, straight, monkeypatch, stopped_at, there
):
    """First between the checkpoint of step 2 and its pictures; then when one of two policies has those of the last step."""
    real = Path.replace

    def replace(path, target):
        if str(target).endswith(f"{stopped_at}.webp"):
            raise KeyboardInterrupt
        return real(path, target)

    shutil.rmtree(copied / "policies")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        assert ddpo("train", *RESUMED, run=copied).exit_code == 130
    assert list(rows(copied / "policies/random/seed-0")) == there
    (copied / "policies/human/seed-0/validation/step-000003.webp").write_bytes(b"of a training that did other steps")
    assert ddpo("train", *RESUMED, run=copied).exit_code == 0
    for one, other in zip(policies(straight), policies(copied), strict=True):
        assert list(rows(other)) == [0, 2, 4]
        for path in (one / "validation.png", *rows(one).values()):
            assert (other / path.relative_to(one)).read_bytes() == path.read_bytes()


def test_a_policy_that_ends_early_is_drawn_where_it_ended(copied, monkeypatch):
    monkeypatch.setattr(stability, "WINDOW", 2)  # steps over which a drift is measured
    how = ("train.steps=6", "train.guard.winner_drift=1e-6", "train.validation.prompts=1", "train.validation.every=50")
    trained(copied, *WAYS["full"], *how)
    policy = json.loads((copied / "policies/human/seed-0/policy.json").read_text())
    assert policy["ended_early"] and policy["steps"] < 6
    assert list(rows(copied / "policies/human/seed-0")) == [0, policy["steps"]]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_after_drawing_what_trains_is_on_the_device_and_nothing_else(copied, monkeypatch, method):
    """`cpu:0` plays the device and `cpu` main memory: where each component was last told to be."""
    told, seen = {}, []
    load, to, show = loading.load, torch.nn.Module.to, validation.Gallery.show

    def on_a_device(settings):
        model = load(settings)
        model.device = torch.device("cpu:0")
        return model

    def moved(module, *where, **options):
        if where and not isinstance(where[0], torch.dtype):
            told[id(module)] = str(where[0])
        return to(module, *where, **options)

    def shown(gallery, group, done):
        network, pipeline = group.network, gallery.model.pipeline
        before = [(value.requires_grad, value.grad) for value in network.bare.parameters()]
        show(gallery, group, done)
        assert before == [(value.requires_grad, value.grad) for value in network.bare.parameters()]
        assert not any(module.training for module in pipeline.vae.modules())
        assert pipeline.unet is network.bare
        seen.append([told[id(part)] for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)])
        assert network.original is network.bare or told[id(network.original)] == "cpu"

    monkeypatch.setattr(loading, "load", on_a_device)
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    monkeypatch.setattr(validation.Gallery, "show", shown)
    trained(copied, "--judge", "human", f"train.method={method}", "train.steps=1", "train.validation.prompts=1")
    assert seen == [["cpu:0", "cpu", "cpu"]] * 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_weights_in_float32_draw_in_a_pipeline_of_bfloat16(lowered, precision):
    arguments = ("--judge", "random", "train.method=full", "train.learning_rate=3e-4", f"train.precision={precision}")
    trained(lowered, *arguments, "train.validation.prompts=2")
    (folder,) = policies(lowered)
    prompts = [row["prompt"] for row in Run(lowered, config.load(lowered / "recipe.yaml")).rows("prompts")][:2]
    pipeline = StableDiffusionPipeline.from_pretrained(
        shapes.weights("pipeline"), safety_checker=None, dtype=torch.bfloat16
    )
    pipeline.unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.bfloat16)
    for ours, theirs in zip(cells(rows(folder)[3], 2), drawn(pipeline, prompts), strict=True):
        assert np.abs(ours - theirs).mean() < 2  # weights rounded at each call, and once: 8 bits of 256 levels


@pytest.fixture(scope="module")
def lowered(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("lowered") / "run"
    few = ("prompts.train=2", "generate.candidates=2", "model.dtype=bfloat16", "train.method=full")
    for command in (("generate", *TINY, *few), ("label", "--scorer", "random")):
        result = ddpo(*command, run=run)
        assert result.exit_code == 0, result.output
    return run


def test_more_prompts_than_are_held_out_are_refused():
    with pytest.raises(
        UserError, match=r"train\.validation\.prompts=161.*prompts\.eval is 160; take at most that many"
    ):
        config.load("shapes", ["train.validation.prompts=161"])


def test_a_row_too_wide_for_a_webp_goes_on_below_and_is_cut_up_again(monkeypatch):
    monkeypatch.setattr(validation, "WEBP_SIDE", 100)  # two pictures of 48 pixels
    pictures = [Image.new("RGB", (48, 32), (shade, 0, 0)) for shade in (10, 20, 30)]
    sheet = validation._side_by_side(pictures)
    assert sheet.size == (96, 64)
    assert [picture.getpixel((47, 31))[0] for picture in validation._cut(sheet, (48, 32), 3)] == [10, 20, 30]


def test_a_long_prompt_stays_in_its_column_and_says_that_it_was_cut():
    font = validation._font()
    for text in ("WWWW " * 60, "W" * 300, "a watercolour of a lighthouse at dusk, " * 20, "a red circle"):
        shown = validation._wrapped(text, font, 4).splitlines()
        assert len(shown) <= 4
        assert all(font.getlength(line) <= 240 for line in shown)
        assert shown[-1].endswith("…") == (len(text) > 20)


# -- trackers --------------------------------------------------------------------------------------------------------


def test_tensorboard_is_told_what_metrics_jsonl_says_and_shown_the_pictures(copied):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(copied, *LORA, "train.trackers=[tensorboard]", "train.validation.prompts=1", "train.validation.every=2")
    told = EventAccumulator(str(copied / "trackers" / "shapes")).Reload()
    for folder, name in zip(policies(copied), ("human (simulated), seed 0", "random, seed 0"), strict=True):
        written = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for key in ("loss", "winner_drift", "gradient_norm", "held_out_accuracy"):
            expected = [(row["step"], np.float32(row[key])) for row in written if key in row]
            assert [(event.step, event.value) for event in told.Scalars(f"{name}/{key}")] == expected
        shallow = [(row["step"], row["accuracy_by_depth"][0]) for row in written if row["pairs_by_depth"][0]]
        assert [(event.step, event.value) for event in told.Scalars(f"{name}/accuracy_by_depth_1")] == shallow
        assert [event.step for event in told.Images(f"{name}/validation")] == [0, 2, 3]
    assert not any("pairs" in tag for tag in told.Tags()["scalars"])


def test_without_a_tracker_nothing_is_left_for_one(finished):
    assert not (finished / "trackers").exists()


def test_a_tracker_that_is_not_there_or_will_not_start_is_one_line(copied, monkeypatch):
    shutil.rmtree(copied / "policies")

    def refuse(*arguments, **options):
        raise RuntimeError("No API key configured.\nUse `login`")

    monkeypatch.setattr(Accelerator, "init_trackers", refuse)
    result = ddpo("train", "train.trackers=[tensorboard]", run=copied)
    assert result.exit_code == 2
    assert "tensorboard cannot be started (No API key configured. Use `login`); log in" in result.stderr
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    result = ddpo("train", "train.trackers=[wandb]", run=copied)
    assert result.exit_code == 2
    assert 'wandb is not installed; pip install "aifeedback_dpo[wandb]", or leave it out' in result.stderr
    assert not (copied / "policies").exists()
