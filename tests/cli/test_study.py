"""`ddpo study`: a run for each image source, each judge on each, one comparison; and what a stop leaves."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aifeedback_dpo import config, study
from aifeedback_dpo.compare.prompt_sets import held_out
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo, ddpo_process

SMALL = (
    *(setting for setting in TINY if not setting.startswith("train.steps")),
    "train.steps=2",
    "train.seeds=[0,1]",
    "compare.spread_prompts=0",
)


def run_study(root: Path, *arguments: str) -> Result:
    return ddpo("study", *SMALL, *arguments, run=root)


def parts(root: Path) -> dict[str, bytes]:
    """Every table and every policy of a study."""
    found = [*root.rglob("part-*.parquet"), *root.glob("*/policies/*/*/*.safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


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
        *("human", "pickscore", "random", "human+sft"),
        *("other/human", "other/pickscore", "other/random", "other/human+sft"),
    ]
    assert all(row["seeds"] == [0, 1] for row in report["policies"][1:])
    grid = report["sets"][0]["factors"]
    assert (grid["labels"], grid["images"]) == (["human", "pickscore"], ["own", "other"])
    assert any(sentence.startswith("Labels or pictures") for sentence in report["headline"])
    assert (done / "report" / "index.html").exists()
    assert "done" in json.loads((done / "manifest.json").read_text())["made_by"]["study"]["status"]


@pytest.mark.slow
def test_image_sources_differ_in_their_pictures_and_in_nothing_else(done):
    own, other = (Run(done / name, config.load(done / name / "recipe.yaml")) for name in ("own", "other"))
    assert own.rows("prompts") == other.rows("prompts")
    assert held_out(own).prompts == held_out(other).prompts
    assert {row["guidance"] for row in own.rows("images", ["guidance"])} == {1.0}
    drawn = [row["guidance"] for row in other.rows("images", ["guidance"])]
    assert set(drawn) == {3.0}
    one, two = config.differences(own.recipe, other.recipe).popitem()
    assert one == "generate.pool"
    assert two[0] == []


@pytest.mark.slow
def test_a_study_that_was_stopped_between_any_two_stages_goes_on_to_the_same(done, tmp_path, monkeypatch):
    root = tmp_path / "stopped"
    train, calls = study.label.label, []

    def stopped(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(study.label, "label", stopped)
    assert run_study(root).exit_code == 130
    assert not list(root.glob("other/policies"))
    assert run_study(root).exit_code == 0
    straight, resumed = parts(done), parts(root)
    assert resumed.keys() == straight.keys()
    assert [name for name in straight if straight[name] != resumed[name]] == []


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
    assert re.search(r"^other +train +human \(simulated\)\+sft: 0 of 3$", shown.stdout, re.MULTILINE)
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
    assert "the prompts of set, once they are there" in result.stdout


def test_the_names_compared_are_of_the_first_source_and_by_path_of_the_others():
    opened = study.open_study(Path("nowhere"), "human-vs-ai", [])
    assert study.compared(opened) == [
        *("base", "human", "pickscore", "random", "human+sft"),
        *(f"nowhere/other/policies/{name}" for name in ("human", "pickscore", "random", "human+sft")),
    ]


def test_help_says_what_it_is():
    from aifeedback_dpo.cli.app import app

    shown = CliRunner().invoke(app, ["study", "--help"])
    assert "in one report" in shown.stdout
