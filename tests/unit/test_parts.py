"""A part says its table and its version, and whoever reads it is told in one line what is wrong with it and what to do."""

import errno
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aifeedback_dpo import config, parts, records
from aifeedback_dpo.errors import DataError, DdpoError
from aifeedback_dpo.parts import read_part
from aifeedback_dpo.records import MARK
from aifeedback_dpo.store import Run

PROMPTS = [{"prompt_id": records.prompt_id(text), "prompt": text, "split": "train", "source": "t"} for text in "abcd"]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", config.load("shapes"))


@pytest.fixture
def part(run):
    run.commit("prompts", PROMPTS, "a")
    return run.parts("prompts")[0]


def rewrite(path: Path, *, mark: object = None, drop: str | None = None, retype: str | None = None) -> None:
    """The same rows under another mark (b"" for none), without a column, or with one of another type."""
    table = pq.read_table(path, partitioning=None)
    if drop:
        table = table.drop_columns([drop])
    if retype:
        at = table.schema.get_field_index(retype)
        table = table.set_column(at, retype, pa.array([7] * len(table)))
    if mark is not None:
        metadata = {key: value for key, value in table.schema.metadata.items() if key != MARK}
        told = mark if isinstance(mark, bytes) else json.dumps(mark).encode()
        table = table.replace_schema_metadata({**metadata, **({MARK: told} if told else {})})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def test_every_table_says_its_name_and_version(run):
    for table in records.TABLES:
        run.commit(table, [], "a")
        told = pq.read_schema(run.parts(table)[0]).metadata
        assert json.loads(told[MARK]) == {"schema_version": 1, "table": table}
        assert b"huggingface" in told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"mark": {"schema_version": 2, "table": "prompts"}},
            r"was written by a newer aifeedback_dpo \(schema 2, this one reads 1\)\. Update this one",
        ),
        ({"mark": {"schema_version": 1, "table": "pairs"}}, r"is a part of pairs, and lies among prompts\. Delete it"),
        ({"mark": b""}, r"does not say by which version of aifeedback_dpo it was written\. Delete it"),
        ({"mark": b"\xff{"}, r"does not say by which version"),
        ({"mark": [1]}, r"does not say by which version"),
        (
            {"drop": "prompt"},
            r"is of another schema \(no column prompt: string\)\. Delete it and run `ddpo generate --run ",
        ),
        ({"retype": "prompt"}, r"is of another schema \(column prompt is int64, and should be string\)\. Delete it"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_refused_with_the_reason_and_the_next_step(part, change, says):
    rewrite(part, **change)
    with pytest.raises(DataError, match=rf"part-a\.parquet {says}") as caught:
        read_part(part, "prompts", None)
    assert len(str(caught.value).splitlines()) == 1


def test_only_the_columns_that_are_asked_for_are_held_to_the_schema_and_come_in_that_order(part):
    rewrite(part, drop="source")
    found = read_part(part, "prompts", ["split", "prompt_id"])
    assert found.column_names == ["split", "prompt_id"]
    assert found.column("prompt_id").to_pylist() == [row["prompt_id"] for row in PROMPTS]


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_no_flipped_byte_changes_what_is_read(part, mask):
    """Pages have checksums; their headers and the footer have none, so each byte is tried: an error, or the very same rows."""
    good = part.read_bytes()
    refused = 0
    for at in range(len(good)):
        part.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
        try:
            found = read_part(part, "prompts", None).to_pylist()
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
        else:
            assert found == PROMPTS, at
    assert refused > len(good) / 4  # the rest is what no reader looks at: statistics, and padding


def test_a_part_that_cannot_be_opened_is_not_called_corrupted(part, monkeypatch):
    def refused(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(parts.pa, "OSFile", refused)
    with pytest.raises(DdpoError, match="cannot be read: Permission denied") as caught:
        read_part(part, "prompts", None)
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("table", "name", "says"),
    [
        ("images", "base", "`ddpo generate{run}` (or, for held-out prompts, `ddpo compare{run}`) again"),
        ("scores", "clip", "`ddpo label --scorer clip{run}` (or, for held-out prompts, `ddpo compare{run}`) again"),
        ("answers", "llava", "`ddpo label --scorer llava{run}` again"),
        ("preferences", "clip", "`ddpo label --scorer clip{run}` again"),
        ("preferences", "consensus", "`ddpo label --judge consensus{run}` again"),
        ("preferences", "random", "`ddpo label{run}` (or, of people, `ddpo annotate --report{run}`) again"),
    ],
)
def test_the_next_step_names_the_scorer_or_the_judge(run, table, name, says):
    said = parts.again(run.root / table / name / "part-x.parquet", table)
    assert f"run {says.format(run=f' --run {run.root}')}" in said


def test_an_import_is_advised_only_where_something_was_imported_and_a_folder_s_name_is_quoted(tmp_path):
    root = tmp_path / "my run"
    path = root / "pairs" / "part-x.parquet"
    assert parts.again(path, "pairs") == f"Delete it and run `ddpo generate --run '{root}'` again; the rest is kept"
    (root / "imports").mkdir(parents=True)
    assert f"run `ddpo generate --run '{root}'` or `ddpo import ... --run '{root}'` again" in parts.again(path, "pairs")


def test_what_was_imported_comes_back_by_reading_its_set_again(run):
    path = run.root / "images" / "part-pairs-set-train-000000000.parquet"
    run.write_text(run.imports("pairs-set-train") / "about.json", "{}")
    said = parts.again(path, "images")
    assert said.startswith(
        f"Delete it and {run.imports('pairs-set-train')}, and run the same `ddpo import ... --run {run.root}` again"
    )


def test_ids_of_many_parts_are_packed_in_path_order_with_the_count_of_each(run):
    run.commit("prompts", PROMPTS[:1], "a")
    run.commit("prompts", [], "b")
    run.commit("prompts", PROMPTS[1:], "c")
    found, counts = parts.ids(run.parts("prompts"), "prompts", "prompt_id")
    assert found.dtype == np.dtype("S32")
    assert [one.decode() for one in found] == [row["prompt_id"] for row in PROMPTS]
    assert counts.tolist() == [1, 0, 3]
    nothing, none = parts.ids([], "prompts", "prompt_id")
    assert len(nothing) == len(none) == 0
