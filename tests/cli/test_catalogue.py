"""`ddpo scorers` and `ddpo scorers check`."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from aifeedback_dpo.cli.app import app
from aifeedback_dpo.scorers import aesthetic, drift, golden, presence
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import ScorerWeights
from tests.conftest import ddpo_process

HEAD = Path(__file__).parents[3] / "shared/data/laion/sac+logos+ava1-l14-linearMSE.pth"
RECIPE = "extends: shapes\nname: mine\nlabel: {{scorers: {{{scorers}}}}}\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def scorers(*arguments: str):
    return CliRunner().invoke(app, ["scorers", *arguments])


def recipe(scorers: str) -> str:
    """The path of a recipe with these scorers beside the embedded ones."""
    Path("mine.yaml").write_text(RECIPE.format(scorers=scorers))
    return "mine.yaml"


def test_the_list_has_every_scorer_with_weights_licence_and_where_it_stands():
    listed = json.loads(scorers("--json").stdout)
    assert set(listed) == set(CATALOGUE)
    assert listed["aesthetic"]["base"] == "openai/clip-vit-large-patch14"
    assert listed["hpsv2.1"]["file"] == "HPS_v2.1_compressed.pt"
    assert not listed["hpsv2.1"]["here"]
    assert listed["hpsv2.1"]["to_get"] == ["hf download xswu/HPSv2 HPS_v2.1_compressed.pt"]
    assert listed["clip-h"]["to_get"] == [
        "hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K open_clip_model.safetensors"
    ]
    assert listed["jpeg"]["here"]
    assert [name for name in listed if listed[name]["embedded"]] == ["pickscore", "clip", "aesthetic"]
    assert [name for name in listed if listed[name]["defines_preference"]] == [
        *("pickscore", "hpsv2", "hpsv2.1", "hpsv2-legacy", "hpsv2.1-legacy", "imagereward", "vlm")
    ]
    assert all(row["licence"] and row["about"] and row["range"] and row["size"] for row in listed.values())


def test_piped_it_is_a_line_a_scorer():
    """With tabs between, and told apart by their files: four scorers come from one repository."""
    header, *lines = (line.split("\t") for line in scorers().stdout.splitlines())
    assert header[:4] == ["scorer", "state", "weights", "licence"]
    assert {len(line) for line in lines} == {len(header)}
    listed = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert list(listed) == list(CATALOGUE)
    assert listed["pickscore"]["accuracy"].startswith("64.2 %")
    assert listed["hpsv2.1"]["weights"] == "xswu/HPSv2, HPS_v2.1_compressed.pt"
    assert listed["aesthetic"]["weights"].endswith("on openai/clip-vit-large-patch14")


def test_the_list_loads_no_torch(tmp_path):
    heavy = "[name for name in ('torch', 'open_clip') if name in sys.modules]"
    told = f"import atexit, sys\natexit.register(lambda: print('LOADED', {heavy}))"
    shown = ddpo_process("scorers", cwd=tmp_path, before=told)
    assert shown.returncode == 0, shown.stderr
    assert "LOADED []" in shown.stdout


def test_where_open_clip_keeps_its_weights_is_what_open_clip_says():
    import open_clip

    for name, repository in presence.OPEN_CLIP.items():
        published = open_clip.get_pretrained_cfg(*name.removeprefix("open_clip:").split("/"))
        assert published["hf_hub"].strip("/") == repository
    assert {entry.weights.id for entry in CATALOGUE.values() if entry.weights.id.startswith("open_clip:")} <= set(
        presence.OPEN_CLIP
    )


def test_what_only_open_clip_can_tell_is_not_made_into_a_command(tmp_path):
    other = ScorerWeights(id="open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert presence.missing("clip", other) == ["open_clip:ViT-B-32/laion2b_s34b_b79k is fetched when it is first used"]
    own = other.model_copy(update={"id": "open_clip:ViT-B-32-gelu", "file": str(tmp_path / "own.pt")})
    assert presence.missing("clip", own) == [f"there is no file {tmp_path}/own.pt for open_clip:ViT-B-32-gelu"]
    (tmp_path / "own.pt").touch()
    assert presence.missing("clip", own) == []


def test_the_ids_of_a_prompt_end_with_the_end_token_and_keep_a_zero_before_it():
    assert golden.tokens()["a cat !="] == [49406, 320, 2368, 0, 284, 49407]  # start, a, cat, !, =, end


def test_the_embedded_scorers_compute_what_they_did():
    for name in golden.EMBEDDED:
        result = scorers("check", name, "--recipe", "shapes")
        assert result.exit_code == 0, result.output
        assert "scores: golden.json" in result.stdout
        assert "DRIFT" not in result.stdout


def test_without_weights_what_needs_none_is_checked_all_the_same():
    result = scorers("check", "hpsv2.1")
    assert result.exit_code == 4
    assert result.stdout.count("pixels as HPS sees them") == 3
    assert result.stdout.count("tokens of CLIP") == 5
    assert result.stderr.count("\n") == 1
    assert "hf download xswu/HPSv2 HPS_v2.1_compressed.pt" in result.stderr


def test_a_scorer_nobody_knows_is_refused():
    result = scorers("check", "jpg")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "did you mean 'jpeg'?" in result.stderr


@pytest.mark.parametrize("piece", ["pixels", "tokens", "scores"])
def test_what_drifted_is_named_with_exit_code_3(monkeypatch, piece):
    real = getattr(golden, piece)

    def drifted(*arguments):
        found = real(*arguments)
        if piece == "scores":
            return [found[0] + 1e-3, *found[1:]]
        first = next(iter(found))
        return {**found, first: [found[first][0] + (1 if piece == "tokens" else 1e-3), *found[first][1:]]}

    monkeypatch.setattr(golden, piece, drifted)
    result = scorers("check", "clip", "--recipe", "shapes")
    assert result.exit_code == 3, result.output
    assert result.stdout.count("DRIFT") == 1
    assert f"ddpo: clip does not compute what it did: {piece}" in result.stderr


def test_weights_nobody_published_numbers_for_are_recorded_once_and_compared_later(monkeypatch):
    Path("drift_own.py").write_text(
        "class Size:\n    def score(self, images, prompts): return [image.width for image in images]"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    recipe("own: {id: none, uses: 'drift_own:Size'}")
    first = json.loads(scorers("check", "own", "--recipe", "mine.yaml", "--json").stdout)
    assert [line["difference"] for line in first["checks"]] == [None]
    assert "written down in" in first["checks"][0]["reference"]
    (record,) = drift.folder().glob("own-*.json")
    assert record.is_relative_to(Path("cache").absolute())
    again = scorers("check", "own", "--recipe", "mine.yaml")
    assert again.exit_code == 0
    assert "this machine's own of" in again.stdout
    monkeypatch.setattr(golden, "scores", lambda scorer: [0.0] * 15)
    assert scorers("check", "own", "--recipe", "mine.yaml").exit_code == 3
    record.write_text("{")
    broken = scorers("check", "own", "--recipe", "mine.yaml")
    assert (broken.exit_code, broken.stderr.count("\n")) == (3, 1)
    assert "is no record of scores" in broken.stderr


def test_the_published_aesthetic_head_is_checked_without_its_clip(tmp_path):
    if not HEAD.is_file():
        pytest.skip("the published LAION head is not on this machine")
    weights = f"aesthetic: {{id: '{HEAD}', base: {{id: {tmp_path}/absent}}}}"
    result = scorers("check", "aesthetic", "--recipe", recipe(weights))
    assert "head, LAION V2: golden.json" in result.stdout
    assert "DRIFT" not in result.stdout
    assert result.exit_code == 4  # its CLIP is not here


def test_a_head_that_is_not_the_published_one_has_no_golden_numbers(tmp_path):
    torch.save({"weight": torch.ones(1, 768), "bias": torch.zeros(1)}, tmp_path / "own.pth")
    weights = ScorerWeights(id=str(tmp_path / "own.pth"), base={"id": str(tmp_path / "absent")})
    lines, missing = drift.check("aesthetic", weights)
    assert not [line for line in lines if line.what.startswith("head")]
    assert missing


def test_the_fixed_vectors_have_unit_length_and_a_head_is_their_dot_product():
    rows = golden.vectors(8)
    assert torch.allclose(rows.norm(dim=1), torch.ones(4))
    layers = [(torch.eye(8)[:1] * 2, torch.ones(1))]
    assert golden.head(layers) == pytest.approx((2 * rows[:, 0] + 1).tolist())
    assert aesthetic.rate(layers, rows).shape == (4,)


def test_a_difference_is_measured_against_the_size_of_the_value():
    assert drift.compare("x", [20.001], [20.0]).holds  # 1e-3 of 20, allowed 2e-3
    assert not drift.compare("x", [0.001], [0.0]).holds
    assert drift.compare("x", [math.nan], [math.nan]).holds
    assert not drift.compare("x", [math.nan], [0.0]).holds
    assert not drift.compare("x", [1.0], [1.0, 2.0]).holds


def test_the_fixed_pictures_are_integers_of_the_position():
    wide = np.asarray(golden.pictures()["wide"])
    assert wide.shape == (200, 320, 3)
    assert wide[5, 20].tolist() == [(7 * 20 + 13 * 5) % 256, 100, 255 * ((1 + 0) % 2)]
