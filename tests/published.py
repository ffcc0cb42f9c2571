"""Small sets in the schema of every published one, each with its traps, and by hand what must come of them.

Twenty of them in one file, so that a schema and its expected preferences are read side by side with the others.
"""

import base64
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A PNG that no other number has."""
    made = Image.new("RGB", size, (number * 7 % 256, number * 31 % 256, number % 256))
    buffer = io.BytesIO()
    made.save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = picture(250)[:40]


@dataclass(frozen=True)
class Said:
    """What must be in the run: of these two pictures, by number, P(first preferred) and how many votes."""

    prompt: str
    first: int
    second: int
    p_first: float
    votes: int = 1


@dataclass(frozen=True)
class Published:
    """A set on the disk: the arguments that import it, what comes of it, and what cannot be used, by reason."""

    arguments: tuple[str, ...]
    said: list[Said]
    refused: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0


def hub_image(data: bytes | None) -> dict[str, Any]:
    return {"bytes": data, "path": None}


def write_parquet(
    path: Path, rows: list[dict[str, Any]], *, images: tuple[str, ...] = (), rows_a_group: int = 4
) -> None:
    """As `datasets` would, where some columns are its Image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if images:
        features = {
            name: {"_type": "Image"} if name in images else _feature(table.schema.field(name).type)
            for name in table.column_names
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows_a_group)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    return {"_type": "Value", "dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind))}


def pickapic_rows() -> list[dict[str, Any]]:
    """float64 labels; a tie, a row nobody judged, one picture twice, a broken one, one missing, labels of no convention."""

    def row(caption: str, first: bytes | None, second: bytes | None, label: float, **more: Any) -> dict[str, Any]:
        told = {"caption": caption, "jpg_0": first, "jpg_1": second, "label_0": label, "label_1": 1 - label}
        same = {"are_different": first != second, "has_label": True, "model_0": "dreamlike-art/Dreamlike", "user_id": 7}
        return {**told, **same, "model_1": "stabilityai/sdxl-beta", **more}

    return [
        row("a cat", picture(1), picture(2), 1.0),
        row("a cat", picture(3), picture(1), 0.0, model_0="Dreamlike-photoreal", model_1="dreamlike-2.0"),
        row("a dog", picture(4), picture(5), 0.5),
        row("a dog", picture(4), picture(6), 0.5, has_label=False),
        row("a dog", picture(6), picture(6), 0.5),
        row("a dog", BROKEN, picture(7), 1.0),
        row("a dog", picture(8), None, 1.0),
        row("a dog", picture(8), picture(9), 2.0),
        row("a dog", picture(8), picture(9), 1.0, label_1=1.0),
        row("  ", picture(8), picture(9), 1.0),
        row("a cat", picture(2), picture(1), 1.0, user_id=8),  # the first pair, turned round, by another person
    ]


PICKAPIC = [Said("a cat", 1, 2, 0.5, 2), Said("a cat", 3, 1, 0.0), Said("a dog", 4, 5, 0.5)]
PICKAPIC_REFUSED = {
    "both pictures are the same": 1,
    "picture broken": 1,
    "picture missing": 1,
    "label": 2,
    "no prompt": 1,
}


def pickapic(root: Path) -> Published:
    write_parquet(root / "data" / "train-00000-of-00002.parquet", pickapic_rows()[:6])
    write_parquet(root / "data" / "train-00001-of-00002.parquet", pickapic_rows()[6:])
    write_parquet(root / "data" / "test_unique-00000-of-00001.parquet", pickapic_rows()[:1])
    (root / "README.md").write_text("---\nlicense: mit\n---\n\n# A mirror\n")
    return Published(("pickapic", str(root)), PICKAPIC, PICKAPIC_REFUSED, 1)


def pickapic_int(root: Path) -> Published:
    """As the sets of MaPO: int64 labels, nothing else."""
    rows = [
        {"caption": "a cat", "jpg_0": picture(1), "jpg_1": picture(2), "label_0": 0, "label_1": 1},
        {"caption": "a dog", "jpg_0": picture(3), "jpg_1": picture(4), "label_0": 1, "label_1": 0},
    ]
    write_parquet(root / "train.parquet", rows)
    return Published(("pickapic", str(root / "train.parquet")), [Said("a cat", 1, 2, 0), Said("a dog", 3, 4, 1)])


def pickapic_webdataset(root: Path) -> Published:
    """As the WebDataset mirror: every column a file, what is not bytes as text."""
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / "train-0000.tar", "w") as tar:
        for number, row in enumerate(pickapic_rows()):
            for column, value in row.items():
                content = value if isinstance(value, bytes) else str(value).encode()
                if value is not None:
                    member = tarfile.TarInfo(f"{number:06d}.{column}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return Published(("pickapic", str(root)), PICKAPIC, PICKAPIC_REFUSED, 1)


def hpdv2_train(root: Path) -> Published:
    rows = [
        {"prompt": "a cat", "file_path": ["00/1.png", "00/2.png"], "human_preference": [1, 0]},
        {"prompt": "a cat", "file_path": ["00/1.png", "00/3.png"], "human_preference": [0, 1]},
        {"prompt": "a cat", "file_path": ["00/2.png", "00/3.png"], "human_preference": [1, 1]},
        {"prompt": "a cat", "file_path": ["00/2.png"], "human_preference": [1, 0]},
        {"prompt": "a cat", "file_path": ["00/2.png", "00/9.png"], "human_preference": [1, 0]},
        {"prompt": "a cat", "file_path": ["00/2.png", "../outside.png"], "human_preference": [1, 0]},
    ]
    _files(root / "train" / "00", 1, 2, 3)
    (root / "outside.png").write_bytes(picture(9))
    (root / "train.json").write_text(json.dumps(rows))
    refused = {"label": 2, "picture missing": 2}
    return Published(("hpdv2", str(root)), [Said("a cat", 1, 2, 1), Said("a cat", 1, 3, 0)], refused)


def hpdv2_test(root: Path) -> Published:
    """Three pictures ranked by two people, lower is better, the second with 1 and 2 equal; a tar has them."""
    people = [{"rank": [1, 2, 3], "user_hash": "u1"}, {"rank": [2, 2, 1], "user_hash": "u2"}]
    rows = [
        {"prompt": "a fox", "image_path": ["1.png", "2.png", "3.png"], "rank": [1, 2, 3], "raw_annotations": people},
        {"prompt": "an owl", "image_path": ["4.png", "5.png"], "rank": [2, 1]},
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "test.json").write_text(json.dumps(rows))
    with tarfile.open(root / "test.tar", "w") as tar:
        for number in (1, 2, 3, 4, 5):
            member = tarfile.TarInfo(f"test/{number}.png" if number == 5 else f"{number}.png")
            member.size = len(picture(number))
            tar.addfile(member, io.BytesIO(picture(number)))
    ranked = [Said("a fox", 1, 2, 0.75, 2), Said("a fox", 1, 3, 0.5, 2), Said("a fox", 2, 3, 0.5, 2)]
    return Published(("hpdv2", str(root), "--split", "test"), [*ranked, Said("an owl", 4, 5, 0)])


def hpdv3(root: Path) -> Published:
    """path1 is preferred, always; choice_dist where it is known."""

    def row(first: int, second: int, **more: Any) -> dict[str, Any]:
        paths = {"path1": f"images/{first}.png", "path2": f"images/{second}.png"}
        return {
            "prompt": "a cat",
            **paths,
            "model1": "flux",
            "model2": "sdxl",
            "confidence": None,
            "choice_dist": None,
            **more,
        }

    rows = [
        row(1, 2),
        row(3, 4, choice_dist=[9, 3], confidence=0.9),
        row(1, 3, choice_dist=[2, 7]),
        row(2, 4, choice_dist=[1]),
    ]
    _files(root / "images", 1, 2, 3, 4)
    (root / "train.json").write_text(json.dumps(rows))
    said = [Said("a cat", 1, 2, 1.0), Said("a cat", 3, 4, 0.75, 12)]
    return Published(("hpdv3", str(root / "train.json")), said, {"label": 2})


def imagereward(root: Path) -> Published:
    """A picture a row; equal ranks are a tie; a prompt with one picture makes no pair."""

    def row(prompt: str, number: int, rank: int) -> dict[str, Any]:
        told = {"prompt_id": f"id-{prompt}", "prompt": prompt, "classification": "x", "image_amount_in_total": 3}
        return {"image": hub_image(picture(number)), **told, "rank": rank, "overall_rating": 5}

    rows = [
        row("a cat", 1, 1),
        row("a cat", 2, 3),
        row("a cat", 3, 1),
        row("a dog", 4, 2),
        row("a fox", 5, 2),
        row("a fox", 6, 1),
    ]
    write_parquet(root / "validation.parquet", rows, images=("image",))
    ranked = [Said("a cat", 1, 2, 1), Said("a cat", 1, 3, 0.5), Said("a cat", 2, 3, 0)]
    return Published(("imagereward", str(root), "--split", "validation"), [*ranked, Said("a fox", 5, 6, 0)])


def imagereward_pair(root: Path) -> Published:
    rows = [
        {"prompt_id": "1", "prompt": "a cat", "img_better": hub_image(picture(1)), "img_worse": hub_image(picture(2))},
        {"prompt_id": "1", "prompt": "a cat", "img_better": hub_image(picture(3)), "img_worse": hub_image(BROKEN)},
    ]
    write_parquet(root / "train.parquet", rows, images=("img_better", "img_worse"))
    return Published(("imagereward", str(root)), [Said("a cat", 1, 2, 1)], {"picture broken": 1})


def imagereward_group(root: Path) -> Published:
    rows = [{"prompt_id": "1", "prompt": "a cat", "image": [picture(1), picture(2)], "rank": [2, 1]}]
    rows += [{"prompt_id": "2", "prompt": "a dog", "image": [picture(3), picture(4)], "rank": [1]}]
    write_parquet(root / "train.parquet", rows)
    return Published(("imagereward", str(root)), [Said("a cat", 1, 2, 0)], {"label": 1})


def preferences_binarized(root: Path) -> Published:
    rows = [
        {"prompt": "a cat", "chosen": hub_image(picture(1)), "rejected": hub_image(picture(2)), "chosen_model": "dev"},
        {"prompt": "a dog", "chosen": hub_image(picture(3)), "rejected": hub_image(None), "chosen_model": "dev"},
    ]
    write_parquet(root / "train.parquet", rows, images=("chosen", "rejected"))
    return Published(("open-image-preferences", str(root)), [Said("a cat", 1, 2, 1)], {"picture missing": 1})


def preferences_raw(root: Path) -> Published:
    """Nobody has judged these."""
    row = {
        "quality_prompt": "a cat, detailed",
        "simplified_prompt": "a cat",
        **{f"image_quality_{model}": hub_image(picture(number)) for number, model in ((1, "dev"), (2, "sd"))},
        **{f"image_simplified_{model}": hub_image(picture(number)) for number, model in ((3, "dev"), (4, "sd"))},
    }
    images = tuple(name for name in row if name.startswith("image"))
    write_parquet(root / "data" / "cleaned-00000-of-00001.parquet", [row], images=images)
    return Published(("open-image-preferences", str(root), "--split", "cleaned", "--keep-unlabelled"), [], {}, 2)


def argilla_columns(root: Path) -> Published:
    """Two people disagree; a draft and a discarded answer are none; one word is of no convention."""

    def row(first: int, second: int, values: list[str], states: list[str] | None = None) -> dict[str, Any]:
        users = [f"u{at}" for at in range(len(values))]
        told = {"preference.responses": values, "preference.responses.users": users}
        sides = {"image_1": hub_image(picture(first)), "image_2": hub_image(picture(second))}
        return {
            "prompt": "a cat",
            **sides,
            **told,
            "preference.responses.status": states or ["submitted"] * len(values),
        }

    rows = [
        row(1, 2, ["image_1", "image_1", "image_2"]),
        row(3, 4, ["image_2", "image_1"], ["submitted", "draft"]),
        row(5, 6, ["ties"]),
        row(1, 4, ["image_1"], ["discarded"]),
        row(2, 4, ["whatever"]),
    ]
    write_parquet(root / "train.parquet", rows, images=("image_1", "image_2"))
    said = [Said("a cat", 1, 2, 2 / 3, 3), Said("a cat", 3, 4, 0), Said("a cat", 5, 6, 0.5)]
    return Published(("open-image-preferences", str(root)), said, {"label": 1}, 1)


def argilla_json(root: Path) -> Published:
    data = "data:image/png;base64," + base64.b64encode(picture(2)).decode()
    rows = [
        {
            "id": "1",
            "fields": {"prompt": "a cat", "image_1": "1.png", "image_2": data},
            "responses": {"preference": [{"value": "image_2", "user_id": "u1"}, {"value": "tie", "user_id": "u2"}]},
        },
        {
            "id": "2",
            "fields": {"prompt": "a cat", "image_1": "https://example.org/1.png", "image_2": "1.png"},
            "responses": {"preference": [{"value": "image_2", "user_id": "u1"}]},
        },
        {"id": "3", "fields": {"prompt": "a cat"}, "responses": {}},
    ]
    _files(root, 1)
    (root / "records.json").write_text(json.dumps(rows))
    refused = {"picture missing": 1, "record": 1}
    return Published(("argilla", str(root / "records.json")), [Said("a cat", 1, 2, 0.25, 2)], refused)


def rapidata(root: Path) -> Published:
    """float32 weights of four people; equal ones are a tie; without weight there is no label."""

    def row(first: int, second: int, one: float | None, other: float | None, people: Any) -> dict[str, Any]:
        weights = {"weighted_results_image1_preference": one, "weighted_results_image2_preference": other}
        sides = {
            "image1": hub_image(picture(first)),
            "image2": hub_image(picture(second)),
            "model1": "a",
            "model2": "b",
        }
        return {"prompt": "a cat", **sides, **weights, "detailed_results_preference": json.dumps(people)}

    rows = [
        row(1, 2, 0.75, 0.25, [{"votedFor": "a"}] * 4),
        row(3, 4, 0.5, 0.5, [{"votedFor": "a"}] * 2),
        row(5, 6, 1.5, 4.5, {"total": 4}),
        row(1, 4, 0.0, 0.0, []),
        row(1, 6, None, None, []),
    ]
    write_parquet(root / "train.parquet", rows, images=("image1", "image2"))
    said = [Said("a cat", 1, 2, 0.75, 4), Said("a cat", 3, 4, 0.5, 2), Said("a cat", 5, 6, 0.25, 1)]
    return Published(("rapidata", str(root)), said, {"label": 1}, 1)


def chosen_rejected_jsonl(root: Path) -> Published:
    """Paths beside the table; one leads out of its folder, one to nothing."""
    rows = [
        {"prompt": "a cat", "chosen": "pictures/1.png", "rejected": "pictures/2.png"},
        {"prompt": "a cat", "chosen": "../secret.png", "rejected": "pictures/2.png"},
        {"prompt": "a cat", "chosen": "pictures/1.png", "rejected": "pictures/7.png"},
    ]
    _files(root / "pictures", 1, 2)
    (root.parent / "secret.png").write_bytes(picture(9))
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Published(("pairs", str(root / "pairs.jsonl")), [Said("a cat", 1, 2, 1)], {"picture missing": 2})


def labelled_pairs(root: Path) -> Published:
    """Words; of a number nobody can tell what it means."""
    rows = [
        {"caption": "a cat", "image_a": picture(1), "image_b": picture(2), "label": "image_b"},
        {"caption": "a cat", "image_a": picture(3), "image_b": picture(4), "label": "First"},
        {"caption": "a cat", "image_a": picture(5), "image_b": picture(6), "label": "tie"},
        {"caption": "a cat", "image_a": picture(1), "image_b": picture(6), "label": "1"},
        {"caption": "a cat", "image_a": picture(1), "image_b": picture(4), "label": None},
    ]
    write_parquet(root / "train.parquet", rows)
    said = [Said("a cat", 1, 2, 0), Said("a cat", 3, 4, 1), Said("a cat", 5, 6, 0.5)]
    return Published(("pairs", str(root)), said, {"label": 1}, 1)


def numbered_pairs(root: Path) -> Published:
    """The user says what the numbers mean; another number stays unusable."""
    rows = [{"prompt": "a cat", "image_0": picture(at), "image_1": picture(at + 10), "label": at} for at in range(4)]
    write_parquet(root / "train.parquet", rows)
    told = ("--label", "first=0", "--label", "second=1", "--label", "tie=2")
    said = [Said("a cat", 0, 10, 1), Said("a cat", 1, 11, 0), Said("a cat", 2, 12, 0.5)]
    return Published(("pairs", str(root), *told), said, {"label": 1})


def unpaired(root: Path) -> Published:
    def row(pair: str, number: int, label: bool) -> dict[str, Any]:
        return {"prompt": "a cat", "completion": hub_image(picture(number)), "label": label, "pair_id": pair}

    rows = [row("p1", 1, True), row("p1", 2, False), row("p2", 3, False), row("p2", 4, True), row("p3", 5, True)]
    write_parquet(root / "train.parquet", rows, images=("completion",))
    return Published(("unpaired", str(root)), [Said("a cat", 1, 2, 1), Said("a cat", 3, 4, 0)], {"label": 1})


def folders(root: Path) -> Published:
    for end, numbers in (("chosen", {"a": 1, "b": 2, "c": 3}), ("rejected", {"a": 4, "b": 5})):
        (root / end).mkdir(parents=True)
        for stem, number in numbers.items():
            (root / end / f"{stem}.png").write_bytes(picture(number))
            (root / end / f"{stem}.txt").write_text("a cat\n" if stem != "b" else f"a dog {end}")
    return Published(("folders", str(root)), [Said("a cat", 1, 4, 1)], {"caption": 1, "picture missing": 1})


def label_studio(root: Path) -> Published:
    """Two people, one skips; a choice of both sides is none."""

    def task(first: str, *annotations: dict[str, Any]) -> dict[str, Any]:
        data = {"prompt": "a cat", "image_a": first, "image_b": "/data/local-files/?d=images/2.png"}
        return {"id": 1, "data": data, "annotations": list(annotations)}

    def said(who: Any, **value: Any) -> dict[str, Any]:
        result = [{"from_name": "p", "to_name": "image_a,image_b", "type": "pairwise", "value": value}]
        return {"completed_by": who, "lead_time": 3.5, "was_cancelled": False, "result": result}

    rows = [
        task(
            "images/1.png",
            said(1, selected="left"),
            said({"email": "x@y.z"}, selected="right"),
            said(3, choices=["tie"]),
        ),
        task("images/3.png", {**said(1, selected="left"), "was_cancelled": True}),
        task("images/3.png", said(1, choices=["left", "right"])),
        task("images/4.png", said(2, selected="left")),
    ]
    _files(root / "images", 1, 2, 3, 4)
    (root / "export.json").write_text(json.dumps(rows))
    expected = [Said("a cat", 1, 2, 0.5, 3), Said("a cat", 4, 2, 1)]
    return Published(("label-studio", str(root / "export.json")), expected, {"label": 1}, 1)


EVERY: dict[str, Callable[[Path], Published]] = {
    made.__name__: made
    for made in (
        pickapic,
        pickapic_int,
        pickapic_webdataset,
        hpdv2_train,
        hpdv2_test,
        hpdv3,
        imagereward,
        imagereward_pair,
        imagereward_group,
        preferences_binarized,
        preferences_raw,
        argilla_columns,
        argilla_json,
        rapidata,
        chosen_rejected_jsonl,
        labelled_pairs,
        numbered_pairs,
        unpaired,
        folders,
        label_studio,
    )
}


def _files(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.png").write_bytes(picture(number))
