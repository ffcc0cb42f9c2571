"""What must not change when pairs, batches or judges do, through the command line."""

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.store import Run
from tests.conftest import TINY, ddpo

pytestmark = pytest.mark.slow


def scores(folder, name):
    run = Run(folder, config.load(folder / "recipe.yaml"))
    return {row["image_id"]: row["score"] for row in run.rows("scores", name=name)}


def test_a_batch_of_one_gives_the_scores_of_a_batch(finished, tmp_path):
    single = tmp_path / "run"
    assert ddpo("generate", *TINY, run=single).exit_code == 0
    assert (
        ddpo("label", "-s", "pickscore", "-s", "clip", "-s", "aesthetic", "label.batch_size=1", run=single).exit_code
        == 0
    )
    together = tmp_path / "together"
    assert ddpo("generate", *TINY, run=together).exit_code == 0
    assert ddpo("label", "-s", "pickscore", "-s", "clip", "-s", "aesthetic", run=together).exit_code == 0
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


def test_adding_a_scorer_leaves_the_others_untouched(copied):
    before = {path: path.read_bytes() for path in (copied / "scores").rglob("*.parquet")}
    assert ddpo("label", "--scorer", "clip", run=copied).exit_code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert scores(copied, "clip")
