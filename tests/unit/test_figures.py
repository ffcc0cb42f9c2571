"""Figures for paper and on the page: whose line is whose, what is drawn again, and that names stay names."""

import copy
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.compare import figures, looks, plots
from aifeedback_dpo.records import CONTROL
from aifeedback_dpo.store import Run
from tests import reports

CSS = Path(figures.__file__).parent / "templates" / "report.css"
LINE = {"policy": "human", "seed": 0, "steps": [1, 2, 3], "values": [0.5, 0.6, 0.7]}
PANEL = {"column": "implicit_accuracy", "title": "Implicit accuracy", "about": "a share", "level": 0.5, "asked": False}


def told() -> dict:
    return reports.example() | {"curves": [{**PANEL, "lines": [LINE, {**LINE, "policy": reports.ODD}]}]}


def strings(node: object) -> list[str]:
    """Every string in a plot."""
    if isinstance(node, dict | list):
        return [text for one in (node.values() if isinstance(node, dict) else node) for text in strings(one)]
    return [node] if isinstance(node, str) else []


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# -- whose line is whose ---------------------------------------------------------------------------------------------


def test_policies_of_one_judge_share_a_colour_and_no_two_look_alike():
    variants = ("", "+sft", "+beta500", "+mapo", "+kto", "+ipo")
    judges = ("a", "b", "c", "d", "e", "f", CONTROL)
    rows = [{"policy": f"{judge}{variant}", "judge": judge} for judge in judges for variant in variants]
    found = looks.of_policies(rows)
    assert found["a"].colour == found["a+sft"].colour != found["b"].colour
    assert found["a"].dash != found["a+sft"].dash
    assert {look.colour for name, look in found.items() if name.startswith(CONTROL)} == {looks.GREY}
    assert len({(look.colour, look.dash) for look in found.values()}) == len(rows)


def test_judges_differ_in_symbol_as_well_as_in_colour():
    found = looks.of_judges(["human", "clip", "pickscore", CONTROL])
    assert len({look.colour for look in found.values()}) == len({look.symbol for look in found.values()}) == 4


def test_every_colour_stands_out_on_either_ground_and_the_page_has_the_same():
    light, dark = (dict(re.findall(r"--(c\d|grey): (#\w{6})", part)) for part in CSS.read_text().split("@media")[:2])
    assert (light, dark) == tuple({name: pair[at] for name, pair in looks.COLOURS.items()} for at in (0, 1))
    grounds = [re.search(r"--raised: (#\w{6})", part)[1] for part in CSS.read_text().split("@media")[:2]]
    for pair in looks.COLOURS.values():
        for colour, ground in zip(pair, grounds, strict=True):
            assert contrast(colour, ground) >= 3


# -- on the page -----------------------------------------------------------------------------------------------------


def test_plotly_takes_every_figure():
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    found = plots.plots(told())
    assert list(found) == ["plot-calibration", "plot-factors-0", "plot-implicit_accuracy"]
    for plot in found.values():
        go.Figure(json.loads(re.sub(r"var\(--\w+\)", "#123456", json.dumps(plot))))


def test_a_name_in_a_live_figure_is_no_markup():
    said = strings(plots.plots(told()))
    assert not any("<" in text for text in said if "hovertemplate" not in text)
    assert any("judge_&lt;b&gt;&amp;$1" in text for text in said)


def test_colours_of_a_live_figure_are_the_pages_own():
    named = {name for text in strings(plots.plots(told())) for name in re.findall(r"^var\(--(\w+)\)$", text)}
    assert named
    assert named <= set(re.findall(r"--(\w+):", CSS.read_text()))


def test_what_is_undefined_is_no_point():
    calibration = plots.plots(told())["plot-calibration"]["data"]
    (judge,) = [trace for trace in calibration if trace["mode"] == "lines+markers"]
    assert (judge["x"], judge["y"]) == ([0.55], [0.6])  # its second bin has no pairs


def test_an_interval_is_drawn_from_its_own_ends():
    result = told()
    result["judges"]["calibration"][0]["bins"][0]["share"] = {"value": 0.6, "low": 0.5, "high": 0.9, "prompts": 9}
    error = plots.plots(result)["plot-calibration"]["data"][1]["error_y"]
    assert (error["array"], error["arrayminus"]) == ([pytest.approx(0.3)], [pytest.approx(0.1)])


def test_nothing_to_draw_is_no_figure():
    alone = told() | {"judges": None, "sets": [], "curves": []}
    assert plots.plots(alone) == figures.drawings(alone) == {}


# -- on paper --------------------------------------------------------------------------------------------------------


def test_a_figure_for_each_part_and_only_what_changed_is_drawn_again(tmp_path):
    run, result = Run(tmp_path, config.load("shapes")), told()
    result["sets"] = result["sets"][:1]
    names = figures.write(run, result, tmp_path)
    assert list(names) == ["win_rates-0", "factors-0", "agreement", "calibration", "training"]
    files = {path.name: path for path in (tmp_path / "figures").iterdir()}
    assert set(files) == {f"{name}.{suffix}" for name in names for suffix in ("png", "pdf")}
    assert all(path.read_bytes()[:4] == b"%PDF" for name, path in files.items() if name.endswith("pdf"))
    before = {name: path.stat().st_ino for name, path in files.items()}

    changed = copy.deepcopy(result)
    changed["judges"]["matrix"][0]["rules"]["decided"] = reports.est(0.9)
    figures.write(run, changed, tmp_path)

    after = {name: path.stat().st_ino for name, path in files.items()}
    assert {name for name in after if after[name] != before[name]} == {"agreement.png", "agreement.pdf"}


def test_an_agreement_of_two_is_one_cell_and_names_are_no_mathematics(tmp_path):
    run, result = Run(tmp_path, config.load("shapes")), told() | {"sets": [], "curves": []}
    result["judges"]["calibration"] = []
    result["judges"]["matrix"] = result["judges"]["matrix"][:1]
    result["titles"][reports.ODD] = "$x^2$ & <b>"
    assert list(figures.write(run, result, tmp_path)) == ["agreement"]
    with Image.open(tmp_path / "figures" / "agreement.png") as drawn:
        assert drawn.size[0] > 200
