"""ddpo verify: a sound run passes, however it was made; what is no fault is a note; and nothing is written."""

import json
import shutil
import sqlite3
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from aifeedback_dpo import config
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.cli.app import app
from aifeedback_dpo.records import KEYS, TABLES
from aifeedback_dpo.verify import whole
from tests.conftest import ddpo
from tests.verified import copy, edited, faults, files, first, opened, part_of, the_fault, verified

pytestmark = pytest.mark.slow


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


def test_the_runs_of_a_study_are_looked_at_with_it(labelled, tmp_path):
    recipe = config.load("human-vs-ai")
    study = tmp_path / "study"
    for name in recipe.study.images:
        shutil.copytree(labelled, study / name)
    (study / "recipe.yaml").write_text(config.dump(recipe))
    path = part_of(study / name, "pairs")
    path.write_bytes(b"")
    told = the_fault(study, path)
    assert "is corrupted" in told["what"]
    assert verified(study)[1]["checked"]["prompts"] == 10 * len(recipe.study.images)


def test_the_folder_may_be_named_alone_and_is_named_once(finished):
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


def test_a_score_that_is_missing_is_no_fault(labelled, tmp_path):
    run = copy(labelled, tmp_path)
    edited(part_of(run, "scores"), first(score=None))
    assert not faults(run)


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


def test_a_large_journal_is_looked_at_with_little_work_and_each_table_must_be_there(tmp_path, monkeypatch):
    """100 rows in each of four tables are 100**4 together; sqlite gives up after a million steps."""
    tables = ("showings", "answers", "undone", "annotators")
    path, connect = tmp_path / "votes.sqlite", sqlite3.connect
    base = connect(path)
    base.execute("CREATE TABLE settings AS SELECT 'version' AS key, '1' AS value")
    for table in tables:
        base.execute(f"CREATE TABLE {table} (number INTEGER)")
        base.executemany(f"INSERT INTO {table} VALUES (?)", [(number,) for number in range(100)])
    base.commit()

    def impatient(*args):
        opened = connect(*args)
        opened.set_progress_handler(lambda: 1, 1_000_000)
        return opened

    monkeypatch.setattr(whole.sqlite3, "connect", impatient)
    whole.journal(path)
    for table in tables:
        base.execute(f"ALTER TABLE {table} RENAME TO other")
        base.commit()
        with pytest.raises(sqlite3.OperationalError, match=f"no such table: {table}"):
            whole.journal(path)
        base.execute(f"ALTER TABLE other RENAME TO {table}")
        base.commit()
    base.close()


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
