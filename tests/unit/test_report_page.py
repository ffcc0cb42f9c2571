"""The page of a report: what is empty or missing says so, and how numbers, intervals and prompts are put."""

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aifeedback_dpo.compare import page, wording
from tests import reports
from tests.words import Words


def shown(told: dict, root: Path) -> Words:
    """The page of a result, without figures, which take seconds."""
    told |= {"curves": told.get("curves", []), "files": {"tables": [], "figures": {}, "cards": {}}}
    return Words(page.render(told, {}, {}))


# -- what is empty ---------------------------------------------------------------------------------------------------


def test_a_missing_picture_says_so_and_has_no_link(tmp_path):
    found = shown(reports.example(), tmp_path)
    assert found.said.count("picture missing") == 2 * 3 * len(reports.NAMES) + 4
    assert not any("thumbnails" in link or "pictures" in link for link in found.links)


def test_judges_alone(tmp_path):
    told = {**reports.example(), "policies": [], "sets": [], "compared": [], "differ_in": []}
    found = shown(told, tmp_path)
    assert found.said.count("Judges against judges") == 3  # contents, the title of the page, the part
    assert "Same prompt, same seed" not in found.said
    assert "training" not in found.ids


def test_no_judges_no_costs_no_factors_no_guards(tmp_path):
    told = {**reports.example(), "judges": None, "costs": None}
    for one in told["sets"]:
        one |= {"factors": None, "guards": [], "scorers_alone": None, "gallery": []}
    found = shown(told, tmp_path)
    assert "Nobody recorded what anything cost." in found.said
    assert "No pictures are shown" in found.said
    assert "Labels or pictures?" not in found.said
    assert "Guards" not in found.said


def test_nothing_that_measures(tmp_path):
    told = reports.example()
    told["sets"] = [{**told["sets"][0], "primary": None, "metrics": [], "duels": [], "means": [], "factors": None}]
    assert "No scorer measured these pictures" in shown(told, tmp_path).said


def test_one_judge_one_prompt_one_seed_and_identical_policies(tmp_path):
    told = reports.example()
    told["sets"] = told["sets"][:1]
    told["sets"][0] |= {"prompts": 1, "factors": None}
    same = {"value": 0.5, "low": 0.5, "high": 0.5, "prompts": 1}
    for row in told["sets"][0]["duels"]:
        row |= {"win_rate": same, "over_seeds": None, "seeds": [0], "wins": 0, "losses": 0, "ties": 1}
        row |= {"win_rate_by_seed": [0.5], "seed_sd": None, "sign_test": 1.0, "holm": 1.0}
    judges = told["judges"]
    judges |= {"names": ["clip"], "matrix": [], "tau": [], "calibration": [], "slices": [], "disputed": []}
    found = shown(told, tmp_path)
    assert "One prompt: whatever is seen here says nothing of another." in found.said
    assert "One judge alone: there is nobody to agree with." in found.said
    assert "Every picture of human (simulated) ties with the base model's under every metric" in found.said
    assert "50 % [50, 50]" in found.said


def test_what_no_metric_could_measure_is_not_called_alike(tmp_path):
    told = reports.example()
    for row in told["sets"][0]["duels"]:
        row |= {"wins": 0, "ties": 0, "losses": 0}
    assert "ties with the base model's under every metric" not in shown(told, tmp_path).said


def test_of_many_policies_each_two_are_a_cell(tmp_path):
    told = reports.example()
    found = told["sets"][0]
    pairs = [("=cmd|x", "human"), ("random", "human"), ("random", "=cmd|x")]
    more = [{**row, "policy": one, "against": other} for one, other in pairs for row in found["duels"][:4]]
    found["duels"] += more
    told["compared"] = ["human", reports.ODD, "=cmd|x", "random"]
    text = shown(told, tmp_path)
    assert "4 policies against each other" in text.said
    assert "Each two are there once." in text.said


def test_a_calibration_error_stands_beside_that_of_chance_and_a_judge_too_sure_is_marked(tmp_path):
    told = reports.example()
    said = shown(told, tmp_path).said
    # est(x) is x with an interval of 0.05 on either side: 0.6 is a slope on logits that is clear of 1
    assert "0.0800 [0.0300, 0.130] by chance 0.0773" in said
    assert "▼ 0.600 [0.550, 0.650]" in said
    assert '<button type="button" class="copy" data-copy="set-it-1"' in page.render(told, {}, {})
    told["judges"]["calibration"][0]["logit_slope"] = reports.est(0.98)
    assert " ▼ 0.980" not in shown(told, tmp_path).said


def test_seeds_of_a_metric_that_is_yes_or_no_differ_by_points(tmp_path):
    told = reports.example()
    (row,) = [
        row
        for row in told["sets"][0]["means"]
        if (row["policy"], row["metric"], row["category"]) == ("human", "correct", None)
    ]
    row |= {"mean": reports.est(0.5), "seed_sd": 0.034}
    assert "50 % [45, 55] seeds ± 3.4 points" in shown(told, tmp_path).said


def test_people_who_can_be_told_apart_are_the_ceiling(tmp_path):
    told = reports.example()
    people = {"pairs": 9, "people": 3, "agreement": reports.est(0.8), "alpha": None, "about": "two people at random"}
    told["judges"]["people"] = people
    said = shown(told, tmp_path).said
    assert "On the 9 pairs that several of the 3 people judged, two of them agree in 80 % [75, 85]" in said
    assert "alpha is undefined here" in said


# -- numbers and drawings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0042, "−0.00420"), (12.3456, "12.3"), (1234.5, "1234"), (2e7, "2.00e7"), (3e-6, "3.00e−6")],
)
def test_a_number_has_three_digits_and_a_real_minus(value, text):
    assert wording.number(value) == text


def test_a_share_with_its_interval():
    found = {"value": 0.574, "low": 0.518, "high": 0.612, "prompts": 9}
    assert (wording.percent(found), wording.shares(found)) == ("57\u00a0%", "[52, 61]")
    assert (wording.percent(reports.UNDEFINED), wording.shares(reports.UNDEFINED)) == ("–", "")
    assert wording.percent(-0.001) == "0\u00a0%"


def test_a_cell_is_coloured_only_where_the_whole_interval_is_on_one_side():
    def heat(low: float | None, high: float | None) -> str:
        return wording.heat({"value": 0.5, "low": low, "high": high, "prompts": 9}, 0.5, 0.1)

    assert heat(0.51, 0.7) == "up"
    assert heat(0.61, 0.7) == "up strong"
    assert heat(0.3, 0.39) == "down strong"
    assert heat(0.5, 0.9) == heat(None, None) == "even"
    assert wording.heat(None, 0.5, 0.1) == "even"


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(-1e6, 1e6))
def test_a_drawn_interval_stays_in_its_frame(values, level):
    low, value, high = sorted(values)
    drawn = wording.whisker({"value": value, "low": low, "high": high, "prompts": 3}, low, high, level)
    for place in re.findall(r"[MH]([-\d.e+]+)", drawn):
        assert 0 <= float(place) <= 100


@settings(deadline=None, max_examples=40)
@given(st.text())
@example("</script><script>alert(1)</script>")
def test_no_prompt_ends_the_element_that_it_is_in(text):
    told = reports.example()
    told["headline"] = [text]
    told["sets"], told["judges"], told["policies"] = [], None, []
    told["titles"][text] = text
    told |= {"curves": [], "files": {"tables": [], "figures": {}, "cards": {}}}
    made = page.render(told, {}, {"plot-x": {"data": [{"name": text}], "layout": {}}})
    assert made.count("<script") == 3
    assert made.count("</script") == 3
    assert json.loads(html.unescape(re.search(r'id="plots">(.*?)</script>', made)[1]))["plot-x"]["data"] == [
        {"name": text}
    ]
