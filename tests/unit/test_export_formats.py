"""Each format that is trained on, as its readers read it: ties are never wins, pictures are the run's, P and votes are kept."""

import io
import json
import tarfile
from collections import Counter

import datasets
import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.store import Run
from tests import exports
from tests.exports import DECIDED, RARE, SOFT, TRAIN, chosen_first, exported


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return exports.write(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def truth(run) -> list[dict]:
    return exports.told(run)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


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
