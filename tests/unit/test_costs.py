"""Hours, votes and money, against sums made by hand; what nobody recorded is never made up."""

import json
from pathlib import Path

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.compare.costs import costs
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run
from tests import labelled

PRICES = ("compare.prices.gpu_hour=3.6", "compare.prices.vote=0.05", "compare.prices.currency=EUR")


def opened(root: Path, *settings: str) -> Run:
    """Eight pairs of eight pictures; human judges seven of the pairs, pickscore and random all."""
    labelled.write(root, *PRICES, *settings)
    return Run(root, config.load(root / "recipe.yaml"))


def trained(run: Run, seed: int, steps: list[tuple[float, int]] | None, pairs: int = 6) -> Path:
    folder = run.policy_folder("human", seed)
    run.write_text(folder / "policy.json", json.dumps({"pairs": pairs}))
    if steps is not None:
        rows = [
            {"step": at, "pairs": 4, "policies": shared, "seconds": seconds}
            for at, (seconds, shared) in enumerate(steps)
        ]
        run.write_text(folder / "speed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def policy(run: Run, *folders: Path) -> dict:
    found = costs(run, [{"policy": "human", "folders": list(folders), "judge": "human"}], [])
    (row,) = found["policies"]
    return row


def label(run: Run, judge: str) -> dict:
    (row,) = costs(run, [], [judge])["labels"]
    return row


def scored(run: Run, judge: str, images: list[str], recipe: str = "r") -> None:
    rows = [
        {"image_id": image, "scorer": judge, "recipe": recipe, "score": 1.0, "truncated": False} for image in images
    ]
    run.commit("scores", rows, f"{recipe}-{len(images)}", judge)


def pictures(run: Run) -> list[str]:
    return sorted({pair[side] for pair in run.rows("pairs") for side in ("image_a", "image_b")})


# -- policies --------------------------------------------------------------------------------------------------------


def test_hours_are_of_all_seeds_and_a_shared_step_is_shared_equally(tmp_path):
    run = opened(tmp_path / "run")
    row = policy(run, trained(run, 0, [(3000, 3), (2000, 2)]), trained(run, 1, [(1600, 1)]))
    # 3000 / 3 + 2000 / 2 + 1600 = 3600 s: an hour, at 3.6 an hour
    assert (row["pairs"], row["hours"], row["money"]) == (6, pytest.approx(1.0), pytest.approx(3.6))
    assert "the 3 steps of 2 training seeds" in row["about"]
    assert "up to 3 policies" in row["about"]


def test_without_a_price_there_is_no_money(tmp_path):
    run = opened(tmp_path / "run", "compare.prices.gpu_hour=null", "compare.prices.vote=null", "label.raters=null")
    row = policy(run, trained(run, 0, [(3600, 1)]))
    assert (row["hours"], row["money"]) == (1.0, None)
    assert "equal share" not in row["about"]
    assert label(run, "human")["money"] is None


def test_a_seed_without_a_log_of_times_makes_the_hours_unknown(tmp_path):
    run = opened(tmp_path / "run")
    row = policy(run, trained(run, 0, [(3600, 1)]), trained(run, 1, None))
    assert (row["hours"], row["money"]) == (None, None)
    assert row["about"].startswith("seed-1 has no speed.jsonl")


def test_a_log_of_times_that_is_damaged_is_named(tmp_path):
    run = opened(tmp_path / "run")
    folder = trained(run, 0, [(3600, 1)])
    (folder / "speed.jsonl").write_text('{"step": 0, "seconds"')
    with pytest.raises(DataError, match=r"speed\.jsonl is corrupted"):
        policy(run, folder)


# -- labels ----------------------------------------------------------------------------------------------------------


def test_a_scorer_costs_its_seconds_of_the_pictures_of_the_pairs(tmp_path):
    run = opened(tmp_path / "run")
    asked = pictures(run)
    scored(run, "pickscore", [*asked, "of-a-held-out-prompt"])
    scored(run, "pickscore", asked[:3], recipe="of other weights")
    run.record("label/pickscore", "done", scorer="r", seconds=1800.0, pictures=len(asked))
    row = label(run, "pickscore")
    assert (row["pairs"], row["pictures"], row["votes"]) == (8, 12, None)  # three pictures of each of four prompts
    assert (row["seconds"], row["money"]) == (1800.0, pytest.approx(1.8))


def test_time_that_is_not_of_all_pictures_is_told_and_not_counted(tmp_path):
    run = opened(tmp_path / "run")
    scored(run, "pickscore", pictures(run))
    assert label(run, "pickscore")["about"] == "how long pickscore took is not recorded"
    run.record("label/pickscore", "done", scorer="r", seconds=60.0, pictures=5)
    row = label(run, "pickscore")
    assert (row["pictures"], row["seconds"], row["money"]) == (12, None, None)
    assert row["about"] == "5 of its 12 pictures were timed (60 s), so the whole is not known"


def test_a_judge_of_pairs_has_seen_two_pictures_of_each(tmp_path):
    run = opened(tmp_path / "run")
    run.commit("answers", [{"pair_id": "p", "judge": "pickscore", "recipe": "r"}], "x", "pickscore")
    run.record("label/pickscore", "done", scorer="r", seconds=3600.0, pictures=16)
    row = label(run, "pickscore")
    assert (row["pictures"], row["money"]) == (16, pytest.approx(3.6))
    assert row["about"].startswith("two pictures of each of 8 pairs in 3.6e+03 s")


def test_simulated_people_cost_nothing_and_are_called_so(tmp_path):
    row = label(opened(tmp_path / "run"), "human")
    assert (row["pairs"], row["votes"], row["money"], row["seconds"]) == (7, 7, 0.0, None)
    assert row["about"].startswith("simulated votes")


def test_people_cost_a_price_a_vote_and_their_median_time_is_told(tmp_path):
    run = opened(tmp_path / "run", "label.raters=null")
    assert (label(run, "human")["votes"], label(run, "human")["seconds_a_vote"]) == (7, None)
    pair = run.rows("pairs")[0]["pair_id"]
    cast = [(2.0, 1), (4.0, None), (9.0, 1), (None, 5)]
    rows = [{"pair_id": pair, "p_a": 1.0, "seconds": seconds, "votes": votes} for seconds, votes in cast]
    run.commit("votes", rows, "x", "page")
    row = label(run, "human")
    # a vote that does not say how many it stands for is one: 1 + 1 + 1 + 5 = 8, at 0.05; the median of 2, 4 and 9 s is 4 s
    assert (row["votes"], row["money"], row["seconds_a_vote"]) == (8, pytest.approx(0.4), 4.0)
    assert row["about"] == "8 votes of people; people took 4 s (the median) over a vote, recorded 3 of 4 times"


def test_a_consensus_costs_what_its_members_cost_together(tmp_path):
    run = opened(tmp_path / "run", "label.raters=null")
    scored(run, "pickscore", pictures(run))
    scored(run, "random", pictures(run))
    run.record("label/pickscore", "done", scorer="r", seconds=1800.0, pictures=12)
    run.record("label/random", "done", scorer="r")
    run.record("label/consensus", "done", members=["human", "pickscore", "random"])
    row = label(run, "consensus")
    assert (row["pictures"], row["votes"], row["seconds"], row["money"]) == (
        24,
        7,
        None,
        None,
    )  # random's time is not known
    run.record("label/random", "done", scorer="r", seconds=200.0, pictures=12)
    row = label(run, "consensus")
    # 2000 s at 3.6 an hour are 2.0, seven votes at 0.05 are 0.35
    assert (row["seconds"], row["money"]) == (2000.0, pytest.approx(2.35))
    assert row["about"] == "the sum of its members: human, pickscore, random"


def test_the_currency_is_the_recipes(tmp_path):
    assert costs(opened(tmp_path / "run"), [], []) == {"currency": "EUR", "policies": [], "labels": []}
