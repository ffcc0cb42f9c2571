"""What must not change when pairs, batches or judges do, through the command line."""

import shutil
from pathlib import Path

import pytest

from aifeedback_dpo import config, records
from aifeedback_dpo.scorers import kept
from aifeedback_dpo.store import Run
from tests.conftest import ddpo

pytestmark = pytest.mark.slow


def scores(folder, name):
    run = Run(folder, config.load(folder / "recipe.yaml"))
    return {row["image_id"]: row["score"] for row in run.rows("scores", name=name)}


def test_a_batch_of_one_gives_the_scores_of_a_batch(finished, tmp_path):
    asked = ("label", "-s", "pickscore", "-s", "clip", "-s", "aesthetic")
    single, together = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("single", "together"))
    for run, size in ((single, ("label.batch_size=1",)), (together, ())):
        shutil.rmtree(run / "scores")
        assert ddpo(*asked, *size, run=run).exit_code == 0
    for name in ("pickscore", "clip", "aesthetic"):
        one, many = scores(single, name), scores(together, name)
        assert one.keys() == many.keys()
        for image_id, score in one.items():
            assert score == pytest.approx(many[image_id], abs=1e-4)


def test_every_judge_sees_the_same_pairs_and_none_sees_a_winner(finished):
    run = Run(finished, config.load(finished / "recipe.yaml"))
    pairs = {row["pair_id"] for row in run.rows("pairs")}
    for judge in ("human", "pickscore", "random"):
        assert {row["pair_id"] for row in run.rows("preferences", name=judge)} == pairs
    assert not {"winner", "chosen", "rejected", "label"} & set(run.read("pairs").column_names)


def test_a_preference_is_the_recorded_rule_applied_to_the_stored_scores(finished):
    import math

    run = Run(finished, config.load(finished / "recipe.yaml"))
    stored = scores(finished, "pickscore")
    by_pair = {row["pair_id"]: row for row in run.rows("preferences", name="pickscore")}
    for pair in run.rows("pairs"):
        difference = stored[pair["image_a"]] - stored[pair["image_b"]]
        row = by_pair[pair["pair_id"]]
        assert row["margin"] == pytest.approx(difference, abs=1e-5)
        assert row["p_a"] == pytest.approx(1 / (1 + math.exp(-difference)), abs=1e-5)
        assert row["rule"].startswith("sigmoid(1 *")


def test_pictures_with_the_same_pixels_have_one_score(tmp_path):
    """In another batch a network rounds its last digit otherwise; the same picture must tie with itself."""
    run = Run(tmp_path, config.load("shapes"))
    blank = dict.fromkeys(records.IMAGES.names)
    rows = [("a", "p", "same"), ("b", "p", "same"), ("c", "p", "other"), ("d", "q", "same")]
    run.commit(
        "images",
        [blank | {"image_id": image, "prompt_id": prompt, "pixel_sha256": pixels} for image, prompt, pixels in rows],
        "x",
        "base",
    )
    stored = {"a": 0.5, "b": 0.5000001, "c": 0.5000002, "d": 0.7}
    run.commit(
        "scores",
        [{"image_id": image, "scorer": "clip", "recipe": "r", "score": score} for image, score in stored.items()],
        "x",
        "clip",
    )
    found = kept.scores(run, "clip", "r")
    assert found["a"] == found["b"]
    assert len({found["a"], found["c"], found["d"]}) == 3


def test_adding_a_scorer_leaves_the_others_untouched(copied):
    before = {path: path.read_bytes() for path in (copied / "scores").rglob("*.parquet")}
    assert ddpo("label", "--scorer", "clip", run=copied).exit_code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert scores(copied, "clip")
