"""The four commands, in order, on the embedded world."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from aifeedback_dpo import config, shapes
from aifeedback_dpo.dpo import batches
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo, ddpo_process

pytestmark = pytest.mark.slow


def test_the_loop_leaves_tables_policies_and_a_report(finished):
    run = Run(finished, config.load(finished / "recipe.yaml"))
    assert run.read("pairs").num_rows == 6 * 3
    assert {row["judge"] for row in run.rows("preferences")} == {"human", "pickscore", "random"}
    assert run.policies() == {"human": [0], "pickscore": [0], "random": [0]}
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["compared"] == ["human", "pickscore"]
    assert report["simulated"] == ["human"]
    page = (finished / "report" / "index.html").read_text()
    assert "human (simulated)" in page
    for source in re.findall(r'src="([^"]+)"', page):
        assert (finished / "report" / source).exists()
    assert not re.search(r"""(?:(?:src|href)=["']?|url\()(?:https?:)?//""", page)  # nothing comes from anywhere else


def test_every_stage_is_in_the_manifest_with_versions_and_revisions(finished):
    made_by = json.loads((finished / "manifest.json").read_text())["made_by"]
    assert set(made_by) >= {"generate", "label/pickscore", "label/human", "train/human/seed-0", "compare"}
    assert all(entry["status"] == "done" for entry in made_by.values())
    assert made_by["generate"]["versions"]["torch"]
    assert {name: len(revision) for name, revision in made_by["generate"]["models"].items()} == {"shapes": 32}


def test_running_a_finished_stage_again_changes_nothing(copied):
    before = {path: path.read_bytes() for path in copied.rglob("part-*.parquet")}
    policies = {path: path.stat().st_mtime_ns for path in copied.glob("policies/*/*/policy.json")}
    for command in (("generate",), ("label",), ("train",)):
        assert ddpo(*command, run=copied).exit_code == 0
    assert {path: path.read_bytes() for path in copied.rglob("part-*.parquet")} == before
    assert {path: path.stat().st_mtime_ns for path in copied.glob("policies/*/*/policy.json")} == policies


def test_dry_runs_say_what_is_left_and_write_nothing(copied, tmp_path):
    before = sorted(path for path in copied.rglob("*"))
    for command in (("generate",), ("label",), ("train",), ("compare",)):
        assert ddpo(*command, "--dry-run", run=copied).exit_code == 0
    assert sorted(path for path in copied.rglob("*")) == before
    fresh = ddpo("generate", "--dry-run", "--json", *TINY, run=tmp_path / "new")
    assert json.loads(fresh.stdout)["images_done"] == 0
    assert not (tmp_path / "new").exists()


def test_policies_load_with_plain_diffusers_and_change_the_picture(finished):
    pipeline = StableDiffusionPipeline.from_pretrained(shapes.weights("pipeline"), safety_checker=None)
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    pipeline.load_lora_weights(finished / "policies" / "human" / "seed-0")
    assert any("lora" in name for name in pipeline.unet.state_dict())
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    changed = [name for name, value in pipeline.unet.state_dict().items() if not value.equal(before[name])]
    assert changed
    assert all("attn" in name for name in changed)


def test_the_embedded_pipeline_draws_as_plain_diffusers_loads_it():
    pipeline = StableDiffusionPipeline.from_pretrained(shapes.weights("pipeline"), safety_checker=None)
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert pipeline("a red circle", num_inference_steps=2).images[0].size == (48, 48)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_at_step_0_the_loss_is_ln_2_and_the_accuracy_one_half(copied, method):
    """In bfloat16 too, and by hand for each objective: invariant/test_first_step.py."""
    retrain(copied, "--judge", "human", f"train.method={method}")
    first, *rest = [
        json.loads(line) for line in (copied / "policies/human/seed-0/metrics.jsonl").read_text().splitlines()
    ]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert first["implicit_accuracy"] == 0.5
    assert first["margin"] == first["winner_drift"] == first["loser_drift"] == 0.0
    assert first["gradient_norm"] > 0
    assert any(row["loss"] != pytest.approx(math.log(2), abs=1e-7) for row in rest)
    assert {"learning_rate", "gradient_factor", "accuracy_by_depth"} <= set(first)
    assert len((copied / "policies/human/seed-0/speed.jsonl").read_text().splitlines()) == 1 + len(rest)


def retrain(run: Path, *arguments: str) -> None:
    """Trains on an unchanged set of labels, as if nothing had been trained before."""
    shutil.rmtree(run / "policies")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["made_by"] = {work: entry for work, entry in manifest["made_by"].items() if not work.startswith("train")}
    (run / "manifest.json").write_text(json.dumps(manifest))
    result = ddpo("train", *arguments, run=run)
    assert result.exit_code == 0, result.output


def test_a_policy_does_not_depend_on_which_were_trained_before_it(copied):
    """Trained third it is as one trained alone; LoRAs, all at once: invariant/test_engine.py."""
    retrain(copied, "train.method=full")
    third = read_weights(copied / "policies/random/seed-0")
    retrain(copied, "--judge", "random", "train.method=full")
    alone = read_weights(copied / "policies/random/seed-0")
    assert third.keys() == alone.keys()
    assert all(torch.allclose(third[name], alone[name], atol=1e-6) for name in third)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


def test_judges_meet_the_same_pairs_at_the_same_step_and_ties_are_left_out(copied):
    run = Run(copied, config.load(copied / "recipe.yaml"))
    preferences = run.rows("preferences", name="human")
    for row in preferences[::3]:
        row["p_a"] = 0.5
    ties = {row["pair_id"] for row in preferences if row["p_a"] == 0.5}
    for part in run.parts("preferences", "human"):
        part.unlink()
    run.commit("preferences", preferences, "with-ties", "human")
    retrain(copied, "--judge", "random", "--judge", "human")
    ids = [row["pair_id"] for row in run.rows("pairs")]
    met = [
        {ids[row] for row, _ in visits} for visits in batches.schedule(ids, size=4, steps=3, seed=derive(0, "train"))
    ]
    for judge, left_out in (("random", set()), ("human", ties)):
        rows = [
            json.loads(line) for line in (copied / f"policies/{judge}/seed-0/metrics.jsonl").read_text().splitlines()
        ]
        assert [row["pairs"] for row in rows] == [len(batch - left_out) for batch in met]


EACH = """
import sys
from typer.testing import CliRunner
from aifeedback_dpo.cli.app import app
for command in ("generate", "label", "train", "compare"):
    shown = CliRunner().invoke(app, [command, "--dry-run", "--run", sys.argv[-1]])
    print(command, shown.exit_code, [name for name in ("torch", "diffusers", "transformers") if name in sys.modules])
"""


def test_dry_runs_load_no_torch(finished):
    shown = ddpo_process("status", "--run", str(finished), cwd=finished, before=EACH)
    assert shown.returncode == 0, shown.stderr
    said = [f"{command} 0 []" for command in ("generate", "label", "train", "compare")]
    assert shown.stdout.splitlines()[:4] == said


def test_people_who_are_simulated_are_always_called_so(finished):
    said = ddpo("train", run=finished).stdout + "\n".join(
        json.loads((finished / "report" / "report.json").read_text())["headline"]
    )
    page = re.sub(
        r"<(title|style|script)\b.*?</\1>|<[^>]*>", " ", (finished / "report" / "index.html").read_text(), flags=re.S
    )
    for text in (said, page):
        assert "human (simulated)" in text
        assert not re.search(r"\bhuman\b(?! \(simulated\))(?! vs)", text)


def test_policies_are_compared_on_the_training_seeds_they_share(copied):
    for judge in ("pickscore", "random"):
        assert ddpo("train", "--judge", judge, "train.seeds=[0,1]", run=copied).exit_code == 0
    report = json.loads(ddpo("compare", "human", "vs", "ai", "--json", run=copied).stdout)
    seeds = {(row["policy"], row["against"]): row["seeds"] for row in report["sets"][0]["duels"]}
    assert seeds["pickscore", "base"] == [0, 1]
    assert seeds["pickscore", "human"] == [0]
    assert seeds["pickscore", "random"] == [0, 1]


def test_json_goes_to_stdout_and_parses(finished):
    assert json.loads(ddpo("status", "--json", run=finished).stdout)["rows"]["pairs"] == 18
