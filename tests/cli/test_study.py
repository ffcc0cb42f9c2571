"""`ddpo study`: a run for each image source, each judge on each, one comparison; and what a stop leaves."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aifeedback_dpo import config, study
from aifeedback_dpo.compare.prompt_sets import held_out
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run
from tests import published
from tests.conftest import TINY, ddpo, ddpo_process

SMALL = (
    *TINY,
    "prompts.train=4",
    "generate.candidates=2",
    "train.steps=2",
    "train.batch_size=2",
    "train.seeds=[0,1]",
    "compare.resamples=20",
    "compare.spread_prompts=0",
)


def run_study(root: Path, *arguments: str) -> Result:
    return ddpo("study", *SMALL, *arguments, run=root)


def parts(root: Path) -> dict[str, bytes]:
    """Every table and every policy of a study."""
    found = [*root.rglob("part-*.parquet"), *root.glob("*/policies/*/*/*.safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture
def uncompared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study ends without its comparison, for speed."""
    told = {"headline": [], "cautions": []}
    monkeypatch.setattr("aifeedback_dpo.compare.run.compare", lambda *given, **named: told)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study") / "whole"
    result = run_study(root)
    assert result.exit_code == 0, result.output
    return root


@pytest.mark.slow
def test_one_command_ends_in_a_report_of_the_whole_grid(done):
    report = json.loads((done / "report" / "report.json").read_text())
    assert [row["policy"] for row in report["policies"]] == [
        "base",
        *("human", "pickscore", "random", "human+sft", "random+sft"),
        *("other/human", "other/pickscore", "other/random", "other/human+sft", "other/random+sft"),
    ]
    assert all(row["seeds"] == [0, 1] for row in report["policies"][1:])
    grid = report["sets"][0]["factors"]
    assert (grid["labels"], grid["images"]) == (["human", "pickscore"], ["own", "other"])
    assert any(sentence.startswith("Labels or pictures") for sentence in report["headline"])
    assert (done / "report" / "index.html").exists()
    made = json.loads((done / "manifest.json").read_text())["made_by"]["study"]
    assert (made["status"], len(made["policies"])) == ("done", 10)


@pytest.mark.slow
def test_image_sources_differ_in_their_pictures_and_in_nothing_else(done):
    own, other = (Run(done / name, config.load(done / name / "recipe.yaml")) for name in ("own", "other"))
    assert own.rows("prompts") == other.rows("prompts")
    assert held_out(own).prompts == held_out(other).prompts
    assert {row["guidance"] for row in own.rows("images", ["guidance"])} == {1.0}
    drawn = [row["guidance"] for row in other.rows("images", ["guidance"])]
    assert set(drawn) == {3.0}
    assert list(config.differences(own.recipe, other.recipe)) == ["generate.pool"]
    assert own.recipe.study is None  # a run like any other


@pytest.mark.slow
def test_a_study_that_was_stopped_between_two_stages_goes_on_to_the_same(done, tmp_path, monkeypatch, uncompared):
    root = tmp_path / "stopped"
    whole, calls = study.label.label, []

    def stopped(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:  # the second source's pictures are there, and nobody has judged them
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(study.label, "label", stopped)
    assert run_study(root).exit_code == 130
    assert list(root.glob("own/policies/*/seed-1/policy.json"))
    assert not list(root.glob("other/policies"))
    assert run_study(root).exit_code == 0
    straight, resumed = parts(done), parts(root)
    assert [name for name in resumed if straight[name] != resumed[name]] == []
    left = straight.keys() - resumed.keys()
    assert {name.split("/")[0] for name in left} == {"own"}  # what the comparison draws and scores
    assert not any("policies" in name or "pairs" in name or "preferences" in name for name in left)


@pytest.mark.slow
def test_a_finished_study_makes_nothing_again(done):
    before = parts(done)
    plan = json.loads(run_study(done, "--dry-run", "--json").stdout)["plan"]
    assert all(row["done"] == row["of"] for row in plan)
    assert run_study(done).exit_code == 0
    assert parts(done) == before


def test_a_plan_loads_no_torch_and_writes_nothing(tmp_path):
    shown = ddpo_process(
        "study",
        "--dry-run",
        cwd=tmp_path,
        before="import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', [m for m in ('torch', 'diffusers', 'matplotlib') if m in sys.modules]))",
    )
    assert shown.returncode == 0, shown.stderr
    assert "LOADED []" in shown.stdout
    assert re.search(r"^own +generate +360 prompts: 0 of 1440$", shown.stdout, re.MULTILINE)
    assert re.search(r"^other +train +human \(simulated\)\+sft, random\+sft: 0 of 6$", shown.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def recipe(folder: Path, **changes) -> str:
    """A study of one's own, as a file."""
    images = changes.pop("images", {"own": {}})
    text = {"extends": "shapes", "name": "mine", "study": {"images": images, **changes}}
    path = folder / "mine.yaml"
    path.write_text(json.dumps(text))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {"own": {"settings": {"generate": {"stepz": 3}}}}}, "unknown key 'generate.stepz'"),
        ({"images": {"own": {"prompts_of": "set"}}}, "no source before it: none"),
        ({"images": {"own": {}}, "variants": {"sft": {"judges": ["humn"]}}}, "no judge 'humn', did you mean 'human'?"),
        (
            {"images": {"own": {}}, "variants": {"sft": {"judges": ["human"], "train": {"lr": 1}}}},
            "train.learning_rate",
        ),
        ({"images": {}}, "study.images"),
        ({"images": {"report": {}}}, "study.images.report would be a folder that is something else"),
        (
            {"images": {"own": {}, "other": {"prompts_of": "own", "settings": {"prompts": {"train": 3}}}}},
            "study.images.other has the prompts of own; leave its settings.prompts out",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(tmp_path, changes, said):
    result = ddpo("study", "--recipe", recipe(tmp_path, **changes), run=tmp_path / "run")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_a_study_is_refused(tmp_path):
    result = ddpo("study", "--recipe", "shapes", run=tmp_path / "run")
    assert result.exit_code == 2
    assert "has no `study`; take --recipe human-vs-ai" in result.stderr


def test_people_who_have_not_voted_leave_a_hole_that_is_told(tmp_path):
    result = ddpo("study", "--recipe", "human-vs-ai-sd15", "--dry-run", run=tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert re.search(r"own +left out +human: nobody has voted on these pictures: `ddpo annotate --run", result.stdout)
    assert re.search(r"set +train +human, pickscore, random: 0 of 9", result.stdout)
    assert re.search(r"own +train +random\+sft: 0 of 3", result.stdout)
    assert "the prompts of set, once they are there" in result.stdout


def a_set(folder: Path) -> Path:
    """A public set in the schema of Pick-a-Pic: two pictures and a vote for each of twelve prompts.

    Two of these come to be held out, the second and the eleventh: their seeded draws are below one in ten.
    """
    rows = [
        {
            "caption": text,
            "jpg_0": published.picture(2 * at, (48, 48)),
            "jpg_1": published.picture(2 * at + 1, (48, 48)),
            "label_0": float(at % 2),
            "label_1": float(1 - at % 2),
            "are_different": True,
            "has_label": True,
        }
        for at, text in enumerate(grammar.prompts("train")[34:46])
    ]
    published.write_parquet(folder / "set" / "train.parquet", rows)
    return folder / "set"


@pytest.mark.slow
def test_people_of_a_public_set_on_its_pictures_and_the_models_own_pictures_of_the_same_prompts(tmp_path, monkeypatch):
    monkeypatch.setattr("aifeedback_dpo.compare.report.write", lambda run, result, folder, progress: None)
    where, root = a_set(tmp_path), tmp_path / "study"
    images = {
        "set": {"imported": {"format": "pickapic", "path": str(where), "limit": 12}},
        "own": {"prompts_of": "set"},
    }
    settings = [item for item in SMALL if not item.startswith(("prompts.", "train.seeds"))]
    arguments = ("--recipe", recipe(tmp_path, images=images), "label.raters=null", "prompts.eval=3", *settings)
    result = ddpo("study", *arguments, "--json", run=root)
    assert result.exit_code == 0, result.output
    assert "own: no policy learns from human; nobody has voted on these pictures" in result.stderr
    assert [row["policy"] for row in json.loads(result.stdout)["policies"]] == [
        *("base", "human", "pickscore", "random"),
        *("own/pickscore", "own/random"),
    ]
    there, own = (Run(root / name, config.load(root / name / "recipe.yaml")) for name in ("set", "own"))
    assert own.rows("prompts") == there.rows("prompts")
    learned = {row["prompt_id"] for row in own.rows("prompts") if row["split"] == "train"}
    assert len(learned) == 10
    assert {row["prompt_id"] for row in own.rows("pairs")} == learned
    shutil.rmtree(where)  # which is needed no more, and neither is the place where the study was made
    moved = root.rename(tmp_path / "moved")
    monkeypatch.setattr("aifeedback_dpo.compare.run.compare", lambda *given, **named: {"headline": [], "cautions": []})
    assert ddpo("study", run=moved).exit_code == 0


def test_a_set_that_cannot_be_read_is_told_before_anything_is_made(tmp_path):
    images = {"own": {}, "set": {"imported": {"format": "pickapic", "path": "nowhere"}}}
    result = ddpo("study", "--recipe", recipe(tmp_path, images=images), "label.raters=null", run=tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == "ddpo: nowhere is no file or folder here, and no owner/name of the hub\n"
    assert not (tmp_path / "run").exists()


def test_weights_that_only_judge_the_policies_are_missed_before_anything_is_made(tmp_path):
    lacking = "label.scorers.hpsv2={id: nowhere/scorer, file: weights.pt}"
    told = ddpo("study", lacking, "--dry-run", run=tmp_path / "run")
    assert "missing: hpsv2: hf download nowhere/scorer weights.pt" in told.stdout
    result = ddpo("study", lacking, run=tmp_path / "run")
    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_help_says_what_it_is():
    from aifeedback_dpo.cli.app import app

    shown = CliRunner().invoke(app, ["study", "--help"])
    assert "in one report" in shown.stdout
