"""The recipes that ship: valid, honest about where they come from, and planned on a machine that has nothing of them."""

import functools
import json
import re
import shlex

import pytest

from aifeedback_dpo import config, prompts
from aifeedback_dpo.records import CONSENSUS, CONTROL, HUMAN, IMPORTED
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import Recipe
from tests.conftest import ddpo

SHIPPED = config.names()
STUDIES = [name for name in SHIPPED if config.load(name).study is not None]
REAL = [name for name in SHIPPED if not name.startswith("shapes") and name not in STUDIES]
PAPERS = ["paper-sd15-ai-feedback", "paper-sdxl", "syn-pic"]


@functools.cache
def shipped(name: str) -> Recipe:
    return config.load(name)


def comments(name: str) -> str:
    return "\n".join(line for line in config.source(name).splitlines() if line.startswith("#"))


def commands(name: str) -> list[list[str]]:
    return [shlex.split(line[2:]) for line in comments(name).splitlines() if line.startswith("# ddpo")]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_bears_the_name_of_its_file_and_says_what_it_is_about(name):
    recipe = shipped(name)
    assert recipe.name == name
    assert recipe.about not in [shipped(other).about for other in SHIPPED if other != name]


@pytest.mark.parametrize("name", REAL)
def test_a_recipe_opens_with_the_four_commands_and_they_name_what_it_has(name):
    recipe = shipped(name)
    first, label, train, compare = commands(name)
    if recipe.prompts.source == IMPORTED:
        assert first[1:3] == ["import", "pickapic"]
        assert first[first.index("--recipe") + 1] == name
    else:
        assert first == ["ddpo", "generate", "--recipe", name]
    assert [command[1] for command in (label, train, compare)] == ["label", "train", "compare"]
    for command in (label, train, compare):
        assert command[command.index("--run") + 1] == f"runs/{name}"
    asked = {label[at + 1] for at, word in enumerate(label) if word in ("-s", "--judge")}
    assert asked <= {*recipe.label.scorers, CONSENSUS}
    trained = {recipe.judge(judge) for judge in recipe.train.judges}
    assert CONTROL in trained
    people = {HUMAN} if recipe.prompts.source == IMPORTED else set()  # elsewhere nobody has voted on the pictures
    assert trained <= {*asked, CONTROL, *people}
    assert {recipe.judge(judge) for judge in (compare[2], compare[4])} <= trained


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_one_command_with_controls_and_seeds_enough(name):
    recipe = shipped(name)
    assert commands(name)[0][:2] == ["ddpo", "study"]
    trained = {recipe.judge(judge) for judge in recipe.train.judges}
    assert {HUMAN, recipe.label.ai, CONTROL} <= trained
    assert len(recipe.train.seeds) >= 3
    assert len(recipe.study.images) >= 2
    assert recipe.study.variants["sft"].train["objective"] == "sft"
    assert set(recipe.label.scorers) - trained  # somebody judges who labelled nothing


@pytest.mark.parametrize("name", REAL)
def test_a_recipe_tells_its_hardware_as_computed_and_what_to_expect(name):
    assert "Computed, not measured:" in comments(name)
    assert "GB" in comments(name)
    assert "To expect" in comments(name)


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_after_a_paper_says_what_differs(name):
    assert re.search(r"arXiv:\d{4}\.\d{5}", comments(name))
    assert "What differs from the paper, and matters:" in comments(name)


@pytest.mark.parametrize("name", REAL)
def test_published_scorers_are_those_of_the_catalogue(name):
    for scorer, weights in shipped(name).label.scorers.items():
        published = CATALOGUE[scorer].weights
        assert (weights.id, weights.file) == (published.id, published.file)
        assert (weights.base and weights.base.id) == (published.base and published.base.id)


@pytest.mark.parametrize("name", [name for name in REAL if name not in PAPERS[:2]])
def test_each_pair_is_met_once(name):
    recipe = shipped(name)
    every = recipe.generate.candidates * (recipe.generate.candidates - 1) // 2
    pairs = recipe.prompts.train * min(recipe.generate.pairs, every)
    assert 0.97 <= recipe.train.steps * recipe.train.batch_size / pairs <= 1


def test_the_papers_settings_are_the_launchers():
    """Batch 16 x 1 x 128; 1e-8 scaled by it; a quarter of 1,000 steps, and 200 of 2,000, to warm up."""
    sd15, sdxl = (shipped(name).train for name in PAPERS[:2])
    for train in (sd15, sdxl):
        assert train.batch_size == 16 * 1 * 128
        assert train.learning_rate == pytest.approx(1e-8 * train.batch_size)
        assert (train.beta, train.schedule, train.method, train.caption_dropout) == (5000, "constant", "full", 0.2)
    assert (sd15.steps, sd15.warmup, sd15.optimizer) == (1000, 250, "adamw")
    assert (sdxl.steps, sdxl.warmup, sdxl.optimizer) == (2000, 200, "adafactor")


DRAWN = [name for name in REAL if shipped(name).prompts.source != IMPORTED]


@pytest.mark.parametrize("name", [name for name in REAL if name not in DRAWN])
def test_a_recipe_of_an_imported_set_waits_for_it(tmp_path, cache, name):
    shown = ddpo("generate", "--recipe", name, "--dry-run", run=tmp_path / "run")
    assert (shown.exit_code, "has no prompts yet; run `ddpo import` first" in shown.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", DRAWN)
def test_a_dry_run_plans_a_recipe_without_network_or_weights(tmp_path, cache, name):
    recipe = shipped(name)
    shown = ddpo("generate", "--recipe", name, "--dry-run", "--json", run=tmp_path / "run")
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.stdout)
    images = recipe.prompts.train * recipe.generate.candidates
    assert (plan["images"], plan["images_done"], plan["revisions"]) == (images, 0, {})
    assert plan["disk_mb"] == pytest.approx(images * recipe.generate.width * recipe.generate.height * 1.2e-6, abs=0.1)
    assert "hf download" in plan["missing"]
    if prompts.on_hub(recipe.prompts):
        assert f"`hf download --repo-type dataset {recipe.prompts.source}`" in plan["missing"]
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_printed_to_be_copied_and_what_is_printed_loads(tmp_path):
    from typer.testing import CliRunner

    from aifeedback_dpo.cli.app import app

    listed = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).stdout)
    assert list(listed) == SHIPPED
    assert listed["sd15"]["commands"][0] == "ddpo generate --recipe sd15"
    assert listed["syn-pic"]["model"] == "stabilityai/stable-diffusion-xl-base-1.0"
    lines = CliRunner().invoke(app, ["recipes"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
    (tmp_path / "mine.yaml").write_text(CliRunner().invoke(app, ["recipes", "sdxl-lora"]).stdout)
    assert config.load(tmp_path / "mine.yaml") == config.load("sdxl-lora")
    unknown = CliRunner().invoke(app, ["recipes", "sd16"])
    assert (unknown.exit_code, unknown.stderr.startswith("ddpo: no recipe 'sd16'; did you mean 'sd15'?")) == (2, True)
