"""How far one judge is to be trusted, on runs made by hand: its calibration, the slices in which it is right, its leanings."""

import math

import pytest

from aifeedback_dpo import records
from aifeedback_dpo.compare import pixels
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.shapes import grammar
from tests.judged import NOTHING, ONE, SIX, many, only, told, write


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
