"""Reading suites: every format and every published layout gives its different prompts in order, from here or from the hub."""

import csv
import io
import json
from pathlib import Path

import huggingface_hub.constants as constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import snapshot_download

from aifeedback_dpo.compare import suites
from aifeedback_dpo.compare.suites import Item
from aifeedback_dpo.compare.suites.known import STYLES
from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from tests.fake_hub import COMMIT
from tests.made_suites import prompts

SHARED = Path(__file__).parents[3] / "shared" / "data" / "prompts"
TEXTS = ["a cat", " a   dog", "a cat", "a fox"]
DIFFERENT = ["a cat", "a dog", "a fox"]
PARTI = b'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\t\n"cat a\tAnimals\tComplex\tx\n'


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs ../shared/data/prompts/{name}")
    return SHARED / name


def written(folder: Path, suffix: str) -> Path:
    """The same rows, `caption` beside a category, in the format that the suffix names."""
    path = folder / f"mine{suffix}"
    rows = [{"Caption": text, "Category": "x" if text == "a cat" else "y", "n": at} for at, text in enumerate(TEXTS)]
    if suffix == ".parquet":
        pq.write_table(
            pa.table({**{key: [row[key] for row in rows] for key in rows[0]}, "jpg_0": [b"bytes"] * 4}), path
        )
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_different_prompts_with_their_categories(tmp_path, suffix):
    suite = suites.load(str(written(tmp_path, suffix)))
    assert [(item.prompt, item.category) for item in suite.items] == list(zip(DIFFERENT, ["x", "y", "y"], strict=True))
    assert (suite.source, suite.images, suite.statistic, suite.detects) == (f"mine{suffix}", 1, "mean", False)
    assert suite.notes == ("1 of 4 prompts are repetitions and are drawn once",)
    assert [int(item.data["n"]) for item in suite.items] == [0, 1, 3]  # of a repeated prompt the first row
    assert "jpg_0" not in suite.items[0].data  # pictures beside the prompts are not read


def test_a_text_and_a_bare_list_have_no_categories(tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS))
    (tmp_path / "mine.json").write_text(json.dumps(TEXTS))
    for name in ("mine.txt", "mine.json"):
        suite = suites.load(str(tmp_path / name))
        assert prompts(suite) == DIFFERENT
        assert {item.category for item in suite.items} == {None}


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.csv", b"n\n1\n", UserError, "has the columns n; a prompt is called prompt, prompts, caption, text"),
        ("a.txt", b"\n \n", UserError, "has no prompts"),
        ("a.txt", b"caf\xe9\n", DataError, "is not UTF-8 text: .* at byte 3"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n', DataError, "cannot be understood: line 2"),
        ("a.jsonl", b"[1]\n", DataError, "neither a text nor an object"),
        ("a.json", b'{"a": 1}', DataError, "neither a list of prompts nor an object of lists"),
        ("a.jsonl", b'{"prompt": 5}\n', UserError, "the column prompt of .* holds int, not text"),
        ("a.parquet", b"PAR1", DataError, "cannot be understood"),
        ("a.tsv", b"prompt\na\tb\n", DataError, "more fields than the head"),
        ("a.yaml", b"a", UserError, r"ends in '\.yaml'; prompts are read from \.txt"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, name, content, kind, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=words) as error:
        suites.load(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("partti", "no suite 'partti', did you mean 'parti'. Known: parti, hpsv2, "),
        ("absent.tsv", "absent.tsv: there is no such file"),
        ("gen=a.jsonl", "no suite 'gen'"),
        ("parti=", "names no place"),
        ("parti=one/two/three", "no such file or folder, and no dataset"),
        ("parti=owner/absent.tsv", "no such file or folder, and no dataset"),
    ],
)
def test_what_nobody_knows_is_told_with_what_is_known(tmp_path, monkeypatch, spec, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        suites.load(spec)


def test_a_folder_needs_the_name_of_its_suite(tmp_path):
    with pytest.raises(UserError, match="say which suite it is, as --suite NAME="):
        suites.load(str(tmp_path))
    with pytest.raises(UserError, match=r"has no PartiPrompts\.tsv"):
        suites.load(f"parti={tmp_path}")


# -- published layouts -----------------------------------------------------------------------------------------------


def test_parti_keeps_category_challenge_and_quotation_marks(tmp_path):
    (tmp_path / "PartiPrompts.tsv").write_bytes(PARTI)
    for where in (tmp_path, tmp_path / "PartiPrompts.tsv"):
        suite = suites.load(f"parti={where}")
        assert suite.items[1] == Item('"cat a', "Animals", {"challenge": "Complex", "note": "x"})
        assert suite.notes == (f"{suite.source} has 2 prompts, and the published suite has 1632",)


def hpsv2(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for style in STYLES:
        (folder / f"{style}.json").write_text(json.dumps([f"a cat, {style}", f"a dog, {style}"]))
    (folder / "drawbench.json").write_text(json.dumps(["a red cube"]))
    return folder


@pytest.mark.parametrize("place", ["benchmark", "."])
def test_hpsv2_has_a_style_a_file_in_its_own_order(tmp_path, place):
    hpsv2(tmp_path / place)
    suite = suites.load(f"hpsv2={tmp_path}")
    assert [item.category for item in suite.items] == [style for style in STYLES for _ in range(2)]
    assert prompts(suites.load(f"drawbench={tmp_path}")) == ["a red cube"]


def test_hpsv2_as_a_flat_list_has_no_styles_and_says_so(tmp_path):
    (tmp_path / "hpsv2.json").write_text(json.dumps(TEXTS))
    suite = suites.load(f"hpsv2={tmp_path / 'hpsv2.json'}")
    assert {item.category for item in suite.items} == {None}
    assert any("does not say which style" in note for note in suite.notes)
    (tmp_path / "hpsv2.json").write_text(json.dumps({"anime": ["a"], "photo": ["b"]}))
    assert [item.category for item in suites.load(f"hpsv2={tmp_path / 'hpsv2.json'}").items] == ["anime", "photo"]


def test_pickapic_takes_each_caption_once_and_needs_every_piece(tmp_path):
    (tmp_path / "data").mkdir()
    first = tmp_path / "data" / "test_unique-00000-of-00002-ab.parquet"
    first.write_bytes(parquet(caption=["a cat", "a dog"], jpg_0=[b"", b""], label_0=[1.0, 0.5]))
    (tmp_path / "data" / "validation_unique-00000-of-00001.parquet").write_bytes(parquet(caption=["a hen"]))
    with pytest.raises(UserError, match=r"has no data/test_unique-\*\.parquet"):
        suites.load(f"pickapic={tmp_path}")
    first.with_name("test_unique-00001-of-00002-cd.parquet").write_bytes(parquet(caption=["a cat", "a fox"]))
    assert prompts(suites.load(f"pickapic={tmp_path}")) == DIFFERENT
    assert prompts(suites.load(f"pickapic-validation={tmp_path}")) == ["a hen"]


def test_geneval_needs_what_must_be_seen(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    include = [{"class": "clock", "count": 2}]
    path.write_text(json.dumps({"tag": "counting", "include": include, "prompt": "two clocks"}))
    suite = suites.load(f"geneval={tmp_path}")
    assert suite.items == (Item("two clocks", "counting", {"include": include}),)
    assert (suite.images, suite.detects) == (4, True)
    assert suites.load(str(path)).detects
    path.write_text(json.dumps({"tag": "counting", "prompt": "two clocks"}))
    with pytest.raises(UserError, match="says of 1 prompts not what must be seen"):
        suites.load(f"geneval={path}")
    assert not suites.load(str(path)).detects


def coco(folder: Path, images: int) -> Path:
    (folder / "annotations").mkdir(exist_ok=True)
    told = {
        "images": [{"id": at, "file_name": f"COCO_val2014_{at:012d}.jpg"} for at in range(images)],
        "annotations": [
            {"id": at * 10 + nth, "image_id": at, "caption": f"caption {nth} of {at}"}
            for nth in (1, 0)
            for at in range(images)
        ],
    }
    (folder / "annotations" / "captions_val2014.json").write_text(json.dumps(told))
    return folder


def test_coco_takes_the_first_caption_of_each_picture_and_finds_the_folder(tmp_path):
    suite = suites.load(f"coco={coco(tmp_path, 30)}")
    assert all(item.prompt == f"caption 0 of {int(item.data['image'][-6:-4])}" for item in suite.items)
    assert (suite.read, suite.reference) == (30, None)
    assert any("FID is not measured" in note for note in suite.notes)
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000000.jpg").touch()
    assert suites.load(f"coco={tmp_path}").reference == tmp_path / "val2014"
    (tmp_path / "annotations" / "captions_val2014.json").write_text("[]")
    with pytest.raises(DataError, match="is no captions file of COCO"):
        suites.load(f"coco={tmp_path}")


def test_a_shorter_draw_of_coco_is_the_start_of_a_longer_one(tmp_path):
    suite = suites.load(f"coco={coco(tmp_path, 40)}")
    assert prompts(suite) != [f"caption 0 of {at}" for at in range(40)]
    assert prompts(suites.limited(suite, 10)) == prompts(suite)[:10]


def test_the_real_files_are_read_whole():
    """By hand, of the published files: 314 animals to 40 rooms; 80, 99, 80, 94, 100 and 100 prompts of the six tasks."""
    parti, geneval = (
        suites.load(f"{name}={shared(file)}")
        for name, file in (("parti", "PartiPrompts.tsv"), ("geneval", "geneval_metadata.jsonl"))
    )
    for suite, counts in ((parti, [40, 314]), (geneval, [80, 80, 94, 99, 100, 100])):
        found = [item.category for item in suite.items]
        sizes = sorted(found.count(category) for category in set(found))
        assert (sizes if len(sizes) == len(counts) else [sizes[0], sizes[-1]]) == counts
        assert suite.notes == ()
    assert len(parti.items) == 1632


# -- the hub ---------------------------------------------------------------------------------------------------------


def test_a_suite_is_read_from_the_hub_at_a_commit_and_then_without_it(online, monkeypatch):
    files = {"benchmark/anime.json": b'["a"]', "benchmark/photo.json": b'["b"]', "train.json": b"[]"}
    files |= {f"benchmark/{style}.json": json.dumps([style]).encode() for style in STYLES}
    online.repositories["datasets/zhwang/HPDv2"] = files
    suite = suites.load("hpsv2")
    assert (suite.source, prompts(suite)) == (f"zhwang/HPDv2@{COMMIT}", list(STYLES))
    assert not any("train.json" in question for question in online.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(online.asked)
    assert suites.load("hpsv2") == suite
    assert suites.load("hpsv2=zhwang/HPDv2@main") == suite
    assert len(online.asked) == asked


def test_what_hf_download_left_is_found_without_the_hub(online, monkeypatch):
    online.repositories["datasets/nateraw/parti-prompts"] = {"PartiPrompts.tsv": PARTI, "README.md": b""}
    snapshot_download("nateraw/parti-prompts", repo_type="dataset")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(suites.load("parti").items) == 2


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        ("parti", "`hf download --repo-type dataset nateraw/parti-prompts PartiPrompts.tsv`"),
        ("parti=team/mirror@abc", "`hf download --repo-type dataset team/mirror PartiPrompts.tsv --revision abc`"),
        ("pickapic", r"no_images --include 'data/test_unique-\*\.parquet'`"),
        ("geneval", "run `curl -LO https://raw.* give --suite geneval=PATH"),
        ("coco", "run `curl -LO http://images.cocodataset.org"),
    ],
)
def test_a_suite_that_is_not_here_is_one_line_with_the_command(cache, spec, command):
    with pytest.raises(ModelMissing, match=command) as error:
        suites.load(spec)
    assert error.value.exit_code == 4
    assert "\n" not in str(error.value)


def test_half_of_a_suite_is_not_taken_for_whole(online, monkeypatch):
    files = {f"benchmark/{style}.json": b'["a"]' for style in STYLES[:3]}
    online.repositories["datasets/zhwang/HPDv2"] = files
    with pytest.raises(ModelMissing, match=r"came without benchmark/photo\.json"):
        suites.load("hpsv2")
