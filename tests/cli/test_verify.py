"""ddpo verify: a sound run passes; whatever is broken is told with its file and the next step; nothing is written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.annotate import ballots
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.records import KEYS, MARK, TABLES, pair_id, prompt_id
from aifeedback_dpo.store import Run, encode_image
from tests import published
from tests.conftest import TINY, ddpo

pytestmark = pytest.mark.slow

Row = dict[str, Any]


def verified(run: Path, *options: str) -> tuple[int, Any]:
    """What it leaves with, and says as JSON."""
    result = ddpo("verify", "--json", *options, run=run)
    assert result.stdout, result.output
    return result.exit_code, json.loads(result.stdout)


def faults(run: Path, *options: str) -> list[dict[str, str]]:
    code, told = verified(run, *options)
    assert code == (3 if told["faults"] else 0)
    return told["faults"]


def the_fault(run: Path, path: Path, *options: str) -> dict[str, str]:
    """The only one of this file."""
    (found,) = (fault for fault in faults(run, *options) if fault["path"] == str(path))
    return found


def opened(run: Path) -> Run:
    return Run(run, config.load(run / "recipe.yaml"))


def part_of(run: Path, table: str, name: str | None = None) -> Path:
    return opened(run).parts(table, name)[0]


def edited(path: Path, edit: Callable[[list[Row]], object]) -> None:
    """The part with other rows, whole and with the marks of its table."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path, compression="zstd", write_page_checksum=True)


def inside(path: Path, column: str) -> int:
    """A byte of the file that is one of this column's values."""
    group = pq.read_metadata(path).row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    (chunk,) = (chunk for chunk in chunks if chunk.path_in_schema == column)
    return (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size // 2


def first(**values: object) -> Callable[[list[Row]], object]:
    return lambda rows: rows[0].update(values)


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "copy"))


def files(run: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A run that was imported, and the arguments that it came by."""
    folder = tmp_path_factory.mktemp("imported")
    arguments = published.pickapic(folder / "set").arguments
    assert ddpo("import", *arguments, run=folder / "run").exit_code == 0
    return folder / "run", arguments


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run without policies."""
    run = tmp_path_factory.mktemp("labelled") / "run"
    for command in (("generate", *TINY), ("label", "--scorer", "pickscore")):
        assert ddpo(*command, run=run).exit_code == 0
    return run


def test_a_finished_run_is_sound_and_nothing_in_it_changes(finished):
    before = files(finished)

    code, told = verified(finished)

    assert (code, told["faults"], told["notes"]) == (0, [], [])
    run = opened(finished)
    for table in ("prompts", "images", "pairs", "scores", "preferences"):
        assert told["checked"][table] == run.read(table, [KEYS[table]]).num_rows
    assert told["checked"]["parts"] == sum(len(run.parts(table)) for table in TABLES)
    assert told["checked"]["pictures opened"] == told["checked"]["images"]
    assert told["checked"]["policies"] == 3
    assert told["checked"]["cache parts"] > 0
    assert files(finished) == before


def test_imported_runs_are_sound(imported):
    run, _ = imported
    code, told = verified(run)
    assert (code, told["faults"], told["notes"]) == (0, [], [])
    assert told["checked"]["votes"] > 0


def test_the_folder_may_be_named_alone_and_is_named_once(finished):
    from typer.testing import CliRunner

    from aifeedback_dpo.cli.app import app

    said = CliRunner().invoke(app, ["verify", str(finished), "--quick"])
    assert said.exit_code == 0
    assert said.stdout.splitlines()[-1].endswith("no faults")
    assert "pictures opened" not in said.stdout
    assert ddpo("verify", str(finished / "other"), run=finished).exit_code == 2
    assert "is not a run" in ddpo("verify", run=finished / "cache").stderr


def test_torch_is_not_loaded(finished):
    code = (
        "import sys\nfrom aifeedback_dpo.cli.app import app\n"
        f"try:\n    app(['verify', {str(finished)!r}])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', [name for name in ('torch', 'diffusers', 'transformers', 'datasets') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in shown.stdout


@pytest.mark.parametrize("table", ["prompts", "images", "pairs", "scores", "preferences", "votes"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_part_is_told_with_what_makes_it_anew(copied, imported, table, damage, tmp_path):
    run = copy(imported[0], tmp_path) if table == "votes" else copied
    path = part_of(run, table)
    good = path.read_bytes()
    at = inside(path, "image.bytes" if table == "images" else KEYS[table])
    flipped = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    path.write_bytes(good[: len(good) // 2] if damage == "truncated" else flipped)

    told = the_fault(run, path, "--quick")

    assert "is corrupted" in told["what"]
    assert told["then"].startswith("Delete it and")


def test_a_part_of_another_schema_or_a_newer_version_is_told(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    older, newer, strange = (part_of(run, table) for table in ("scores", "pairs", "preferences"))
    table = pq.read_table(older, partitioning=None)
    pq.write_table(table.drop_columns(["score"]), older)
    table = pq.read_table(newer, partitioning=None)
    told = {**table.schema.metadata, MARK: b'{"schema_version": 2, "table": "pairs"}'}
    pq.write_table(table.replace_schema_metadata(told), newer)
    strange.write_bytes(part_of(run, "prompts").read_bytes())

    found = {fault["path"]: fault for fault in faults(run)}

    assert "is of another schema (no column score: float)" in found[str(older)]["what"]
    assert "was written by a newer aifeedback_dpo (schema 2, this one reads 1)" in found[str(newer)]["what"]
    assert found[str(newer)]["then"].startswith("Update")
    assert "is a part of prompts, and lies among preferences" in found[str(strange)]["what"]


BROKEN_PICTURE = {"bytes": b"no picture", "path": "x.webp"}
BLACK = {"bytes": encode_image(Image.new("RGB", (48, 48))), "path": "x.webp"}
SMALL = {"bytes": encode_image(Image.new("RGB", (8, 8))), "path": "x.webp"}
NOBODY = "0" * 32


@pytest.mark.parametrize(
    ("table", "edit", "says"),
    [
        ("prompts", first(prompt="a green dog"), "1 prompts whose id is not that of their text"),
        ("prompts", first(split="test"), "1 prompts of neither train nor eval"),
        ("images", first(image=BROKEN_PICTURE), "1 pictures that do not open"),
        ("images", first(image=BLACK), "1 pictures with other pixels than their row says"),
        ("images", first(image=SMALL), "1 pictures of another size than their row says"),
        ("images", first(image={"bytes": None, "path": "x"}), "1 pictures without bytes"),
        ("images", first(image_id=None), "1 rows without image_id"),
        ("pairs", first(pair_id=NOBODY), "1 pairs whose id is not that of their images"),
        ("pairs", lambda rows: rows[0].update(image_a=rows[0]["image_b"]), "1 pairs of a picture with itself"),
        ("pairs", first(image_a=NOBODY), f"names 1 images that are not in the run (first: {NOBODY})"),
        ("pairs", first(prompt_id=NOBODY), f"names 1 prompts that are not in the run (first: {NOBODY})"),
        ("scores", first(score=float("nan")), "1 scores that are not finite"),
        ("scores", first(score=float("inf")), "1 scores that are not finite"),
        ("scores", first(scorer="clip"), "rows of scorer clip, and lies among those of"),
        ("scores", first(image_id=NOBODY), "names 1 images that are not in the run"),
        ("preferences", first(p_a=1.5), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(p_a=float("nan")), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(p_a=None), "1 rows whose p_a is no number from 0 to 1"),
        ("preferences", first(judge="clip"), "rows of judge clip, and lies among those of"),
        ("preferences", first(pair_id=NOBODY), "names 1 pairs that are not in the run"),
    ],
)
def test_a_row_that_is_not_what_it_must_be_is_told(labelled, tmp_path, table, edit, says):
    run = copy(labelled, tmp_path)
    path = part_of(run, table)
    edited(path, edit)
    found = [fault for fault in faults(run) if fault["path"] == str(path) and says in fault["what"]]
    assert len(found) == 1, faults(run)
    assert "run `ddpo " in found[0]["then"].lower()


def test_a_score_that_is_missing_is_no_fault(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    edited(part_of(run, "scores"), first(score=None))
    assert not faults(run)


def test_a_picture_of_a_prompt_that_is_not_in_the_run_is_a_fault_unless_a_comparison_drew_it(
    labelled, finished, tmp_path
):
    for made, expected in ((labelled, 1), (finished, 0)):
        run = copy(made, tmp_path / made.name / str(expected))
        row = opened(run).rows("images", ["image_id", "pixel_sha256"])[0]
        blank = dict.fromkeys(TABLES["images"].names)
        whole = {"image": BLACK, "width": 48, "height": 48, "pixel_sha256": pixels(48)}
        opened(run).commit("images", [blank | row | whole | {"image_id": "f" * 32, "prompt_id": NOBODY}], "x", "base")
        told = [fault for fault in faults(run) if "prompts that are not in the run" in fault["what"]]
        assert len(told) == expected


def pixels(side: int) -> str:
    from hashlib import sha256

    return sha256(bytes(3 * side * side)).hexdigest()


def test_a_pair_across_prompts_and_a_held_out_picture_that_is_trained_on_are_told(finished, tmp_path):
    run = copy(finished, tmp_path)
    path = part_of(run, "pairs")
    held_out = {row["prompt_id"] for row in opened(run).rows("prompts") if row["split"] == "eval"}
    foreign = next(row for row in opened(run).rows("images") if row["prompt_id"] in held_out)["image_id"]
    edited(path, lambda rows: rows[0].update(image_a=foreign, pair_id=pair_id(foreign, rows[0]["image_b"])))

    whats = [fault["what"] for fault in faults(run, "--quick") if fault["path"] == str(path)]

    assert whats == [
        f"has 1 pictures of another prompt than their pair's (first: {foreign})",
        f"has 1 pictures of held-out prompts in pairs that are trained on (first: {foreign})",
    ]


def test_an_id_that_is_there_twice_is_a_note_and_a_fault_where_its_rows_differ(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    for table, column, other in (("images", "seed", 7), ("prompts", "source", "me"), ("pairs", "chosen_by", "me")):
        path = part_of(run, table)
        twin = path.with_name("part-zz.parquet")
        twin.write_bytes(path.read_bytes())
        code, told = verified(run, "--quick")
        assert (code, len(told["notes"])) == (0, 1), told
        assert "there twice, with the very same rows" in told["notes"][0]
        edited(twin, first(**{column: other}))
        assert "has 1 rows that contradict those of the same id" in the_fault(run, twin, "--quick")["what"]
        twin.unlink()


def test_a_scorer_with_other_weights_may_score_a_picture_again(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    path = part_of(run, "scores")
    twin = path.with_name("part-zz.parquet")
    twin.write_bytes(path.read_bytes())
    edited(twin, lambda rows: [row.update(recipe="f" * 32, score=0.25) for row in rows])
    code, told = verified(run, "--quick")
    assert (code, told["notes"]) == (0, [])
    edited(twin, lambda rows: [row.update(recipe=pq.read_table(path).column("recipe")[0].as_py()) for row in rows])
    assert "contradict" in the_fault(run, twin, "--quick")["what"]


def test_prompts_that_are_gone_are_told(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    (run / "prompts" / "part-eval.parquet").unlink()
    assert the_fault(run, run / "prompts")["what"] == "has 0 prompts of split eval, and the recipe has 4"
    assert ddpo("generate", run=run).exit_code == 0
    assert not faults(run)


@pytest.mark.parametrize("table", ["prompts", "images", "pairs", "scores", "preferences"])
@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_what_is_advised_mends_the_run(labelled, tmp_path, table, how):
    """Delete the file and run the command that is named: the same bytes are there again."""
    run = copy(labelled, tmp_path)
    path = part_of(run, table, "pickscore" if table in ("scores", "preferences") else None)
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    then = the_fault(run, path)["then"]
    path.unlink()
    if how == "gone" and table not in ("scores", "preferences"):  # of which the others name rows
        then = faults(run)[0]["then"]
        assert then.startswith("Run ")
    command = then.partition("`ddpo ")[2].partition("`")[0]
    assert command == ("label --scorer pickscore" if table in ("scores", "preferences") else "generate")
    assert ddpo(*command.split(), run=run).exit_code == 0
    assert not faults(run)
    assert path.read_bytes() == good


@pytest.mark.parametrize("table", ["prompts", "images", "pairs", "votes"])
def test_what_is_advised_mends_an_imported_run(imported, tmp_path, table):
    made, arguments = imported
    run = copy(made, tmp_path)
    path = part_of(run, table)
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    (slices,) = (run / "imports").iterdir()
    then = the_fault(run, path)["then"]
    assert then == f"Delete it and {slices}, and run the same `ddpo import` again; the rest is kept"
    path.unlink()
    for ledger in slices.iterdir():
        ledger.unlink()
    slices.rmdir()
    assert ddpo("import", *arguments, run=run).exit_code == 0
    assert not faults(run)
    assert path.read_bytes() == good


def test_people_s_preferences_come_back_by_an_import(imported, tmp_path):
    made, arguments = imported
    run = copy(made, tmp_path)
    path = part_of(run, "preferences", "human")
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    assert "of people, `ddpo import`" in the_fault(run, path)["then"]
    path.unlink()
    assert ddpo("import", *arguments, run=run).exit_code == 0
    assert path.read_bytes() == good


def test_an_imported_picture_is_held_to_its_bytes(imported, tmp_path):
    run = copy(imported[0], tmp_path)
    path = part_of(run, "images")
    edited(path, lambda rows: rows[0].update(image=rows[1]["image"]))
    assert "imported pictures whose id is not that of their bytes" in the_fault(run, path, "--quick")["what"]


def test_policies_without_whole_weights_or_description_are_told(copied):
    human, other, third = (copied / "policies" / judge / "seed-0" for judge in ("human", "pickscore", "random"))
    (weights,) = human.rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5])
    (gone,) = other.rglob("*.safetensors")
    gone.unlink()
    (third / "policy.json").write_text('{"judge": ')

    found = {fault["path"]: fault for fault in faults(copied, "--quick")}

    assert "is corrupted" in found[str(weights)]["what"]
    assert f"Delete {human} and run `ddpo train` again" in found[str(weights)]["then"]
    assert "lacks its weights" in found[str(other)]["what"]
    assert "is corrupted" in found[str(third / "policy.json")]["what"]


def test_a_policy_of_other_labels_and_a_model_nobody_named_are_notes(copied):
    edited(part_of(copied, "preferences", "pickscore"), lambda rows: rows[0].update(p_a=1 - rows[0]["p_a"]))
    manifest = copied / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["made_by"]["generate"]["models"]
    manifest.write_text(json.dumps(said))

    code, told = verified(copied, "--quick")

    assert (code, told["faults"]) == (0, [])
    (labels,) = (note for note in told["notes"] if "was trained on other labels of pickscore" in note)
    assert str(copied / "policies" / "pickscore" / "seed-0") in labels
    assert any("which manifest.json does not name" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", "garbage", "is no manifest"),
        ("manifest.json", '{"schema_version": 9, "made_by": {}}', "newer aifeedback_dpo (schema 9"),
        ("manifest.json", '{"schema_version": 1, "made_by": {"generate": 3}}', "is no manifest"),
        ("recipe.yaml", "a: [", "cannot be read"),
    ],
)
def test_a_manifest_or_a_recipe_that_cannot_be_read_hides_no_other_fault(labelled, tmp_path, name, content, says):
    run = copy(labelled, tmp_path)
    broken = part_of(run, "scores")
    broken.write_bytes(b"")
    (run / name).write_text(content)
    found = {fault["path"]: fault["what"] for fault in faults(run)}
    assert says in found[str(run / name)]
    assert str(broken) in found


def test_what_training_keeps_is_looked_at(copied):
    shelf = next(copied.glob("cache/latents-*/part-*.safetensors"))
    shelf.write_bytes(shelf.read_bytes()[:-1])
    reference = next(copied.glob("cache/reference-*/part-*.parquet"))
    data = bytearray(reference.read_bytes())
    data[60] ^= 1
    reference.write_bytes(data)
    checkpoint = copied / "policies" / "human" / "seed-0" / "checkpoints" / "step-000001.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(bytes(100))
    for path in (shelf, reference, checkpoint):
        assert the_fault(copied, path, "--quick")["then"] == "Delete it and run `ddpo train` again"


def test_ledgers_of_an_import_are_looked_at(imported, tmp_path):
    run = copy(imported[0], tmp_path)
    ledger = next(run.glob("imports/*/rows-*.json"))
    ledger.write_text("{}")
    assert f"Delete {ledger.parent}" in the_fault(run, ledger)["then"]


def test_the_journal_of_votes_is_looked_at_and_not_touched(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    path = run / "annotate" / "votes.sqlite"
    journal = Journal(path)
    journal.invite([f"person {number}" for number in range(500)])
    before = files(run)
    assert not faults(run)  # while it is open, with votes that are not in the file yet
    assert files(run) == before
    journal.close()
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    assert "is corrupted" in the_fault(run, path)["what"]


def test_an_annotated_run_is_sound_and_its_votes_come_back_as_advised(labelled, tmp_path):
    root = copy(labelled, tmp_path)
    run = Run(root, config.load(config.load(root / "recipe.yaml").model_dump(mode="json"), ["label.raters=null"]))
    shutil.rmtree(root / "preferences" / "human")
    journal = Journal(root / "annotate" / "votes.sqlite")
    journal.invite(["ann"])
    with journal.transaction():
        for place, pair in enumerate(sorted(run.done("pairs"))):
            journal.answer(journal.show("ann", place, "vote", pair, "a"), "b", 900)
    assert ballots.export(run, journal) == 18
    journal.close()
    assert verified(root)[1]["checked"]["votes"] == 18
    assert not faults(root)
    for table in ("votes", "preferences"):
        path = part_of(root, table, "annotate" if table == "votes" else "human")
        good = path.read_bytes()
        path.write_bytes(good[:-9])
        assert "`ddpo annotate --report`" in the_fault(root, path)["then"]
        path.unlink()
        assert ddpo("annotate", "--report", run=root).exit_code == 0
        assert path.read_bytes() == good
        assert not faults(root)


def test_leftovers_are_counted_and_strangers_named(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    (run / "pairs" / ".part-a.parquet.1.tmp").write_bytes(b"half")
    (run / "pairs" / "notes.txt").write_text("mine")
    code, told = verified(run)
    assert (code, told["checked"]["leftovers"]) == (0, 1)
    assert told["notes"] == [
        f"1 files among the tables are no parts and are not read (first: {run / 'pairs' / 'notes.txt'})"
    ]


def test_twenty_faults_of_a_kind_are_printed_and_the_rest_counted(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    for number in range(23):
        (run / "pairs" / f"part-x{number:02d}.parquet").write_bytes(b"")
    result = ddpo("verify", run=run)
    lines = result.stdout.splitlines()
    assert result.exit_code == 3
    assert sum("is corrupted" in line for line in lines) == 20
    assert "... and 3 more of part" in lines
    assert lines[-1].endswith(": 23 faults")
    assert len(faults(run)) == 23


def test_the_id_of_a_prompt_is_that_of_its_text(labelled):
    """What the check of prompts holds them to."""
    assert all(row["prompt_id"] == prompt_id(row["prompt"]) for row in opened(labelled).rows("prompts"))
