"""Judges against judges on runs made by hand: what is told of them, and what it says where there is nothing to tell."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo import config, records
from aifeedback_dpo.annotate.agreement import alpha
from aifeedback_dpo.compare import judging, pixels, views
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run, encode_image
from tests import labelled

SETTINGS = ("compare.resamples=40", "label.raters=null", "label.scorers={pickscore: {}, clip: {}}")
NOTHING = {"value": None, "low": None, "high": None, "prompts": 0}
ONE = (("p", "x", "y"),)
"""A pair: the prompt, and the names of its two pictures."""
SIX = tuple((text, f"{text} x", f"{text} y") for text in ("one", "two", "three", "four", "five", "six"))
Row = tuple[str, str, str]


def image_id(name: str) -> str:
    return records.content_id(name)


def write(
    root: Path,
    pairs: Sequence[Row],
    said: Mapping[str, Sequence[float | None]],
    *settings: str,
    margins: Mapping[str, Sequence[float | None]] | None = None,
    votes: Sequence[int | None] | None = None,
    drew: Mapping[str, str] | None = None,
    looks: Mapping[str, int] | None = None,
    swapped: bool = False,
) -> Run:
    """A run of these pairs; pictures are grey, as bright as `looks` says, and drawn by the model that `drew` says."""
    run = Run(root, config.load("shapes", [*SETTINGS, *settings]))
    texts = list(dict.fromkeys(text for text, *_ in pairs))
    rows = [{"prompt_id": records.prompt_id(t), "prompt": t, "split": "train", "source": "hand"} for t in texts]
    run.commit("prompts", rows, "train")
    shown = {name: text for text, *names in pairs for name in names}
    run.commit("images", [_image(name, text, drew or {}, looks or {}) for name, text in shown.items()], "0")
    run.commit("pairs", [_pair(pair, swapped) for pair in pairs], "0")
    for judge, columns in said.items():
        away = (margins or {}).get(judge, [None if p_a is None else p_a - 0.5 for p_a in columns])
        many = votes if judge == "human" and votes else [None] * len(pairs)
        rows = [
            _preference(_pair(pair, swapped)["pair_id"], judge, p_a, margin, count, swapped)
            for pair, p_a, margin, count in zip(pairs, columns, away, many, strict=True)
            if p_a is not None
        ]
        run.commit("preferences", rows, "0", judge)
    return run


def _image(name: str, text: str, drew: Mapping[str, str], looks: Mapping[str, int]) -> dict[str, Any]:
    picture = Image.new("RGB", (4, 4), (looks.get(name, 128),) * 3)
    row = dict.fromkeys(records.IMAGES.names) | {"image_id": image_id(name), "prompt_id": records.prompt_id(text)}
    return row | {"image": {"bytes": encode_image(picture), "path": ""}, "model": drew.get(name, "m"), "policy": "base"}


def _pair(pair: Row, swapped: bool = False) -> dict[str, Any]:
    text, *names = pair
    one, other = (image_id(name) for name in (names[::-1] if swapped else names))
    ids = {"image_a": one, "image_b": other}
    row = {"pair_id": records.pair_id(one, other), "prompt_id": records.prompt_id(text), "chosen_by": "hand"}
    return row | ids


def _preference(
    pair: str, judge: str, p_a: float, margin: float | None, votes: int | None, swapped: bool
) -> dict[str, Any]:
    row = dict.fromkeys(records.PREFERENCES.names) | {"pair_id": pair, "judge": judge, "votes": votes, "rule": "hand"}
    away = None if margin is None else -margin if swapped else margin
    return row | {"p_a": 1 - p_a if swapped else p_a, "margin": away}


def told(run: Run, *names: str) -> dict[str, Any]:
    """Of these judges or all; it must be JSON without NaN."""
    found = judging.judges(run, names or judging.known(run), Silent())
    json.dumps(found, allow_nan=False)
    return found


def only(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any]:
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


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
        | {"pair_id": _pair(SIX[at])["pair_id"], "annotator": str(person), "p_a": p_a, "votes": 1}
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


def many(root: Path, *, swapped: bool = False, seed: int = 0) -> Run:
    """Ten prompts of all pairs of three pictures by three models, each as bright as it likes."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(["word"] * (at % 4 + 1) + [str(at)]) for at in range(10)]
    names = {text: [f"{text} {letter}" for letter in "xyz"] for text in texts}
    pairs = [(text, *pair) for text in texts for pair in combinations(names[text], 2)]
    said = {judge: rng.choice([0.0, 0.2, 0.5, 0.8, 1.0], size=30).tolist() for judge in ("human", "clip", "pickscore")}
    looks = {name: int(rng.integers(256)) for each in names.values() for name in each}
    drew = {name: name[-1] for name in looks}
    return write(root, pairs, said, votes=rng.integers(1, 4, 30).tolist(), drew=drew, looks=looks, swapped=swapped)


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


def test_calibration_says_why_there_is_no_curve_and_no_slope(tmp_path):
    said = {"human": (1.0, 0.0, None), "clip": (1.0, 1.0, 1.0), "pickscore": (None, None, 0.9)}
    found = told(write(tmp_path, SIX[:3], said))["calibration"]
    sides, nothing = only(found, judge="clip"), only(found, judge="pickscore")
    assert (sides["why_not"], sides["ece"]) == ("it takes sides and gives no probability", None)
    assert (nothing["why_not"], nothing["pairs"]) == ("it has no pair in common with human", 0)
    assert sides["slope"] is nothing["slope"] is None
    assert "by chance" in sides["no_slope"]  # one right, one wrong
    assert "judged no pair" in nothing["no_slope"]


def test_a_judge_that_is_too_sure_has_a_slope_on_its_logits_below_one(tmp_path):
    pairs = [(f"prompt {at}", f"x{at}", f"y{at}") for at in range(20)]
    said = {"human": [1.0] * 15 + [0.0] * 5, "pickscore": [0.9] * 20, "clip": [1.0] * 20}
    found = told(write(tmp_path, pairs, said))["calibration"]
    # right in three of four where it says nine of ten: log 3 / log 9
    assert only(found, judge="pickscore")["logit_slope"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert only(found, judge="clip")["logit_slope"] is None


def test_the_slope_that_would_fit_comes_with_the_setting_that_sets_it(tmp_path):
    # margins of one size, 3 of 4 right: sigmoid(slope) = 3/4, slope log 3
    pairs = [(str(at), f"{at} x", f"{at} y") for at in range(40)]
    said = {"human": [1.0] * 30 + [0.0] * 10, "clip": [0.9] * 40, "elsewhere": [0.9] * 40}
    ones = [1.0] * 40
    run = write(tmp_path, pairs, said, margins={"clip": ones, "elsewhere": ones})
    found = told(run)["calibration"]
    row, unknown = only(found, judge="clip"), only(found, judge="elsewhere")
    assert row["slope"]["value"] == pytest.approx(math.log(3))
    # its standard error is 1 / sqrt(40 * 3/16) = 0.365
    assert row["slope"]["high"] - row["slope"]["value"] == pytest.approx(1.96 * 0.365, rel=1e-3)
    assert (row["set_it"], row["no_slope"]) == ("label.scorers.clip.slope=1.099", None)
    assert row["ece"]["value"] == pytest.approx(0.15)  # says 0.9, right in 0.75
    assert unknown["set_it"] is None  # no scorer of the recipe
    run.commit("answers", [dict.fromkeys(records.ANSWERS.names, "") | _answer()], "0", "clip")
    assert only(told(run)["calibration"], judge="clip")["set_it"] is None  # asked, so there is no slope to set


def _answer() -> dict[str, float]:
    return {"choice_a_first": 1.0, "choice_b_first": 0.0}


def test_slices_by_hand(tmp_path):
    # the judge is right where it is sure: margins 1, 2 wrong, 3 right, 4 right; prompts of one, two, two, two words
    pairs = [("one", "a", "b"), ("two two", "c", "d"), ("three three", "e", "f"), ("four four", "g", "h")]
    drew = dict(zip("abcdefgh", ("m", "m", "m", "n", "n", "m", "m", "n"), strict=True))
    said = {"human": (1.0, 1.0, 1.0, 0.0), "clip": (0.0, 0.0, 1.0, 0.0)}
    found = told(write(tmp_path, pairs, said, margins={"clip": (-1.0, -2.0, 3.0, -4.0)}, drew=drew))["slices"]
    shown = [(row["by"], row["slice"], row["pairs"], row["accuracy"]["value"]) for row in found]
    assert shown == [
        *(("margin", "1", 1, 0.0), ("margin", "2", 1, 0.0)),
        *(("margin", "3", 1, 1.0), ("margin", "4", 1, 1.0)),
        *(("length", "1 word", 1, 0.0), ("length", "2 words", 3, pytest.approx(2 / 3))),
        *(("models", "m | n", 3, pytest.approx(2 / 3)), ("models", "m | m", 1, 0.0)),
    ]


def test_prompts_of_the_grammar_have_categories_and_others_none(tmp_path):
    kinds: dict[str, str] = {}
    for text, scene in grammar.scenes().items():
        kinds.setdefault(scene.category, text)
    (first, one), (second, other) = list(kinds.items())[:2]
    pairs = [(one, "a", "b"), (one, "c", "d"), (other, "e", "f")]
    said = {"human": (1.0, 0.0, 1.0), "clip": (1.0, 1.0, 1.0)}
    found = told(write(tmp_path / "all", pairs, said))["slices"]
    shown = {row["slice"]: (row["pairs"], row["accuracy"]["value"]) for row in found if row["by"] == "category"}
    assert shown == {first: (2, 0.5), second: (1, 1.0)}
    mixed = told(write(tmp_path / "some", [*pairs[:2], ("a prompt of nobody's", "e", "f")], said))["slices"]
    assert "category" not in {row["by"] for row in mixed}


def test_votes_weigh_in_slices(tmp_path):
    pairs = [("one", "a", "b"), ("one", "c", "d"), ("two two", "e", "f")]
    said = {"human": (1.0, 0.0, 1.0), "clip": (1.0, 1.0, 1.0)}
    found = told(write(tmp_path, pairs, said, votes=(3, 1, 1)))["slices"]
    assert only(found, slice="1 word")["accuracy"]["value"] == 0.75


def test_more_pairs_of_models_than_are_shown_are_one_slice(tmp_path):
    pairs = [(str(at), f"{at} x", f"{at} y") for at in range(15)]
    drew = {name: f"m{at}" for at, (_, *names) in enumerate(pairs) for name in names}
    found = told(write(tmp_path, pairs, {"human": [1.0] * 15, "clip": [1.0] * 15}, drew=drew))["slices"]
    shown = [(row["slice"], row["pairs"]) for row in found if row["by"] == "models"]
    assert len(shown) == 13
    assert shown[-1] == ("3 others", 3)


def test_leanings_by_hand(tmp_path):
    # a is brighter, b is, alike, a is; the judge says a, a, a, tie
    looks = {"one x": 200, "one y": 100, "two x": 50, "two y": 100, "four x": 255, "four y": 0}
    found = told(write(tmp_path, SIX[:4], {"clip": (1.0, 0.9, 1.0, 0.5)}, looks=looks))["bias"]
    position, brightness = only(found, feature="position"), only(found, feature="brightness")
    assert (position["pairs"], position["share"]["value"]) == (3, 1.0)
    assert (brightness["pairs"], brightness["share"]["value"]) == (2, 0.5)
    assert only(found, feature="saturation")["share"] == NOTHING  # grey has none of it


def test_pixels_are_read_of_so_many_pairs_as_asked(tmp_path):
    run = write(tmp_path, SIX, {"clip": [1.0] * 6}, "compare.pixel_pairs=0", looks={"one x": 0})
    assert {row["feature"] for row in told(run)["bias"]} == {"position"}
    some = write(tmp_path / "some", SIX, {"clip": [1.0] * 6}, "compare.pixel_pairs=2", looks={n: 0 for _, n, _ in SIX})
    assert only(told(some)["bias"], feature="brightness")["pairs"] == 2


def test_pictures_are_decoded_once_ever(tmp_path, monkeypatch):
    run = many(tmp_path)
    first = told(run)
    monkeypatch.setattr(pixels, "decode_image", lambda data: pytest.fail("decoded again"))
    assert told(run) == first


def test_a_picture_that_is_lost_or_broken_is_named(tmp_path):
    run = write(tmp_path, ONE, {"clip": (1.0,)})
    rows = run.read("images", records.IMAGES.names).to_pylist()
    broken = {"bytes": b"no picture", "path": ""}
    run.commit("images", [rows[0], rows[1] | {"image": broken}], "0")
    with pytest.raises(DataError, match=rows[1]["image_id"]):
        told(run)
    run.commit("images", rows[:1], "0")
    with pytest.raises(DataError, match=f"{rows[1]['image_id']}.*ddpo generate"):
        told(run)


def test_a_run_without_pairs_says_what_to_do(tmp_path):
    run = Run(tmp_path, config.load("shapes", list(SETTINGS)))
    with pytest.raises(UserError, match="no pairs; run `ddpo generate`"):
        judging.judges(run, [], Silent())


def voted(root: Path, votes: Mapping[int, Mapping[str, float]], pairs: Sequence[Row] = SIX, count: int = 1) -> Run:
    """A run with votes of people: pair -> person -> p_a."""
    run = write(root, pairs, {"clip": [1.0] * len(pairs)})
    rows = [
        dict.fromkeys(records.VOTES.names)
        | {"pair_id": _pair(pairs[at])["pair_id"], "annotator": name, "p_a": p_a, "votes": count}
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
    run.commit("pairs", [_pair(SIX[0])], "0")
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
