"""Prompts as people and machines write them, through every stage: each is kept as it is, or refused in one line."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aifeedback_dpo import prompts
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.records import prompt_id
from aifeedback_dpo.store import Run
from tests import tiny
from tests.conftest import ddpo
from tests.labelling import files

pytestmark = pytest.mark.slow

NOTHING = ("", "   ", "\u3000\t ", "\r\n")
KEPT = (
    "x" * 10_000,
    "שלום עולם a red circle",
    "\u202eأحمر\u202c دائرة \u2067x\u2069",
    "👩\u200d👩\u200d👧\u200d👦 and 🏳\ufe0f\u200d🌈",
    "a\0null",
    "bell\x07 escape\x1b[31m delete\x7f",
    "caf\u00e9",
    "cafe\u0301",
    "{braces} %s $HOME",
    "=1+1",
    "--run",
    '"quoted" \\ back',
    "null",
    "\0prompt",
    "\ufffe\uffff",
    "../../etc/passwd",
    "C:\\x\\con.txt",
    "<script>alert(1)</script>&amp;\"'",
)
EVAL = 4
QUICK = (
    "label.raters=null",
    f"prompts.train={len(KEPT) + 1 - EVAL}",
    f"prompts.eval={EVAL}",
    "generate.steps=1",
    "generate.candidates=2",
    "generate.pairs=1",
    "train.steps=1",
    "train.batch_size=4",
    "compare.resamples=20",
)
LINES = "one\ntwo\r\n three"


def write(path: Path, texts: tuple[str, ...] = (*NOTHING, LINES, *KEPT)) -> Path:
    """The prompts in the format that the name says; a line of text cannot hold several, nor an object a bare line."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt",), *((text,) for text in texts)])
    else:
        path.write_text("\n".join(text.replace(LINES, "one two three") for text in texts))
    return path


def source(path: Path) -> Run:
    return open_run(path.with_name("run"), "shapes", [f"prompts.source={path}", *QUICK])


def good(*arguments: str, run: Path) -> str:
    result = ddpo(*arguments, run=run)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn, labelled, trained and compared."""
    root = tmp_path_factory.mktemp("strange")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        good("generate", f"prompts.source={write(root / 'mine.jsonl')}", *QUICK, run=root / "run")
        said = good("label", "--scorer", "clip", "--scorer", "pickscore", run=root / "run")
        (root / "said.txt").write_text(said)
        good("train", "--judge", "pickscore", "--judge", "random", run=root / "run")
        good("compare", "pickscore", "vs", "random", run=root / "run")
    return root / "run"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt"])
def test_a_prompt_is_kept_letter_by_letter_and_an_empty_one_is_none(tmp_path, suffix):
    found = prompts.read(source(write(tmp_path / f"mine.{suffix}")))
    assert [*found.train, *found.eval] == ["one two three", *KEPT]  # and what looks alike in another form is another


def test_a_prompt_has_the_same_id_in_every_format_and_stage(run, tmp_path):
    named = {row["prompt_id"]: row["prompt"] for row in open_run(run, None).rows("prompts")}
    found = prompts.read(source(write(tmp_path / "mine.csv")))
    assert named == {prompt_id(text): text for text in (*found.train, *found.eval)}
    train = {prompt_id(text) for text in found.train}
    drawn = open_run(run, None).rows("images", name="base")
    assert {row["prompt_id"] for row in drawn} == set(named)  # those held out were drawn by `compare`
    assert {row["prompt_id"] for row in open_run(run, None).rows("pairs")} == train


@pytest.mark.parametrize("stage", [("generate",), ("label",), ("train", "--judge", "pickscore", "--judge", "random")])
def test_a_stage_that_is_run_again_finds_all_of_it_done(run, stage):
    before = {name: data for name, data in files(run).items() if name.endswith((".parquet", ".safetensors"))}
    good(*stage, run=run)
    assert {name: files(run)[name] for name in before} == before


def test_prompts_that_a_scorer_cuts_are_told(run):
    words, opened = tiny.tokenizer(), open_run(run, None)
    texts = {row["prompt_id"]: row["prompt"] for row in opened.rows("prompts") if row["split"] == "train"}
    long = {name for name, text in texts.items() if len(words(text).input_ids) > words.model_max_length}
    assert prompt_id(KEPT[0]) in long and len(long) < len(texts)
    told = f": {len(long)} of {len(texts)} prompts are longer than it reads and were cut"
    assert all(f"{name}{told}" in run.with_name("said.txt").read_text() for name in ("clip", "pickscore"))
    prompt_of = {row["image_id"]: row["prompt_id"] for row in opened.rows("images")}
    cut = {prompt_of[row["image_id"]] for row in opened.rows("scores", name="clip") if row["truncated"]}
    assert cut & set(texts) == long


def test_status_and_report_hold_every_prompt_as_text(run):
    told = ddpo("status", "--json", run=run)
    assert json.loads(told.stdout)["rows"]["prompts"] == len(KEPT) + 1
    page = (run / "report" / "index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    json.loads((run / "report" / "report.json").read_text())
    for table in (run / "report" / "tables").glob("*.csv"):
        with table.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert all(len(row) == len(header) for row in rows), table


@pytest.mark.parametrize("format", ["pickapic", "chosen-rejected", "unpaired", "webdataset", "folders", "label-studio"])
def test_an_export_writes_only_into_its_folder(run, tmp_path, format):
    around = set(run.parent.rglob("*"))
    good("export", format, str(tmp_path / "out" / "made"), "--judge", "pickscore", run=run)
    assert set(run.parent.rglob("*")) == around
    assert {path.name for path in tmp_path.rglob("*") if path.parent in (tmp_path, tmp_path / "out")} == {"out", "made"}
    names = {path.name for path in (tmp_path / "out" / "made").rglob("*")}
    assert not any("passwd" in name or "con.txt" in name for name in names)
    for part in (tmp_path / "out" / "made").rglob("*.parquet"):
        columns = pq.read_table(part)
        column = next(name for name in ("prompt", "caption") if name in columns.column_names)
        assert {"a\0null", "one two three", KEPT[0]} <= set(columns.column(column).to_pylist())


def test_nothing_lies_outside_the_run(run):
    assert {path.name for path in run.parent.iterdir()} == {"mine.jsonl", "run", "said.txt"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "half \\ud800 of it"}', "line 2 of"),
        ('{"prompt": "\\udc00"}', "half of a surrogate pair"),
        ("[" * 100_000, "no JSON on line 2"),
        ('{"prompt": 1' + "0" * 5000 + "}", "no JSON on line 2"),
    ],
)
def test_a_line_that_holds_no_text_is_named(tmp_path, line, words):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"prompt": "whole \ud83d\ude00"}) + "\n" + line)
    result = ddpo("generate", f"prompts.source={path}", *QUICK, run=tmp_path / "run")
    told = [said for said in result.stderr.splitlines() if said.startswith("ddpo: ")]
    assert result.exit_code == 3, result.output
    assert len(told) == 1 and words in told[0]
    assert not (tmp_path / "run").exists()
