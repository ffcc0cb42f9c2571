"""What all formats have in common: counted before written, in bounded files, the winner first, nothing of this machine."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from aifeedback_dpo import config, records
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.export import pairs, parts, target
from aifeedback_dpo.export.formats import FORMATS
from aifeedback_dpo.export.pair import Pair, Picture, model_name
from aifeedback_dpo.export.run import plan
from aifeedback_dpo.parts import Album
from aifeedback_dpo.store import Run
from tests import exports, labelled
from tests.exports import exported


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return exports.write(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def truth(run) -> list[dict]:
    return exports.told(run)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("format", FORMATS)
def test_a_dry_run_counts_what_an_export_writes(run, tmp_path, format):
    planned = plan(run, format, tmp_path / "set", "human")

    assert not list(tmp_path.iterdir())
    assert planned == exported(run, format, tmp_path / "set")
    pictures = 12 if format == "label-studio" else 2 * planned.pairs
    mean = np.mean([len(data) for _, data in run.images(run.done("images"))])
    assert planned.bytes == pytest.approx(pictures * mean, abs=100 * pictures)  # Parquet keeps some bytes beside


@pytest.mark.parametrize("format", ["pickapic", "unpaired", "webdataset"])
def test_files_are_bounded_and_hold_every_row_once(run, truth, tmp_path, format, monkeypatch):
    exported(run, format, tmp_path / "one")
    monkeypatch.setattr(parts, "ROWS", 2)
    monkeypatch.setattr(pairs, "SLICE_PAIRS", 1)
    exported(run, format, tmp_path / "several")

    whole, cut = (load_dataset(str(tmp_path / name), split="train") for name in ("one", "several"))
    key = {"pickapic": "ranking_id", "unpaired": "pair_id", "webdataset": "__key__"}[format]
    assert cut[key][:] == whole[key][:]
    train = [path for path in (tmp_path / "several" / "data").iterdir() if path.name.startswith("train")]
    assert len(train) == (2 if format == "unpaired" else 3)  # two pairs each, of four or five


def test_a_file_ends_where_its_bytes_are_enough(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "BYTES", 1)
    monkeypatch.setattr(pairs, "SLICE_PAIRS", 1)
    exported(run, "pickapic", tmp_path / "set")

    assert len(list((tmp_path / "set" / "data").iterdir())) == 7


def test_pictures_are_held_a_slice_at_a_time(run, tmp_path, monkeypatch):
    asked = []
    images = Album.images
    monkeypatch.setattr(Album, "images", lambda self, wanted: asked.append(len(wanted)) or images(self, wanted))
    monkeypatch.setattr(pairs, "SLICE_BYTES", 1)
    exported(run, "pickapic", tmp_path / "set")

    assert asked == 7 * [2]


@pytest.mark.parametrize(
    "p_a", [np.nextafter(np.float32(0.5), np.float32(0)), np.nextafter(np.float32(0.5), np.float32(1))]
)
def test_the_preferred_picture_is_preferred_in_float32_however_slightly(p_a):
    a, b = (Picture(name, "", b"") for name in "ab")
    pair = Pair(0, "pair", "prompt", "train", a, b, float(p_a), None, 0, 1)

    chosen, _, p_chosen = pair.chosen_first
    assert chosen is (a if p_a > 0.5 else b)
    assert np.float32(p_chosen) > 0.5


def test_a_tie_has_no_winner():
    a, b = (Picture(name, "", b"") for name in "ab")
    with pytest.raises(AssertionError, match="no winner"):
        _ = Pair(0, "pair", "prompt", "train", a, b, 0.5, None, 0, 1).chosen_first


def test_nothing_but_ties_is_nothing_to_hold(run, tmp_path):
    only = Run(labelled.write(tmp_path / "run", "label.raters=null", said={"human": 8 * (0.5,)}), run.recipe)

    with pytest.raises(UserError, match=r"chosen-rejected has nothing to hold: all 8 pairs are left out \(ties: 8\)"):
        exported(only, "chosen-rejected", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_one_export_at_a_time_writes_a_folder(tmp_path):
    with target.whole(tmp_path / "set") as partial:
        (partial / "first.txt").write_text("kept")
        with pytest.raises(UserError, match="another `ddpo export` is writing"), target.whole(tmp_path / "set"):
            pass
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["first.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_ids_without_a_match_are_null_and_the_order_is_the_left_tables():
    left = pa.table({"id": ["b", "x", "a"]})
    assert pairs._joined(left, "id", pa.table({"id": ["a", "b"], "n": [1, 2]}), "id").column("n").to_pylist() == [
        2,
        None,
        1,
    ]


@pytest.mark.parametrize(
    ("model", "shown"),
    [("team/drawer", "team/drawer"), ("/home/ada/models/sd", "sd"), ("~/models/sd", "sd"), ("../sd", "sd"), (None, "")],
)
def test_a_model_is_named_without_the_folders_of_this_machine(model, shown):
    assert model_name(model) == shown


def test_no_format_tells_where_a_model_lies_here(tmp_path):
    made = Run(labelled.write(tmp_path / "run", "label.raters=null"), config.load("shapes", ["label.raters=null"]))
    images = [row | {"model": "/home/ada/models/sd"} for row in made.rows("images", records.IMAGES.names)]
    made.commit("images", images, "000000", "base")

    for name in FORMATS:
        exported(made, name, tmp_path / name)
        for path in (tmp_path / name).rglob("*.*"):
            said = str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()
            assert b"/home/ada" not in said, path
