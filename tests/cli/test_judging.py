"""Judges against judges on runs made by hand: what they said, where they agree, and what is told where nothing is there."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from aifeedback_dpo import config, records
from aifeedback_dpo.annotate.agreement import alpha
from aifeedback_dpo.compare import judging, views
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.store import Run
from tests import labelled
from tests.judged import NOTHING, ONE, SETTINGS, SIX, Row, image_id, many, only, pair_row, told, write


def test_what_each_judge_said_is_counted_by_hand(tmp_path):
    labelled.write(tmp_path, "compare.resamples=40")
    found = told(Run(tmp_path, config.load(str(tmp_path / "recipe.yaml"), [])))
    assert found["names"] == ["human", "pickscore", "random"]
    assert found["pairs"] == 8
    # of labelled.SAID
    human = {"judge": "human", "pairs": 7, "a": 3, "b": 3, "ties": 1, "missing": 1, "votes": 7, "rule": "hand"}
    assert found["said"][0] == human
    assert only(found["said"], judge="pickscore")["votes"] is None
    # decided by both: six, of which all but none oppose: 1/.9 0/.3 1/.6 0/.2 1/.7 0/.1
    both = only(found["matrix"], first="human", second="pickscore")
    assert (both["pairs"], both["decided"], both["rules"]["decided"]["value"]) == (7, 6, 1.0)
    assert both["rules"]["half credit"]["value"] == pytest.approx(6.5 / 7)
    assert list(both["rules"]) == list(found["rules"])
    assert {row["judge"] for row in found["calibration"]} == {"pickscore"}  # coin tosses have nothing to calibrate


def test_people_are_the_ones_to_agree_with_however_judges_are_named(tmp_path):
    run = write(tmp_path, SIX[:2], {"human": (0.5, 1.0), "clip": (1.0, 1.0)})
    (row,) = told(run, "clip", "human")["matrix"]
    assert (row["first"], row["rules"]["ties wrong"]["value"]) == ("human", 1.0)


def test_votes_weigh_where_people_are_one_of_the_two(tmp_path):
    said = {"human": (1.0, 0.0), "clip": (1.0, 1.0), "pickscore": (1.0, 1.0)}
    found = told(write(tmp_path, SIX[:2], said, votes=(3, None)))
    row = only(found["matrix"], first="human", second="clip")
    assert (row["weighted_by_votes"], row["rules"]["decided"]["value"]) == (True, 0.75)
    assert not only(found["matrix"], first="pickscore", second="clip")["weighted_by_votes"]
    assert only(found["said"], judge="human")["votes"] == 4


def test_each_vote_is_an_observation_and_a_tie_among_several_stays_one(tmp_path):
    # one: two say a, one calls it a tie; two: a and b; three: as its mean and number tell, three for a and one for b
    # four: a vote that people's preferences do not hold yet
    said = {"human": (5 / 6, 0.5, 0.75, None), "clip": (1.0, 1.0, 1.0, 1.0)}
    run = write(tmp_path, SIX[:4], said, votes=(3, 2, 4, None))
    cast = {0: (1.0, 1.0, 0.5), 1: (1.0, 0.0), 3: (1.0,)}
    votes = [
        dict.fromkeys(records.VOTES.names)
        | {"pair_id": pair_row(SIX[at])["pair_id"], "annotator": str(person), "p_a": p_a, "votes": 1}
        for at, each in cast.items()
        for person, p_a in enumerate(each)
    ]
    run.commit("votes", votes, "0", "hand")
    assert views.read(run, ["human"]).votes.tolist() == [[0, 1, 2], [1, 0, 1], [1, 0, 3], [0, 0, 0]]
    row = only(told(run)["matrix"], first="human", second="clip")
    # of nine votes six are for a, one is a tie, two for b; decided 6 / 8, half credit 6.5 / 9, inversions 7 / 9
    assert [rule["value"] for rule in row["rules"].values()] == pytest.approx([6 / 8, 6.5 / 9, 6 / 8, 7 / 9])
    assert (row["pairs"], row["decided"], row["weighted_by_votes"]) == (3, 2, True)
    margin = only(told(run)["bias"], judge="human", feature="position")
    assert (margin["pairs"], margin["share"]["value"]) == (3, pytest.approx(6 / 8))


def test_swapping_a_and_b_everywhere_changes_nothing_but_position_which_mirrors(tmp_path):
    one, other = told(many(tmp_path / "one")), told(many(tmp_path / "other", swapped=True))
    for row, back in zip(one["bias"], other["bias"], strict=True):
        if row["feature"] == "position":
            share, mirrored = row.pop("share"), back.pop("share")
            assert mirrored["value"] == pytest.approx(1 - share["value"])
            assert (mirrored["low"], mirrored["high"]) == pytest.approx((1 - share["high"], 1 - share["low"]))
    for row in one["said"]:
        row["a"], row["b"] = row["b"], row["a"]
    for row in other["disputed"]:
        row["image_a"], row["image_b"] = row["image_b"], row["image_a"]
        row["p_first"], row["p_second"] = 1 - row["p_first"], 1 - row["p_second"]
    assert one["disputed"]
    assert all(row["items"] for row in one["ranking"])
    assert other == nearly(one)


def nearly(value):
    """The same, but for float32."""
    if isinstance(value, dict):
        return {key: nearly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [nearly(each) for each in value]
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


def test_the_order_of_parts_is_nothing_and_rows_of_pairs_that_are_gone_are_left_out(tmp_path):
    run = write(tmp_path, SIX[:3], {"human": (1.0, 0.0, None), "clip": (0.9, 0.8, 0.7)})
    before = views.read(run, ["human", "clip"])
    assert before.said["human"].p_a == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)
    rows = run.rows("preferences", name="clip")
    for path in run.parts("preferences", "clip"):
        path.unlink()
    gone = dict(rows[0], pair_id="0" * 32)
    run.commit("preferences", [rows[2], gone], "0", "clip")
    run.commit("preferences", [rows[1], rows[0]], "1", "clip")
    after = views.read(run, ["human", "clip"])
    assert after.said["clip"].p_a.tolist() == before.said["clip"].p_a.tolist()
    assert after.said["clip"].there.all()
    assert after.said["human"].votes.tolist() == [1.0, 1.0, 1.0]  # nobody counted: one each


def test_a_model_is_told_by_its_policy_and_settings_and_may_be_unknown():
    assert views._model("m", "base", None, None) == "m"
    assert views._model("m", "imported", 20, 7.5) == "m, 20 steps, guidance 7.5"
    assert views._model("m", "human+sft", 4, None) == "m, policy human+sft, 4 steps"
    assert views._model(None, None, None, None) == "unknown"


def test_a_run_without_pairs_says_what_to_do(tmp_path):
    run = Run(tmp_path, config.load("shapes", list(SETTINGS)))
    with pytest.raises(UserError, match="no pairs; run `ddpo generate`"):
        judging.judges(run, [], Silent())


def voted(root: Path, votes: Mapping[int, Mapping[str, float]], pairs: Sequence[Row] = SIX, count: int = 1) -> Run:
    """A run with votes of people: pair -> person -> p_a."""
    run = write(root, pairs, {"clip": [1.0] * len(pairs)})
    rows = [
        dict.fromkeys(records.VOTES.names)
        | {"pair_id": pair_row(pairs[at])["pair_id"], "annotator": name, "p_a": p_a, "votes": count}
        for at, by in votes.items()
        for name, p_a in by.items()
    ]
    run.commit("votes", rows, "0", "hand")
    return run


def test_people_against_people_by_hand(tmp_path):
    votes = {
        0: {"ann": 1.0, "bob": 1.0, "cy": 0.0},  # one of three twos agrees
        1: {"ann": 0.0, "bob": 0.0},  # one of one
        2: {"ann": 0.5, "bob": 1.0},  # none is left, a tie
        3: {"dee": 1.0},  # alone
        4: {"bob": 0.0, "cy": 0.0},
        5: {"ann": 1.0, "cy": 1.0},
    }
    found = told(voted(tmp_path, votes))["people"]
    assert (found["pairs"], found["people"]) == (5, 3)
    assert (found["agreement"]["value"], found["agreement"]["prompts"]) == (pytest.approx((1 / 3 + 1 + 1 + 1) / 4), 4)
    theirs = alpha({str(at): by for at, by in votes.items()})
    assert found["alpha"]["value"] == pytest.approx(theirs.value)
    assert found["alpha"]["low"] < found["alpha"]["value"] < found["alpha"]["high"]


def test_alpha_is_resampled_by_prompt(tmp_path):
    # six pairs of one prompt are one prompt: a value, and no interval
    pairs = [("one", f"x{at}", f"y{at}") for at in range(6)]
    votes = {at: {"ann": 1.0, "bob": float(at > 1)} for at in range(6)}
    found = told(voted(tmp_path, votes, pairs))["people"]
    assert found["alpha"]["value"] == pytest.approx(alpha({str(at): by for at, by in votes.items()}).value)
    assert (found["alpha"]["low"], found["alpha"]["prompts"]) == (None, 1)


def test_alpha_of_few_prompts_has_no_interval(tmp_path):
    found = told(voted(tmp_path, {at: {"ann": 1.0, "bob": float(at > 1)} for at in range(4)}))["people"]
    assert found["alpha"]["value"] is not None
    assert (found["alpha"]["low"], found["alpha"]["prompts"]) == (None, 4)
    assert found["agreement"]["low"] is not None


def test_people_that_all_say_the_same_have_no_alpha(tmp_path):
    found = told(voted(tmp_path, {at: {"ann": 1.0, "bob": 1.0} for at in range(6)}))["people"]
    assert (found["agreement"]["value"], found["alpha"]) == (1.0, None)
    assert found["agreement"]["low"] < 0.7  # Wilson for 6 of 6: 1 / (1 + 1.96^2 / 6) = 0.610


def test_people_who_cannot_be_told_apart_are_nobody_to_compare(tmp_path):
    nameless = told(voted(tmp_path / "a", {0: {"": 1.0, "ann": 0.0}}))["people"]
    counted = told(voted(tmp_path / "b", {0: {"crowd": 1.0, "ann": 0.0}}, count=3))["people"]
    assert nameless == counted == {"why_not": "no pair has the votes of two people that can be told apart"}
    simulated = write(tmp_path / "c", ONE, {"human": (1.0,)}, "label.raters=simulated")
    assert "simulated" in told(simulated)["people"]["why_not"]


def test_votes_on_pairs_that_are_gone_are_left_out(tmp_path):
    run = voted(tmp_path, {0: {"ann": 1.0, "bob": 1.0}, 1: {"ann": 1.0, "bob": 0.0}})
    run.commit("pairs", [pair_row(SIX[0])], "0")
    assert told(run)["people"]["pairs"] == 1


def test_a_ranking_of_models_by_hand_or_why_there_is_none(tmp_path):
    drew = {f"{text} x": "new" for text, *_ in SIX}
    said = {"human": (1.0, 1.0, 1.0, 0.0, 0.5, None), "clip": (1.0,) * 6, "pickscore": (None,) * 5 + (0.5,)}
    found = told(write(tmp_path, SIX, said, drew=drew))["ranking"]
    people = only(found, judge="human")
    # 3 wins and a tie to 1 and a tie: log(3.5 / 1.5), half of it each
    assert [(row["item"], row["pairs"]) for row in people["items"]] == [("new", 5), ("m", 5)]
    assert people["items"][0]["score"]["value"] == pytest.approx(math.log(3.5 / 1.5) / 2)
    assert (people["of"], people["why_not"]) == ("models", None)
    never = only(found, judge="clip")
    assert (never["items"], "new never lost" in never["why_not"]) == ([], True)
    alike = told(write(tmp_path / "alike", ONE, {"clip": (1.0,)}))["ranking"]
    assert alike[0]["why_not"] == "all pictures are of one model (m)"


def test_pairs_in_dispute_are_the_opposed_ones_the_surest_first(tmp_path):
    said = {"human": (1.0, 1.0, 0.0, 1.0, 0.5, None), "pickscore": (0.4, 0.1, 0.7, 0.9, 0.1, 0.1), "clip": (0.0,) * 6}
    run = write(tmp_path, SIX, said)
    found = told(run)["disputed"]
    assert [(row["prompt"], row["first"], row["second"]) for row in found] == [
        (text, "human", "pickscore") for text in ("two", "three", "one")
    ]
    top = found[0]
    assert (top["p_first"], top["p_second"]) == pytest.approx((1.0, 0.1))
    assert (top["image_a"], top["image_b"]) == (image_id("two x"), image_id("two y"))
    short = Run(run.root, config.load("shapes", [*SETTINGS, "compare.gallery=1"]))
    assert told(short)["disputed"] == found[:1]


def test_sides_alone_are_in_dispute_by_the_margin(tmp_path):
    said = {"human": (1.0, 1.0), "clip": (0.0, 0.0)}
    run = write(tmp_path, SIX[:2], said, margins={"clip": (-1.0, -5.0)})
    assert [row["prompt"] for row in told(run)["disputed"]] == ["two", "one"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        pytest.param({"human": (1.0,) * 6}, {"matrix": [], "tau": [], "slices": [], "disputed": []}, id="one judge"),
        pytest.param({"clip": (1.0,) * 6, "pickscore": (0.9,) * 6}, {"calibration": [], "slices": []}, id="no people"),
        pytest.param({"human": (0.5,) * 6, "clip": (0.5,) * 6}, {"slices": [], "disputed": []}, id="all ties"),
        pytest.param({"human": (1.0, 0.0) * 3, "clip": (1.0, 0.0) * 3}, {"disputed": []}, id="identical"),
        pytest.param(
            {"human": (1.0, None) * 3, "clip": (None, 0.9) * 3}, {"slices": [], "disputed": []}, id="nothing in common"
        ),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(tmp_path, said, wanted):
    found = told(write(tmp_path, SIX, said))
    assert {key: found[key] for key in wanted} == wanted
    assert found["people"] == {"why_not": "no pair has the votes of two people that can be told apart"}
    assert all(row["why_not"] for row in found["ranking"])


def test_judges_without_a_pair_in_common_have_nothing_to_agree_on(tmp_path):
    (row,) = told(write(tmp_path, SIX, {"human": (1.0, None) * 3, "clip": (None, 0.9) * 3}))["matrix"]
    assert (row["pairs"], row["decided"], row["weighted_by_votes"]) == (0, 0, False)
    assert all(share == NOTHING for share in [*row["rules"].values(), row["kappa"]])


def test_one_prompt_is_told_without_an_interval_that_it_cannot_have(tmp_path):
    pairs = [("one", *names) for names in combinations("xyz", 2)]
    found = told(write(tmp_path, pairs, {"human": (1.0, 1.0, 1.0), "clip": (1.0, 1.0, 0.0)}))
    # orders x > y > z and x > z > y: one of three twos is the other way round
    assert found["tau"][0]["tau"] == {"value": pytest.approx(1 / 3), "low": None, "high": None, "prompts": 1}
    (row,) = found["matrix"]
    assert row["rules"]["decided"]["value"] == pytest.approx(2 / 3)
    assert (row["kappa"]["low"], row["kappa"]["prompts"]) == (None, 1)


def test_judges_are_known_people_first_and_coin_tosses_last(tmp_path):
    said = {"random": (1.0,), "later": (1.0,), "clip": (1.0,), "pickscore": (1.0,), "human": (1.0,), "empty": (None,)}
    run = write(tmp_path, ONE, said)
    assert judging.known(run) == ["human", "pickscore", "clip", "later", "random"]
