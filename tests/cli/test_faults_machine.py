"""Clocks that jump, scorers that give what no scorer may, pictures that do not open in one share, formats of pictures."""

import datetime
import hashlib
import itertools
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aifeedback_dpo import provenance, scorers
from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.scorers import presence
from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import TINY, ddpo
from tests.labelling import files, own, said, views

FEW = (*TINY, "prompts.train=3", "generate.candidates=2", "generate.pairs=1", "generate.steps=1")
YEAR = 365 * 86400


def failed(*arguments: str, run: Path, code: int) -> str:
    result = ddpo(*arguments, run=run)
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    return lines[0]


def good(*arguments: str, run: Path) -> str:
    result = ddpo(*arguments, run=run)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures, labelled."""
    run = tmp_path_factory.mktemp("judged") / "run"
    good("generate", *FEW, run=run)
    good("label", run=run)
    return run


# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("jumps", [(0, -YEAR), (0, YEAR), (0, YEAR, -YEAR)], ids=["back", "on", "about"])
def test_a_clock_that_jumps_changes_no_part_and_stops_nothing(judged, tmp_path, monkeypatch, jumps):
    real, offsets = time.time, itertools.cycle(jumps)
    now = SimpleNamespace(
        now=lambda zone: datetime.datetime.fromtimestamp(real() + next(offsets), zone),
    )
    monkeypatch.setattr(time, "time", lambda: real() + next(offsets))
    monkeypatch.setattr(provenance, "datetime", SimpleNamespace(datetime=now, UTC=datetime.UTC))
    run = tmp_path / "run"
    good("generate", *FEW, run=run)
    good("label", run=run)
    assert "done" in good("status", run=run)
    entries = json.loads(ddpo("status", "--json", run=run).stdout)["made_by"].values()
    years = {entry[stamp][:4] for entry in entries for stamp in ("started", "finished") if stamp in entry}
    assert len(years) == len(jumps)  # it did jump
    assert {name: data for name, data in files(run).items() if name.endswith(".parquet")} == {
        name: data for name, data in files(judged).items() if name.endswith(".parquet")
    }


# -- scorers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)  # 12 pictures in slices of 5


@pytest.mark.parametrize(
    ("name", "words"),
    [("Endless", "gave an infinite score"), ("Short", "gave an array of shape (1,) for 2 pictures")],
)
def test_a_share_that_is_given_no_scores_is_one_line_and_says_so(run, name, words):
    for share in ("0/2", "1/2"):
        told = failed("label", "-s", own(name), "--shard", share, run=run.root, code=2)
        assert f"scorer {own(name)} {words}" in told
        assert "failed" in good("status", run=run.root)
    assert not run.parts("scores", name.lower())
    assert not run.parts("preferences")
    workers = json.loads(ddpo("status", "--json", run=run.root).stdout)["workers"]
    assert [(worker["status"], words in worker["error"]) for worker in workers] == [("failed", True)] * 2


def test_scores_that_are_missing_are_missing_in_shares_too(run):
    straight = Run(Path(shutil.copytree(run.root, run.root.with_name("straight"))), run.recipe)
    said("-s", own("Picky"), run=straight)
    for number in range(3):
        told = said("-s", own("Picky"), "--shard", f"{number}/3", run=run)
    assert "picky: 0 prefer a, 3 prefer b, 3 ties, 6 missing" in told
    tables = ("scores", "preferences")
    kept = {name: data for name, data in files(straight.root).items() if name.startswith(tables)}
    assert {name: data for name, data in files(run.root).items() if name.startswith(tables)} == kept


def test_a_scorer_that_breaks_later_leaves_what_is_finished(run, monkeypatch):
    ask = ("-s", own("Warmth"))
    said(*ask, run=run)
    before = files(run.root / "preferences")
    lost = run.parts("scores", "warmth")[1]
    kept = lost.read_bytes()
    lost.unlink()
    import own_scorers

    with monkeypatch.context() as patched:
        patched.setattr(own_scorers.Warmth, "score", own_scorers.Endless.score)
        assert "infinite" in failed("label", *ask, run=run.root, code=2)
    assert run.manifest()["made_by"]["label/warmth"]["status"] == "failed"
    assert files(run.root / "preferences") == before
    said(*ask, run=run)
    assert run.manifest()["made_by"]["label/warmth"]["status"] == "done"
    assert lost.read_bytes() == kept
    assert files(run.root / "preferences") == before


def test_a_judge_that_leaves_pairs_out_has_failed(run, monkeypatch):
    judge = SimpleNamespace(recipe="r", ask=lambda first, second, prompts: [])
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: judge)
    monkeypatch.setattr(presence, "demand", lambda weights: None)
    told = failed("label", "-s", "vlm", run=run.root, code=2)
    assert "judge vlm gave 0 answers about 2 pairs; it must give one a pair" in told
    assert run.manifest()["made_by"]["label/vlm"]["status"] == "failed"


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["012", "120", "201"])
def test_a_picture_that_does_not_open_in_one_share_is_told_and_the_others_go_on(run, order):
    (part,) = run.parts("images")
    rows = pq.read_table(part).to_pylist()
    rows[0]["image"]["bytes"] = b"no picture"
    part.unlink()
    run.commit("images", rows, "x", "base")
    for share in order:
        last = share == order[-1]
        arguments = ("label", "-s", own("Warmth"), "--shard", f"{share}/3")
        if share == "0" or last:  # the first five pictures are in share 0
            told = failed(*arguments, run=run.root, code=3)
            assert "1 images cannot be read" in told and "image-0-0" in told
        else:
            good(*arguments, run=run.root)
        assert bool(run.parts("preferences", "warmth")) == last
    assert "1 pictures cannot be read" in good("status", run=run.root)
    assert np.isnan(views(run, "warmth")).tolist() == [True, False, False, True, *[False] * 8]
    restored = {**rows[0], "image": {"bytes": encode_image(Image.new("RGB", (8, 8))), "path": None}}
    run.parts("images")[0].unlink()
    run.commit("images", [restored, *rows[1:]], "x", "base")
    for share in ("0/2", "1/2"):  # the first scores it, and what a share of three had told is past
        good("label", "-s", own("Warmth"), "--shard", share, run=run.root)
    assert not np.isnan(views(run, "warmth")).any()


@pytest.mark.slow
def test_a_png_is_the_same_picture_and_a_jpeg_is_another(judged, tmp_path):
    shown = {}
    for kind in ("png", "jpeg"):
        good("generate", *FEW, f"generate.format={kind}", run=tmp_path / kind)
    for kind, folder in (("webp", judged), ("png", tmp_path / "png"), ("jpeg", tmp_path / "jpeg")):
        opened = open_run(folder, None)
        told = {row["image_id"]: row["pixel_sha256"] for row in opened.rows("images")}
        for name, data in opened.images(list(told)):
            assert hashlib.sha256(decode_image(data).tobytes()).hexdigest() == told[name]
        shown[kind] = told
    assert shown["png"] == shown["webp"]
    assert not shown["jpeg"].keys() & shown["webp"].keys()
    assert not set(shown["jpeg"].values()) & set(shown["webp"].values())
