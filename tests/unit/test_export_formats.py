"""Each format by hand, as its readers read it: ties are never wins, pictures are the run's bytes, P and votes are kept.

One file for all, since all are held against the same run of six pairs and its truth.
"""

import io
import json
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from aifeedback_dpo import config, records
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.export import pairs, parts, target
from aifeedback_dpo.export.formats import FORMATS
from aifeedback_dpo.export.pair import Pair, Picture, model_name
from aifeedback_dpo.export.run import Plan, export, plan
from aifeedback_dpo.parts import Album
from aifeedback_dpo.store import Run, decode_image
from tests import labelled

SOFT, RARE = float(np.float32(0.7)), float(np.float32(0.3))
HUMAN = (1.0, 0.0, 0.5, SOFT, None, RARE, 1.0, 0.5)
"""Of eight pairs, two a prompt; the last two are of a held-out prompt."""
VOTES = (2, 1, 4, 10, None, None, 1, 2)
PEOPLE = ("zoe", "ada", "4 annotators", "10 annotators", None, None, "ada", "2 annotators")
TRAIN = [0, 1, 2, 3, 5]
DECIDED = [0, 1, 3, 5]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Judged by people and by a scorer; the first picture is a PNG, all others lossless WebP."""
    said = {"human": HUMAN, "pickscore": (0.9, 0.3, 0.6, 0.8, 0.2, 0.7, 0.1, 0.95)}
    root = labelled.write(tmp_path_factory.mktemp("export") / "run", "label.raters=null", said=said)
    made = Run(root, config.load(root / "recipe.yaml"))
    prompts = made.rows("prompts")
    prompts[-1]["split"] = "eval"
    made.commit("prompts", prompts, "train")
    images = made.rows("images", records.IMAGES.names)
    png = io.BytesIO()
    decode_image(images[0]["image"]["bytes"]).save(png, "PNG")
    images[0]["image"]["bytes"] = png.getvalue()
    drawn = [row | {"model": "team/drawer" if at else "team/other", "revision": "abc"} for at, row in enumerate(images)]
    made.commit("images", drawn, "000000", "base")
    told = zip(made.rows("pairs"), HUMAN, VOTES, PEOPLE, strict=True)
    rows = [
        dict.fromkeys(records.PREFERENCES.names)
        | {
            "pair_id": pair["pair_id"],
            "judge": "human",
            "p_a": p_a,
            "votes": votes,
            "annotator": who,
            "rule": "by hand",
        }
        for pair, p_a, votes, who in told
        if p_a is not None
    ]
    made.commit("preferences", rows, "000000", "human")
    return made


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def truth(run) -> list[dict]:
    """The pairs as they are in the run, with their prompts and pictures."""
    data, prompts = (
        dict(run.images(run.done("images"))),
        {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")},
    )
    return [
        pair | {"prompt": prompts[pair["prompt_id"]], "a": data[pair["image_a"]], "b": data[pair["image_b"]]}
        for pair in run.rows("pairs")
    ]


def exported(run: Run, format: str, folder: Path, judge: str = "human", **options: bool) -> Plan:
    return export(run, format, folder, judge, Silent(), **options)


def chosen_first(truth: list[dict], at: int) -> tuple[bytes, bytes]:
    return (truth[at]["a"], truth[at]["b"]) if HUMAN[at] > 0.5 else (truth[at]["b"], truth[at]["a"])


def test_pickapic_has_its_columns_in_their_types_and_order_and_p_and_votes_behind_them(run, tmp_path):
    exported(run, "pickapic", tmp_path / "set")

    found = load_dataset(str(tmp_path / "set"))

    kinds = {name: feature.dtype for name, feature in found["train"].features.items()}
    text, number, binary = "string", "int64", "binary"
    assert list(kinds.items()) == [
        ("are_different", "bool"),
        ("best_image_uid", text),
        ("caption", text),
        ("created_at", "timestamp[ns]"),
        ("has_label", "bool"),
        ("image_0_uid", text),
        ("image_0_url", text),
        ("image_1_uid", text),
        ("image_1_url", text),
        ("jpg_0", binary),
        ("jpg_1", binary),
        ("label_0", "float64"),
        ("label_1", "float64"),
        ("model_0", text),
        ("model_1", text),
        ("ranking_id", number),
        ("user_id", number),
        ("num_example_per_prompt", number),
        ("__index_level_0__", number),
        ("p_0", "float32"),
        ("votes", "int32"),
    ]
    assert set(found) == {"train", "test"}


def test_pickapic_says_who_won_in_hard_labels_and_keeps_p_and_votes(run, truth, tmp_path):
    made = exported(run, "pickapic", tmp_path / "set")

    found = load_dataset(str(tmp_path / "set"))
    train, test = found["train"], found["test"]

    assert train["label_0"][:] == [1, 0, 0.5, 1, 0]  # 0.7 and 0.3 are sides, not labels
    assert train["label_1"][:] == [0, 1, 0.5, 0, 1]
    assert train["p_0"][:] == [1, 0, 0.5, SOFT, RARE]
    assert train["votes"][:] == [2, 1, 4, 10, None]
    assert train["best_image_uid"][:] == [
        truth[0]["image_a"],
        truth[1]["image_b"],
        "tie",
        truth[3]["image_a"],
        truth[5]["image_b"],
    ]
    assert train["jpg_0"][:] == [truth[at]["a"] for at in TRAIN]
    assert train["jpg_1"][:] == [truth[at]["b"] for at in TRAIN]
    assert train["caption"][:] == [truth[at]["prompt"] for at in TRAIN]
    assert train["num_example_per_prompt"][:] == [2, 2, 2, 2, 1]  # the third prompt's other pair has no label
    assert train["user_id"][:] == [2, 1, 0, 0, 0]  # ada, zoe; crowds and strangers have no number
    assert train["model_0"][:2] == ["team/other", "team/drawer"]
    assert (test["label_0"][:], test["p_0"][:]) == ([1, 0.5], [1, 0.5])
    assert (made.pairs, made.decided, made.ties, made.left_out) == (7, 5, 2, {"without a label": 1})


def test_pickapic_as_the_diffusers_script_reads_it_puts_the_preferred_picture_first(run, truth, tmp_path):
    """Both pictures by Pillow, swapped where label_0 is 0, stacked on the channels; a tie is left as it lies, so filtered."""
    exported(run, "pickapic", tmp_path / "set")
    found = load_dataset(str(tmp_path / "set"), split="train").filter(lambda row: row["label_0"] != row["label_1"])

    for row, at in zip(found, DECIDED, strict=True):
        first, second = (Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1"))
        if row["label_0"] == 0:
            first, second = second, first
        stacked = np.concatenate([np.asarray(first), np.asarray(second)], axis=2)

        better, worse = (np.asarray(decode_image(data)) for data in chosen_first(truth, at))
        assert np.array_equal(stacked, np.concatenate([better, worse], axis=2))


def test_without_ties_no_reader_can_take_one_for_a_win(run, tmp_path):
    made = exported(run, "pickapic", tmp_path / "set", without_ties=True)

    found = load_dataset(str(tmp_path / "set"))
    assert found["train"]["label_0"][:] == [1, 0, 1, 0]
    assert found["test"]["label_0"][:] == [1]
    assert made.left_out == {"ties": 2, "without a label": 1}


def test_chosen_rejected_has_the_winner_as_chosen_and_no_ties(run, truth, tmp_path):
    made = exported(run, "chosen-rejected", tmp_path / "set")

    found = load_dataset(str(tmp_path / "set"))
    image, text = datasets.Image(), datasets.Value("string")
    assert found["train"].features == datasets.Features(
        {
            "prompt": text,
            "chosen": image,
            "rejected": image,
            "p_chosen": datasets.Value("float32"),
            "votes": datasets.Value("int32"),
            "chosen_model": text,
            "rejected_model": text,
            "pair_id": text,
        }
    )
    encoded = found["train"].cast_column("chosen", datasets.Image(decode=False))
    encoded = encoded.cast_column("rejected", datasets.Image(decode=False))
    for row, at in zip(encoded, DECIDED, strict=True):
        assert (row["chosen"]["bytes"], row["rejected"]["bytes"]) == chosen_first(truth, at)
        assert (row["prompt"], row["pair_id"]) == (truth[at]["prompt"], truth[at]["pair_id"])
    assert encoded["p_chosen"][:] == [1, 1, SOFT, float(np.float32(1 - RARE))]
    assert encoded["votes"][:] == [2, 1, 10, None]
    assert encoded["chosen_model"][:] == ["team/other", "team/drawer", "team/drawer", "team/drawer"]
    assert found["test"]["pair_id"][:] == [truth[6]["pair_id"]]
    assert (made.pairs, made.ties, made.left_out) == (5, 0, {"ties": 2, "without a label": 1})


def test_unpaired_has_a_good_and_a_bad_picture_of_each_decided_pair(run, truth, tmp_path):
    exported(run, "unpaired", tmp_path / "set")

    found = load_dataset(str(tmp_path / "set"))
    kinds = {name: feature.dtype for name, feature in found["train"].features.items() if name != "completion"}
    assert kinds == {
        "prompt": "string",
        "label": "bool",
        "p_chosen": "float32",
        "votes": "int32",
        "model": "string",
        "pair_id": "string",
    }
    assert found["train"].features["completion"] == datasets.Image()
    rows = list(found["train"].cast_column("completion", datasets.Image(decode=False)))
    told = [(row["pair_id"], row["completion"]["bytes"], row["label"]) for row in rows]
    wanted = []
    for at in DECIDED:
        better, worse = chosen_first(truth, at)
        wanted += [(truth[at]["pair_id"], better, True), (truth[at]["pair_id"], worse, False)]
    assert told == wanted
    assert [row["p_chosen"] for row in rows[4:6]] == [SOFT, SOFT]
    assert [row["votes"] for row in rows[4:]] == [10, 10, None, None]


def test_webdataset_is_pickapic_with_every_column_a_file_and_all_but_pictures_as_text(run, truth, tmp_path):
    exported(run, "pickapic", tmp_path / "parquet")
    exported(run, "webdataset", tmp_path / "tars")

    rows = list(load_dataset(str(tmp_path / "tars"), split="train"))
    wanted = list(load_dataset(str(tmp_path / "parquet"), split="train"))

    assert [row.pop("__key__") for row in rows] == [truth[at]["pair_id"] for at in TRAIN]
    for row, its in zip(rows, wanted, strict=True):
        del row["__url__"]
        assert list(row) == list(its)
        for name, value in its.items():
            assert row[name] == (value if name in ("jpg_0", "jpg_1") else str(value).encode())
    assert [row["label_0"] for row in rows] == [b"1.0", b"0.0", b"0.5", b"1.0", b"0.0"]
    assert [row["votes"] for row in rows] == [b"2", b"1", b"4", b"10", b"None"]
    assert [float(row["p_0"]) for row in rows] == [1, 0, 0.5, SOFT, RARE]


def test_the_same_pairs_are_the_same_tar_byte_for_byte(run, tmp_path):
    for name in ("one", "two"):
        exported(run, "webdataset", tmp_path / name)

    one, two = ((tmp_path / name / "data" / "train-00000.tar") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_folders_have_a_stem_for_each_decided_pair_with_its_caption_on_both_sides(run, truth, tmp_path):
    made = exported(run, "folders", tmp_path / "set")

    told = [json.loads(line) for line in (tmp_path / "set" / "metadata.jsonl").read_text().splitlines()]
    assert [row["id"] for row in told] == [truth[at]["pair_id"] for at in DECIDED]
    for row, at in zip(told, DECIDED, strict=True):
        ends = [tmp_path / "set" / row[name] for name in ("chosen", "rejected")]
        assert tuple(path.read_bytes() for path in ends) == chosen_first(truth, at)
        assert {path.stem for path in ends} == {row["id"]}
        assert {path.with_suffix(".txt").read_text() for path in ends} == {truth[at]["prompt"]} == {row["prompt"]}
    assert [row["p_chosen"] for row in told] == [1, 1, SOFT, float(np.float32(1 - RARE))]
    assert [row["votes"] for row in told] == [2, 1, 10, None]
    assert told[0]["chosen"].endswith(".png")  # as its bytes are
    assert Counter(path.suffix for path in (tmp_path / "set" / "chosen").iterdir()) == {
        ".png": 1,
        ".webp": 3,
        ".txt": 4,
    }
    assert made.left_out == {"ties": 2, "without a label": 1, "of held-out prompts": 1}


def test_label_studio_has_every_pair_as_a_task_and_every_vote_as_an_annotation(run, truth, tmp_path):
    people = [("ada", 1.0, 1, 2.5), ("zoe", 0.0, 1, None), ("zoe", 0.5, 3, 4.0)]
    at = (1, 1, 0)  # two votes on the second pair, three of one kind on the first
    rows = [
        {"pair_id": truth[number]["pair_id"], "annotator": who, "p_a": p_a, "votes": votes, "seconds": seconds}
        | {"source": "page", "where": None}
        for number, (who, p_a, votes, seconds) in zip(at, people, strict=True)
    ]
    run.commit("votes", rows, "000000", "page")
    try:
        exported(run, "label-studio", tmp_path / "set")
    finally:
        for path in run.parts("votes"):
            path.unlink()

    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert [task["data"]["pair_id"] for task in tasks] == [pair["pair_id"] for pair in truth]
    for task, pair in zip(tasks, truth, strict=True):
        assert task["data"]["prompt"] == pair["prompt"]
        for side in "ab":
            start, path = task["data"][f"image_{side}"].split("?d=")
            assert (start, (tmp_path / "set" / path).read_bytes()) == ("/data/local-files/", pair[side])
    assert tasks[0]["annotations"] == [
        {
            "result": [{"from_name": "tie", "to_name": "image_a", "type": "choices", "value": {"choices": ["tie"]}}],
            "lead_time": 4.0,
            "meta": {"annotator": "zoe", "p_a": 0.5, "votes": 3},
        }
    ]
    left, right = tasks[1]["annotations"]
    click = {"from_name": "preference", "to_name": "image_a,image_b", "type": "pairwise"}
    assert left == {
        "result": [click | {"value": {"selected": "left"}}],
        "lead_time": 2.5,
        "meta": {"annotator": "ada", "p_a": 1.0, "votes": 1},
    }
    assert right["result"] == [click | {"value": {"selected": "right"}}]
    assert "lead_time" not in right
    (summed,) = tasks[3]["annotations"]  # of which only the mean is known
    assert (summed["result"][0]["value"], summed["meta"]["p_a"], summed["meta"]["votes"]) == (
        {"selected": "left"},
        SOFT,
        10,
    )
    assert tasks[4]["annotations"] == []
    assert [len(task["annotations"]) for task in tasks] == [1, 2, 1, 1, 0, 1, 1, 1]
    assert len(list((tmp_path / "set" / "images").iterdir())) == 12  # each once, though some are in two pairs


def test_label_studio_takes_no_scorer_for_a_person(run, tmp_path):
    exported(run, "label-studio", tmp_path / "set", "pickscore")

    first, second, *_ = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert first["annotations"] == second["annotations"] == []
    said = [(task["predictions"][0]["model_version"], task["predictions"][0]["score"]) for task in (first, second)]
    assert said == [("pickscore", float(np.float32(0.9))), ("pickscore", float(np.float32(1 - np.float32(0.3))))]
    assert second["predictions"][0]["result"][0]["value"] == {"selected": "right"}


def test_label_studio_without_a_judge_is_all_pairs_and_nothing_said(run, tmp_path):
    made = exported(run, "label-studio", tmp_path / "set", "none")

    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    assert [(task["annotations"], "predictions" in task) for task in tasks] == 8 * [([], False)]
    assert made.unlabelled == 8


def test_label_studios_configuration_has_the_names_that_tasks_and_annotations_use(run, tmp_path):
    exported(run, "label-studio", tmp_path / "set")

    tags = {
        tag.get("name"): tag for tag in ElementTree.parse(tmp_path / "set" / "config.xml").iter() if tag.get("name")
    }
    tasks = json.loads((tmp_path / "set" / "tasks.json").read_text())
    for task in tasks:
        for annotation in task["annotations"]:
            for entry in annotation["result"]:
                assert tags[entry["from_name"]].get("toName") == entry["to_name"]
                assert tags[entry["from_name"]].tag.lower() == entry["type"]
    values = {tag.get("value") for tag in tags.values() if tag.tag == "Image"}
    assert values == {"$image_a", "$image_b"} <= {f"${name}" for name in tasks[0]["data"]}


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
