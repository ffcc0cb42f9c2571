"""The report's folder: all that is said is in report.json, nothing becomes markup, and training has its curves."""

import copy
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.compare import pictures, report, training
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run
from tests import reports
from tests.words import Words

PLOTLY = 4_900_000  # bytes of its bundle


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
