"""The report's folder and page: all that is said is in report.json, nothing becomes markup, what is empty says so."""

import copy
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.compare import page, pictures, report, training, wording
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run, encode_image
from tests import reports

PLOTLY = 4_900_000  # bytes of its bundle


class Words(HTMLParser):
    """What is read on a page, the elements it has, and where they lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.kinds, self.links, self.ids, self.silent = [], [], [], [], False
        self.feed(text)
        self.said = re.sub(r"\s+", " ", " ".join(self.words))  # non-breaking spaces as well

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.kinds.append(tag)
        self.links += [told[key] for key in ("src", "href") if told.get(key)]
        self.ids += [told["id"]] if "id" in told else []
        self.silent = tag in ("style", "script", "title")
        if tag == "img":
            assert told["alt"] is not None

    def handle_endtag(self, tag):
        self.silent = False

    def handle_data(self, data):
        if not self.silent:
            self.words.append(data)


def opened(root: Path, images: list[str] = (), side: int = 8) -> Run:
    run = Run(root, config.load("shapes"))
    rng = np.random.default_rng(0)
    rows = [
        {"image_id": image, "prompt_id": "p", "model": "m", "seed": 0, "image": {"bytes": picture, "path": None}}
        for image in images
        for picture in [encode_image(Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)))]
    ]
    if rows:
        run.commit("images", rows, "000000", "base")
    return run


def logged(folder: Path, steps: int) -> None:
    folder.mkdir(parents=True)
    rows = [{"step": step, "implicit_accuracy": 0.5, "winner_drift": 0.0} for step in range(steps)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))


def shown(told: dict, root: Path) -> Words:
    """The page of a result, without figures, which take seconds."""
    told |= {"curves": told.get("curves", []), "files": {"tables": [], "figures": {}, "cards": {}}}
    return Words(page.render(told, {}, {}))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the awkward result, with its pictures and one policy's log."""
    told = reports.example()
    run = opened(tmp_path_factory.mktemp("a report") / "run", pictures.wanted(told))
    logged(run.policy_folder("human", 0), 9)
    report.write(run, told, run.report, Silent())
    assert json.loads((run.report / "report.json").read_text()) == told
    return run.report


@pytest.fixture(scope="module")
def read(written: Path) -> Words:
    return Words((written / "index.html").read_text())


# -- the folder ------------------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_file_and_none_to_a_network(written, read):
    for link in read.links:
        if link.startswith("#"):
            assert link[1:] in read.ids
        elif link != "data:,":
            assert (written / unquote(link)).exists(), link
    assert len(read.ids) == len(set(read.ids))


def test_every_number_on_the_page_is_in_report_json(written, read):
    numbers: list[float] = []

    def collect(node: object) -> None:
        if isinstance(node, dict | list):
            for one in node.values() if isinstance(node, dict) else node:
                collect(one)
        elif isinstance(node, float):
            numbers.append(node)

    collect(json.loads((written / "report.json").read_text()))
    shares = {round(100 * number) for number in numbers}
    found = {int(percent) for percent in re.findall(r"(\d+) %", read.said)}
    assert len(found) > 10
    assert found <= {*shares, 95, 100, 73}  # the confidence; the zoom; what a difference of 1 means


def test_the_parts_that_lie_beside_the_page_are_listed(written):
    told = json.loads((written / "report.json").read_text())
    assert [panel["column"] for panel in told["curves"]] == ["implicit_accuracy", "winner_drift"]
    files = told["files"]
    assert "training" in files["figures"]
    listed = [*files["tables"], *files["figures"].values(), *files["cards"].values()]
    assert {"tables", "figures", "cards"} == {name.split("/")[0] for name in listed}
    assert all((written / name).exists() for name in listed)


def test_a_second_report_writes_no_drawing_and_no_library_again_and_what_it_lacks_goes(tmp_path):
    told = reports.example() | {"sets": []}
    run = opened(tmp_path / "run")
    report.write(run, copy.deepcopy(told), run.report, Silent())
    kept = [run.report / "plotly.min.js", *(run.report / "figures").iterdir()]
    before = {path: path.stat().st_ino for path in kept}
    (run.report / "figures" / "mine.png").write_bytes(b"mine")
    (run.report / "notes.txt").write_text("mine")

    report.write(run, told, run.report, Silent())
    assert {path: path.stat().st_ino for path in kept} == before

    alone = {**reports.example(), "judges": None, "sets": [], "policies": [], "compared": [], "headline": []}
    report.write(run, alone, run.report, Silent())
    left = {path.relative_to(run.report).as_posix() for path in run.report.rglob("*") if path.is_file()}
    assert left == {
        "index.html",
        "report.json",
        "figures/mine.png",
        "notes.txt",
        *(f"tables/costs_of_{part}.{suffix}" for part in ("labels", "policies") for suffix in ("csv", "tex")),
    }


def test_five_hundred_prompts_stay_under_fifteen_megabytes(tmp_path, monkeypatch):
    told = reports.example()
    row = told["sets"][0]["gallery"][1]
    told["sets"] = told["sets"][:1]
    told["sets"][0]["gallery"] = [
        {
            **row,
            "prompt": f"{at} " + "a long prompt of a person " * 4,
            "images": [_cell(at, cell) for cell in row["images"]],
        }
        for at in range(500)
    ]
    monkeypatch.setattr(report.figures, "write", lambda *_: {})
    run = opened(tmp_path)
    run.write(run.report / report.PLOTLY, lambda file: file.write(b""))
    monkeypatch.setattr(report, "_plotly", lambda *_: None)

    report.write(run, told, run.report, Silent())

    sizes = sum((run.report / name).stat().st_size for name in ("index.html", "report.json"))
    figures = 600_000
    assert pictures.BUDGET + PLOTLY + sizes + figures < 15_000_000


def _cell(at: int, cell: dict) -> dict:
    return {
        **cell,
        "image": reports.image(at, cell["policy"]),
        "scores": dict.fromkeys(reports.SCORERS, 0.123456789 + at),
    }


# -- what it says ----------------------------------------------------------------------------------------------------


def test_nothing_in_a_name_or_a_prompt_becomes_markup(read):
    assert read.said.count(reports.ODD_PROMPT) == 4  # two sets' galleries, two disputes
    assert reports.ODD in read.said
    assert "script" not in [kind for kind in read.kinds if kind == "b"]
    assert read.kinds.count("script") == 3  # what to draw, the library, what to do


def test_people_who_are_simulated_are_called_so_wherever_they_are_shown(read):
    assert not re.search(r"\bhuman\b(?! \(simulated\))", read.said)


def test_headline_cautions_and_method_are_there_word_for_word(read):
    told = reports.example()
    for sentence in (*told["headline"], *told["cautions"], told["method"]):
        assert sentence in read.said


def test_a_scorer_that_judges_its_own_work_is_marked_and_what_is_undefined_is_said(written):
    text = (written / "index.html").read_text()
    own = re.search(r"<button[^>]*judges its own work[^>]*>.*?</button>", text, re.DOTALL)
    assert own and "<sup>*</sup>" in own[0]
    assert "undefined" in text
    assert "None" not in Words(text).said
    assert "nan" not in Words(text).said.lower().split()


def test_a_missing_picture_says_so_and_has_no_link(tmp_path):
    found = shown(reports.example(), tmp_path)
    assert found.said.count("picture missing") == 2 * 3 * len(reports.NAMES) + 4
    assert not any("thumbnails" in link or "pictures" in link for link in found.links)


# -- what is empty ---------------------------------------------------------------------------------------------------


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


# -- training curves -------------------------------------------------------------------------------------------------


def test_running_means_lie_at_the_last_step_that_they_hold():
    # eight steps: a window of 8 / 4 = 2, so means of (1, 3), (3, 5), ... at steps 2, 3, ...
    steps, means = training.smoothed(np.arange(1.0, 9.0), np.arange(1.0, 17.0, 2.0))
    assert steps.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert means.tolist() == [2, 4, 6, 8, 10, 12, 14]


def test_a_window_is_twenty_steps_and_shrinks_so_that_a_short_training_shows():
    for trained, left in ((400, 381), (80, 61), (40, 31), (19, 16), (3, 3), (1, 1)):
        assert len(training.smoothed(np.arange(trained), np.zeros(trained))[0]) == left


@given(st.integers(1, 2000))
def test_thinning_keeps_the_ends_and_few_points_in_order(count):
    steps, values = training.thinned(np.arange(count), np.arange(count) / 3)
    assert len(steps) == min(count, training.POINTS)
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert (np.diff(steps) > 0).all()
    assert values == pytest.approx(steps / 3, rel=1e-5)


def test_a_panel_has_those_policies_that_logged_its_number(tmp_path):
    run, told = opened(tmp_path), reports.example()
    logged(run.policy_folder("human", 0), 3)
    logged(run.policy_folder("random", 1), 3)  # not its first training seed
    found = training.curves(run, told)
    assert [panel["column"] for panel in found] == ["implicit_accuracy", "winner_drift"]
    assert [[line["policy"] for line in panel["lines"]] for panel in found] == [["human"], ["human"]]
    assert found[0]["lines"][0] == {"policy": "human", "seed": 0, "steps": [1, 2, 3], "values": [0.5, 0.5, 0.5]}


def test_held_out_accuracy_is_a_point_for_each_time_it_was_asked():
    panel = training.PANELS[1]
    history = [{"step": step} | ({"held_out_accuracy": 0.6} if step % 10 == 9 else {}) for step in range(100)]
    ((steps, values),) = training.line(panel, history)
    assert steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert values.tolist() == [0.6] * 10


def test_a_policy_of_another_run_has_its_curves_from_there(tmp_path):
    told = reports.example()
    told["policies"][4]["where"] = str(tmp_path / "other" / "policies" / "human")
    logged(tmp_path / "other" / "policies" / "human" / "seed-0", 3)
    (panel, _) = training.curves(opened(tmp_path / "run"), told)
    assert [line["policy"] for line in panel["lines"]] == ["other/human"]


def test_a_log_that_cannot_be_read_is_an_error(tmp_path):
    run = opened(tmp_path)
    logged(run.policy_folder("human", 0), 1)
    (run.policy_folder("human", 0) / "metrics.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        training.curves(run, reports.example())
