"""Bad input: one clear line, the right exit code, and nothing lost."""

import errno
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import Result

from aifeedback_dpo import config, shapes
from aifeedback_dpo.provenance import weights_fingerprint
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo, ddpo_process

pytestmark = pytest.mark.slow


def refused(result, code: int, *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    left_with = result.exit_code if isinstance(result, Result) else result.returncode
    assert left_with == code, result.stderr
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


def test_training_without_preferences_says_what_to_run_first(tmp_path):
    run = tmp_path / "run"
    for command in ("train", "label"):
        refused(ddpo(command, run=run), 2, "no pairs yet", "ddpo generate")
    refused(ddpo("compare", "human", "vs", "ai", run=run), 2, "has no prompts yet", "ddpo generate")
    assert not run.exists()
    assert ddpo("generate", *TINY, run=run).exit_code == 0
    refused(ddpo("train", run=run), 2, "no preferences of judge 'human'", "ddpo label")


def test_a_mistyped_scorer_names_the_nearest(copied):
    before = sorted(path for path in copied.rglob("*"))
    refused(ddpo("label", "--scorer", "pickscor", run=copied), 2, "no scorer 'pickscor', did you mean 'pickscore'?")
    assert sorted(path for path in copied.rglob("*")) == before


def test_a_recipe_with_a_typo_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: shapes\nname: mine\ntrain: {learning_rat: 1e-5}\n")
    result = ddpo("generate", "--recipe", str(path), run=tmp_path / "run")
    refused(result, 2, "unknown key 'train.learning_rat', did you mean 'train.learning_rate'?")


def test_a_run_made_by_another_recipe_is_refused(copied):
    refused(ddpo("generate", "seed=5", run=copied), 2, "seed: 0 in the run, 5 asked for", "another --run")


@pytest.mark.parametrize(("table", "stage"), [("images", "label"), ("pairs", "train"), ("preferences", "train")])
def test_a_corrupted_part_is_named_and_can_be_made_again(copied, table, stage):
    part = sorted((copied / table).rglob("part-*.parquet"))[0]
    good = part.read_bytes()
    part.write_bytes(good[: len(good) // 2])
    if stage == "train":
        shutil.rmtree(copied / "policies")
    refused(ddpo(stage, run=copied), 3, part.name, "is corrupted", "Delete it and run")
    part.unlink()
    for command in ("generate", "label"):
        assert ddpo(command, run=copied).exit_code == 0
    assert part.read_bytes() == good


def test_a_broken_picture_is_reported_by_id_and_left_unscored(copied):
    run = Run(copied, config.load(copied / "recipe.yaml"))
    part = run.parts("images", "base")[0]
    rows = pq.read_table(part).to_pylist()
    rows[0]["image"]["bytes"] = b"no picture"
    part.unlink()
    run.commit("images", rows, part.stem.removeprefix("part-"), "base")
    shutil.rmtree(copied / "scores")
    assert any(rows[0]["image_id"] in (pair["image_a"], pair["image_b"]) for pair in run.rows("pairs"))
    refused(ddpo("label", run=copied), 3, "1 images cannot be read", rows[0]["image_id"])
    assert rows[0]["image_id"] not in run.done("scores", "pickscore")
    judged = {pair[side] for pair in run.rows("pairs") for side in ("image_a", "image_b")}
    assert run.done("scores", "pickscore") == judged - {rows[0]["image_id"]}
    lost = [pair for pair in run.rows("pairs") if rows[0]["image_id"] in (pair["image_a"], pair["image_b"])]
    for judge in ("pickscore", "human", "random"):
        assert len(run.rows("preferences", name=judge)) == 18 - len(lost)


def test_comparing_takes_different_policies_that_were_trained(copied):
    refused(ddpo("compare", "ai", "pickscore", run=copied), 2, "are one policy")
    refused(ddpo("compare", "human", "vs", "clip", run=copied), 2, "'clip'", "ddpo train --judge clip")


@pytest.mark.parametrize(
    ("stage", "at", "makes"),
    [
        ("generate", 7, ("prompts", "images", "pairs")),
        ("label", 4, ("scores", "preferences", "policies")),
        ("train", 4, ("policies",)),
        ("compare", 8, ("report", "images", "scores")),
    ],
)
def test_a_full_disk_is_one_line_and_loses_nothing(finished, copied, monkeypatch, stage, at, makes):
    for made in makes:
        shutil.rmtree(copied / made)
    before = {path: path.read_bytes() for path in copied.rglob("part-*.parquet")}
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        refused(ddpo(stage, run=copied), 1, "the disk is full", "run the same")
    assert {path: path.read_bytes() for path in before} == before
    assert not list(copied.rglob("*.tmp"))
    assert ddpo(stage, run=copied).exit_code == 0
    straight = {path.relative_to(finished): path.read_bytes() for path in finished.rglob("part-*.parquet")}
    assert all(straight[path.relative_to(copied)] == path.read_bytes() for path in copied.rglob("part-*.parquet"))


def test_a_model_folder_that_lacks_what_is_needed_is_exit_code_4_and_one_that_lacks_more_loads(tmp_path):
    folder = Path(shutil.copytree(shapes.weights("pipeline"), tmp_path / "model"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(
        ddpo("generate", f"model.id={folder}", *TINY, run=tmp_path / "run"),
        4,
        "does not hold a StableDiffusionPipeline",
    )
    index = Path(shutil.copytree(shapes.weights("pipeline"), tmp_path / "published")) / "model_index.json"
    listed = json.loads(index.read_text())  # as published: parts that are neither downloaded nor needed
    listed |= {
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    index.write_text(json.dumps(listed))
    assert ddpo("generate", f"model.id={index.parent}", *TINY, run=tmp_path / "third").exit_code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(ddpo("generate", f"model.id={empty}", *TINY, run=tmp_path / "other"), 4, "no usable model_index.json")
    refused(ddpo("generate", f"model.id={weights}", *TINY, run=tmp_path / "other"), 4, "a single file", "diffusers")
    assert not (tmp_path / "run").exists() and not (tmp_path / "other").exists()  # which may be made by another model


def test_a_loss_that_is_not_finite_saves_no_policy(copied):
    shutil.rmtree(copied / "policies")
    refused(ddpo("train", "train.learning_rate=1e30", run=copied), 1, "the loss is nan", "train.learning_rate")
    assert not list((copied / "policies").rglob("policy.json"))
    assert ddpo("train", "--judge", "random", "train.learning_rate=1e-3", run=copied).exit_code == 0


def test_half_precision_needs_a_gpu(copied):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    shutil.rmtree(copied / "policies")
    refused(ddpo("train", "train.precision=float16", run=copied), 2, "train.precision=float16 needs a GPU")


def test_a_judge_nobody_knows_is_refused_with_the_nearest(copied):
    refused(ddpo("train", "--judge", "pickscor", run=copied), 2, "no judge 'pickscor', did you mean 'pickscore'?")
    refused(ddpo("compare", "human", "vs", "clpi", run=copied), 2, "no judge 'clpi', did you mean 'clip'?")


def test_a_prompt_file_that_changed_moves_no_held_out_prompt_into_training(tmp_path):
    prompts = tmp_path / "prompts.txt"
    lines = list(grammar.scenes())[:10]
    prompts.write_text("\n".join(lines))
    arguments = ("generate", *TINY, f"prompts.source={prompts}")
    assert ddpo(*arguments, run=tmp_path / "run").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("part-*.parquet")}
    prompts.write_text("\n".join(reversed(lines)))
    refused(ddpo(*arguments, run=tmp_path / "run"), 2, "in another split", "another --run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("part-*.parquet")} == before


def test_policies_are_not_compared_on_labels_they_were_not_trained_on(copied):
    run = Run(copied, config.load(copied / "recipe.yaml"))
    rows = run.rows("preferences", name="pickscore")
    rows[0]["p_a"] = 1 - rows[0]["p_a"]
    run.commit("preferences", rows, "current", "pickscore")
    refused(ddpo("compare", "human", "vs", "ai", run=copied), 2, "pickscore/seed-0 was trained on other labels")
    assert ddpo("compare", "human", "vs", "random", run=copied).exit_code == 0  # which it has no part in


def test_prompts_that_the_simulated_raters_cannot_judge_are_told_before_anything_is_drawn(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"a photo of {count} cats" for count in range(20)))
    refused(ddpo("generate", *TINY, f"prompts.source={prompts}", run=tmp_path / "run"), 2, "take label.raters=null")
    assert not (tmp_path / "run").exists()


def test_a_damaged_policy_is_exit_code_3(copied):
    (file,) = (copied / "policies" / "human").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:500])
    for part in (copied / "images").glob("human*/part-*.parquet"):
        part.unlink()
    refused(ddpo("compare", "human", "vs", "ai", run=copied), 3, "seed-0 has other weights", "ddpo train")
    described = copied / "policies" / "human" / "seed-0" / "policy.json"
    told = json.loads(described.read_text())
    described.write_text(
        json.dumps(told | {"weights": weights_fingerprint(described.parent)})
    )  # broken as they were saved
    refused(ddpo("compare", "human", "vs", "ai", run=copied), 3, "seed-0 is corrupted", "ddpo train")


def test_an_images_part_that_was_deleted_is_missed_before_training(copied):
    shutil.rmtree(copied / "policies")
    shutil.rmtree(copied / "cache")
    sorted((copied / "images" / "base").glob("part-*.parquet"))[0].unlink()
    refused(ddpo("train", run=copied), 3, "are not in the run", "ddpo generate")


def test_judges_without_a_training_seed_in_common_are_told_before_anything_is_drawn(copied):
    shutil.rmtree(copied / "policies" / "random")
    assert ddpo("train", "--judge", "random", "train.seeds=[1]", run=copied).exit_code == 0
    before = sorted((copied / "images").rglob("*.parquet"))
    refused(ddpo("compare", "human", "vs", "random", run=copied), 2, "no training seed in common")
    assert sorted((copied / "images").rglob("*.parquet")) == before


def test_a_setting_that_failed_may_be_corrected(copied):
    shutil.rmtree(copied / "policies")
    refused(ddpo("train", "train.modules=[foo]", run=copied), 2, "no layer named foo")
    assert ddpo("train", "--judge", "random", "train.modules=[to_q]", run=copied).exit_code == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.judges.0=x", "recipe"),
        ("train.seeds=[]", "train.seeds"),
        ("train.seeds=[1,1]", "names one twice"),
        ("train.modules=[]", "train.modules"),
        ("train.learning_rate=.inf", "train.learning_rate"),
        ("generate.width=50", "generate.width"),
        ("model.dtype=bfloat16", "model.dtype"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_once(tmp_path, override, words):
    refused(ddpo("generate", override, run=tmp_path / "run"), 2, words)
    assert not (tmp_path / "run").exists()


def test_a_hub_that_cannot_be_reached_is_exit_code_4(tmp_path):
    lost = "import os; os.environ.update(HF_HUB_OFFLINE='0', HF_ENDPOINT='http://127.0.0.1:9')"
    shown = ddpo_process("generate", "model.id=nobody/nothing", cwd=tmp_path, before=lost)
    refused(shown, 4, "nobody/nothing", "cannot be reached")


def test_a_model_that_is_not_here_is_exit_code_4(tmp_path):
    result = ddpo("generate", "model.id=nobody/nothing", *TINY, run=tmp_path / "run")
    refused(result, 4, "nobody/nothing", "hf download nobody/nothing")
    assert not (tmp_path / "run").exists()


def test_prompts_that_are_too_few_or_missing_are_told(tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("a red circle\na blue square\n")
    refused(ddpo("generate", f"prompts.source={few}", *TINY, run=tmp_path / "run"), 2, "has 2 different prompts")
    refused(ddpo("generate", "prompts.source=absent.txt", *TINY, run=tmp_path / "run"), 2, "absent.txt cannot be read")
