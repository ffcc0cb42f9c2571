"""Sets that are not what they seem: what must not become a preference, and what must not stop an import."""

import gc
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aifeedback_dpo.opening import open_run
from tests.cli.test_import import assert_said, imported
from tests.conftest import ddpo
from tests.published import Said, hub_image, picture, write_parquet


def pair(first: int = 1, second: int = 2, **more: Any) -> dict[str, Any]:
    return {"prompt": "a cat", "image_a": picture(first), "image_b": picture(second), **more}


GOOD = {"prompt": "a dog", "chosen": picture(8), "rejected": picture(9)}


def refused(run: Path) -> list[str]:
    (path,) = run.glob("imports/*/refused.jsonl")
    return [f"{row['reason']}: {row['detail']}" for row in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"votes": 0}, "label: 0 votes are no number of people"),
        ({"votes": -3}, "label: -3 votes"),
        ({"votes": 10**12}, "label: 1000000000000 votes"),
        ({"p_chosen": 0.2}, "label: p_chosen 0.2 does not prefer the chosen picture"),
        ({"p_chosen": float("inf")}, "label: inf is no number"),
        ({"prompt": ""}, "no prompt: "),
        ({"chosen": b"\x89PNG\r\n\x1a\n"}, "picture broken: the first: "),
        ({"chosen": picture(8)[:60]}, "picture broken: the first: "),
        (
            {"chosen": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"},
            "picture broken: the first: cannot identify",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_said_and_the_others_are_taken(row: Any, says: str, tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "set.parquet", [{"votes": 2, "p_chosen": 1.0} | GOOD, {"votes": 2, "p_chosen": 1.0} | GOOD | row]
    )

    imported(("pairs", str(tmp_path / "set.parquet")), tmp_path / "run")

    (told,) = refused(tmp_path / "run")
    assert told.startswith(says)
    assert_said(open_run(tmp_path / "run", None), [Said("a dog", 8, 9, 1.0, 2)])


def test_prompts_that_are_no_text_are_refused(tmp_path: Path) -> None:
    rows = [GOOD | {"prompt": [{"role": "user", "content": "a cat"}]}]
    write_parquet(tmp_path / "set.parquet", rows)

    result = ddpo("import", "pairs", str(tmp_path / "set.parquet"), run=tmp_path / "run")

    assert (result.exit_code, "prompt (1; first: train/0: a list is no text)" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("size", "mode", "says"),
    [((9000, 9000), "1", "more than a picture should have"), ((9, 9), "I;16", "more than 8 bits")],
)
def test_pictures_that_are_too_large_or_too_deep_are_refused_whatever_the_thread(
    size: tuple[int, int], mode: str, says: str, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    write_parquet(tmp_path / "set.parquet", [GOOD, GOOD | {"chosen": buffer.getvalue()}])

    imported(("pairs", str(tmp_path / "set.parquet")), tmp_path / "run")

    assert says in refused(tmp_path / "run")[0]


def test_a_set_that_says_who_was_asked_is_not_read_as_if_everyone_was(tmp_path: Path) -> None:
    """has_label belongs to Pick-a-Pic, whose unjudged rows have labels of 1/2."""
    rows = [pair(label_0=0.5, label_1=0.5, has_label=False)]
    write_parquet(tmp_path / "set.parquet", rows)

    result = ddpo("import", "pairs", str(tmp_path / "set.parquet"), run=tmp_path / "run")

    assert (result.exit_code, "use `ddpo import pickapic`" in result.stderr) == (2, True)


def test_of_two_labels_one_is_named_and_not_guessed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set.parquet", [pair(label="a", preference="b")])
    told = ("pairs", str(tmp_path / "set.parquet"))

    result = ddpo("import", *told, run=tmp_path / "run")
    assert (result.exit_code, "--dimension names the label: label, preference" in result.stderr) == (2, True)

    imported((*told, "--dimension", "preference"), tmp_path / "run")
    assert_said(open_run(tmp_path / "run", None), [Said("a cat", 1, 2, 0.0)])


@pytest.mark.parametrize(("first", "second"), [("1.0", "0"), ("true", "False"), ("LEFT", "right")])
def test_what_a_label_means_is_said_as_one_would_type_it(first: str, second: str, tmp_path: Path) -> None:
    values = {"1.0": (1.0, 0.0), "true": (True, False), "LEFT": ("Left", "RIGHT")}[first]
    write_parquet(tmp_path / "set.parquet", [pair(1, 2, label=values[0]), pair(3, 4, label=values[1])])
    told = ("pairs", str(tmp_path / "set.parquet"), "--label", f"first={first}", "--label", f"second={second}")

    imported(told, tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("a cat", 1, 2, 1.0), Said("a cat", 3, 4, 0.0)])


@pytest.mark.parametrize(
    ("source", "option", "says"),
    [
        (
            "pickapic",
            ("--label", "first=0"),
            "--label means nothing to source pickapic, which takes --split",
        ),
        ("rapidata", ("--dreamlike-only",), "--dreamlike-only means nothing to source rapidata"),
        ("folders", ("--split", "test"), "--split means nothing to source folders, which takes none of these options"),
    ],
)
def test_an_option_that_means_nothing_to_a_source_is_refused(
    source: str, option: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    result = ddpo("import", source, str(tmp_path), *option, run=tmp_path / "run")

    assert (result.exit_code, says in result.stderr) == (2, True)


def test_rows_without_an_id_are_no_pair(tmp_path: Path) -> None:
    """Nor are rows of one id with two prompts."""
    rows = [
        {"prompt": prompt, "completion": hub_image(picture(at)), "label": at % 2 == 0, "pair_id": key}
        for at, (prompt, key) in enumerate([("a", None), ("b", None), ("x", "p"), ("y", "p"), ("z", "q"), ("z", "q")])
    ]
    write_parquet(tmp_path / "set.parquet", rows, images=("completion",))

    imported(("unpaired", str(tmp_path / "set.parquet")), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("z", 4, 5, 1.0)])
    assert refused(tmp_path / "run") == ["label: no pair_id", "label: no pair_id", "label: a pair of two prompts"]


def test_rankings_without_a_prompts_id_are_none(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": key, "prompt": prompt, "image": hub_image(picture(at)), "rank": at}
        for at, (key, prompt) in enumerate([(None, "a"), (None, "b"), ("p", "x"), ("p", "y"), ("q", "z"), ("q", "z")])
    ]
    write_parquet(tmp_path / "set.parquet", rows, images=("image",))

    imported(("imagereward", str(tmp_path / "set.parquet")), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("z", 4, 5, 1.0)])


def test_label_studios_other_questions_are_no_preference(tmp_path: Path) -> None:
    def entry(question: str, word: str) -> dict[str, Any]:
        return {"from_name": question, "to_name": "image_a", "type": "choices", "value": {"choices": [word]}}

    data = {"prompt": "a cat", "image_a": "1.png", "image_b": "2.png"}
    rows = [{"data": data, "annotations": [{"result": [entry("safe", "left"), entry("better", "right")]}]}]
    rows += [{"data": data | {"image_a": "3.png"}, "annotations": 7}]
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    told = ("label-studio", str(tmp_path / "tasks.json"))

    result = ddpo("import", *told, run=tmp_path / "run")
    assert (result.exit_code, "several questions, safe, better; pick one by --dimension" in result.stderr) == (2, True)

    imported((*told, "--dimension", "better"), tmp_path / "run")
    assert_said(open_run(tmp_path / "run", None), [Said("a cat", 1, 2, 0.0)])
    assert refused(tmp_path / "run") == ["label: '7' is no list"]


def test_pictures_are_those_of_the_split(tmp_path: Path) -> None:
    for split, numbers in (("train", (1, 2)), ("test", (3, 4))):
        (tmp_path / split).mkdir()
        for name, number in zip("xy", numbers, strict=True):
            (tmp_path / split / f"{name}.png").write_bytes(picture(number))
    (tmp_path / "test.json").write_text(json.dumps([{"prompt": "p", "image_path": ["x.png", "y.png"], "rank": [1, 2]}]))

    imported(("hpdv2", str(tmp_path), "--split", "test"), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("p", 3, 4, 1.0)])


def test_a_picture_that_two_tars_have_is_nobodys(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for member, data in (("x/1.png", picture(number)), (f"x/{name}.png", picture(number + 5))):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows = [{"prompt": "p", "path1": "x/a.png", "path2": second} for second in ("x/1.png", "x/b.png")]
    (tmp_path / "train.json").write_text(json.dumps(rows))

    imported(("hpdv3", str(tmp_path)), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("p", 6, 7, 1.0)])
    assert refused(tmp_path / "run") == ["picture missing: the second: x/1.png is there several times, in tars"]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # datasets' .csv
@pytest.mark.parametrize("suffix", ["parquet", "arrow", "json", "jsonl", "csv", "tsv"])
def test_every_format_that_is_promised_is_read(suffix: str, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    rows = [{"prompt": "a, cat", "chosen": f"{at}.png", "rejected": f"{at + 1}.png"} for at in (1, 3)]
    path = tmp_path / f"set.{suffix}"
    separator = {"csv": ",", "tsv": "\t"}.get(suffix)
    if separator:
        lines = [separator.join(rows[0])] + [separator.join(f'"{value}"' for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    elif suffix in ("json", "jsonl"):
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    elif suffix == "arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)

    imported(("pairs", str(path)), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("a, cat", 1, 2, 1.0), Said("a, cat", 3, 4, 1.0)])
    if separator:
        gc.collect()  # here, where what datasets leaves open is not held against the test that runs


def test_paths_may_be_links_of_the_hubs_cache_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot" / "images").mkdir(parents=True)
    for name, target in (
        ("1", tmp_path / "blobs" / "b1"),
        ("2", tmp_path / "blobs" / "b2"),
        ("3", tmp_path / "secret"),
    ):
        target.write_bytes(picture(int(name)))
        (tmp_path / "snapshot" / "images" / f"{name}.png").symlink_to(target)
    rows = [{"prompt": "p", "path1": "images/1.png", "path2": f"images/{second}.png"} for second in (2, 3)]
    (tmp_path / "snapshot" / "train.json").write_text(json.dumps(rows))

    imported(("hpdv3", str(tmp_path / "snapshot")), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("p", 1, 2, 1.0)])
    assert refused(tmp_path / "run") == ["picture missing: the second: a link that leaves the folder"]


def test_text_where_a_path_should_be_is_a_missing_picture(tmp_path: Path) -> None:
    rows = [
        GOOD | {"chosen": "1.png", "rejected": "2.png"},
        GOOD | {"chosen": "once upon a time " * 40, "rejected": "2.png"},
    ]
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row | {"prompt": "p"}) for row in rows))

    imported(("pairs", str(tmp_path / "set.jsonl")), tmp_path / "run")

    assert_said(open_run(tmp_path / "run", None), [Said("p", 1, 2, 1.0)])


def test_another_spelling_of_a_held_out_prompt_is_held_out(tmp_path: Path) -> None:
    prompts = [spelling.format(at) for at in range(40) for spelling in ("A cat {}.", "a  CAT {}", "a cat {}!")]
    rows = [
        {"prompt": prompt, "chosen": picture(at), "rejected": picture(at + 130)} for at, prompt in enumerate(prompts)
    ]
    write_parquet(tmp_path / "set.parquet", rows)

    imported(("pairs", str(tmp_path / "set.parquet")), tmp_path / "run")

    splits: dict[str, set[str]] = {}
    for row in open_run(tmp_path / "run", None).rows("prompts"):
        splits.setdefault("".join(filter(str.isdigit, row["prompt"])), set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {"eval"} in splits.values()


def test_a_hub_dataset_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    result = ddpo("import", "pickapic", "nobody/nothing", run=tmp_path / "run")

    assert result.exit_code == 4
    assert "HF_HUB_OFFLINE is set" in result.stderr
    assert "or give the folder of a copy" in result.stderr
    assert not (tmp_path / "run").exists()
