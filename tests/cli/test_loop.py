"""The four commands, in order, on the embedded world."""

import json
import math
import re
import shutil

import pytest
from diffusers import StableDiffusionPipeline

from aifeedback_dpo import config, shapes
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo

pytestmark = pytest.mark.slow


def test_the_loop_leaves_tables_policies_and_a_report(finished):
    run = Run(finished, config.load(finished / "recipe.yaml"))
    assert run.read("pairs").num_rows == 6 * 3
    assert {row["judge"] for row in run.rows("preferences")} == {"human", "pickscore", "random"}
    assert run.policies() == {"human": [0], "pickscore": [0], "random": [0]}
    report = json.loads((finished / "report" / "report.json").read_text())
    assert report["judges"] == ["human", "pickscore"]
    assert report["simulated"] == ["human"]
    page = (finished / "report" / "index.html").read_text()
    assert "human (simulated)" in page
    for source in re.findall(r'src="([^"]+)"', page):
        assert (finished / "report" / source).exists()
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "https://matplotlib.org", ""
    )


def test_every_stage_is_in_the_manifest_with_versions_and_revisions(finished):
    made_by = json.loads((finished / "manifest.json").read_text())["made_by"]
    assert set(made_by) >= {"generate", "label/pickscore", "label/human", "train/human/seed-0", "compare"}
    assert all(entry["status"] == "done" for entry in made_by.values())
    assert made_by["generate"]["versions"]["torch"]
    assert len(made_by["generate"]["revision"]) == 32


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_at_step_0_the_loss_is_ln_2_and_the_accuracy_one_half(copied, precision, method):
    for path in copied.glob("policies/*/*"):
        shutil.rmtree(path)
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["made_by"] = {work: entry for work, entry in manifest["made_by"].items() if not work.startswith("train")}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    result = ddpo("train", "--judge", "human", f"train.precision={precision}", f"train.method={method}", run=copied)
    assert result.exit_code == 0, result.output
    first, *rest = [
        json.loads(line) for line in (copied / "policies/human/seed-0/metrics.jsonl").read_text().splitlines()
    ]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert first["implicit_accuracy"] == 0.5
    assert first["margin"] == first["winner_drift"] == first["loser_drift"] == 0.0
    assert first["gradient_norm"] > 0
    assert any(row["loss"] != pytest.approx(math.log(2), abs=1e-7) for row in rest)
    assert {"learning_rate", "pairs_per_second"} <= set(first)


def test_json_goes_to_stdout_and_parses(finished):
    assert json.loads(ddpo("status", "--json", run=finished).stdout)["rows"]["pairs"] == 18
