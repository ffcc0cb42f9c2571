"""Recipes: every mistake is one clear line, all of them at once."""

import re

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.errors import UserError


def test_every_shipped_recipe_is_valid():
    assert "shapes" in config.names()
    for name in config.names():
        assert config.load(name).name == name


def test_a_number_in_scientific_notation_is_a_number():
    assert config.load("shapes", ["train.learning_rate=1e-5"]).train.learning_rate == 1e-5


def test_what_is_dumped_loads_as_the_same_recipe(tmp_path):
    recipe = config.load("shapes", ["train.beta=123", "label.raters=null"])
    (tmp_path / "recipe.yaml").write_text(config.dump(recipe))
    assert config.load(tmp_path / "recipe.yaml") == recipe


def test_all_mistakes_are_told_at_once_with_paths_and_the_nearest_key():
    with pytest.raises(UserError) as caught:
        config.load("shapes", ["train.betta=1", "generate.steps=none", "prompts.train=0", "modle.id=x"])
    message = str(caught.value)
    assert "unknown key 'train.betta', did you mean 'train.beta'?" in message
    assert "unknown key 'modle', did you mean 'model'?" in message
    assert "'generate.steps' is 'none'" in message
    assert "'prompts.train' is 0" in message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("train.bs", "train.batch_size"),
        ("beta", "train.beta"),
        ("steps", "generate.steps or train.steps"),
    ],
)
def test_a_key_that_is_short_for_another_or_lacks_its_section_is_told(key, meant):
    with pytest.raises(UserError, match=f"unknown key '{key}', did you mean '{re.escape(meant)}'"):
        config.load("shapes", [f"{key}=1"])


def test_accelerates_names_of_precisions_are_torchs():
    recipe = config.load("shapes", ["train.precision=bf16", "model.dtype=bf16"])
    assert (recipe.train.precision, recipe.model.dtype) == ("bfloat16", "bfloat16")
    assert config.load("shapes", ["train.precision=fp32"]) == config.load("shapes", ["train.precision=float32"])
    with pytest.raises(UserError, match=r"'train\.precision' is 'bf17'"):
        config.load("shapes", ["train.precision=bf17"])


def test_a_recipe_nobody_knows_names_the_nearest():
    with pytest.raises(UserError, match="no recipe 'shape'; did you mean 'shapes'"):
        config.load("shape")


@pytest.mark.parametrize("override", ["train.beta", "=5", "--train.beta=5", "a b=1"])
def test_what_is_no_override_is_refused(override):
    with pytest.raises(UserError, match="is not an override"):
        config.load("shapes", [override])


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("train: {beta: [1,")
    with pytest.raises(UserError, match=r"broken\.yaml is not YAML"):
        config.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        config.load(tmp_path / "absent.yaml")


def test_a_recipe_starts_from_another_and_says_only_what_differs(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: shapes\nname: mine\ntrain: {beta: 7}\n")
    mine, parent = config.load(tmp_path / "mine.yaml"), config.load("shapes")
    assert set(config.differences(mine, parent)) == {"name", "train.beta"}


def test_the_ai_judge_must_be_one_of_the_scorers():
    with pytest.raises(UserError, match=r"label\.ai is 'hps'"):
        config.load("shapes", ["label.ai=hps"])


def test_settings_do_not_change_after_loading():
    with pytest.raises(Exception, match="frozen"):
        config.load("shapes").train.beta = 1.0


def test_one_value_where_a_list_belongs_is_told_how_to_write_it():
    with pytest.raises(UserError, match=r"write a list, as in train\.seeds=\[2\]"):
        config.load("shapes", ["train.seeds=2"])


@pytest.mark.parametrize(
    "hidden",
    ["${oc.env:HF_TOKEN}", "${oc.${name}:HF_TOKEN}", "${oc.select:none,${oc.env:HF_TOKEN}}", "${ oc.env : HF_TOKEN}"],
)
@pytest.mark.parametrize("place", ["about", "train.judges"])
def test_no_recipe_brings_the_environment_into_a_run(hidden, place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    settings = {"about": hidden} if place == "about" else {"train": {"judges": [hidden]}}
    with pytest.raises(UserError, match="refers to its own settings alone") as error:
        config.load({"extends": "shapes", **settings})
    assert "hf_secret" not in str(error.value)


def test_a_recipe_may_refer_to_its_own_settings():
    assert config.load("shapes", ["about='beta ${train.beta}: high'", "train.beta=7"]).about == "beta 7: high"
