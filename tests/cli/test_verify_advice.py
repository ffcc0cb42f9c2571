"""ddpo verify: what it advises mends the run. The named file is deleted, the named command run, and the same bytes are back."""

import shutil

import pytest
from typer.testing import CliRunner

from aifeedback_dpo import config
from aifeedback_dpo.annotate import ballots
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.cli.app import app
from aifeedback_dpo.store import Run
from tests.conftest import ddpo
from tests.verified import copy, faults, part_of, the_fault, verified

pytestmark = pytest.mark.slow


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
    made = "label --scorer pickscore" if table in ("scores", "preferences") else "generate"
    assert command == f"{made} --run {run}"
    assert CliRunner().invoke(app, command.split()).exit_code == 0
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
    assert then == f"Delete it and {slices}, and run the same `ddpo import ... --run {run}` again; the rest is kept"
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
    assert "of people, `ddpo import ... --run" in the_fault(run, path)["then"]
    path.unlink()
    assert ddpo("import", *arguments, run=run).exit_code == 0
    assert path.read_bytes() == good


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
        assert f"`ddpo annotate --report --run {root}`" in the_fault(root, path)["then"]
        path.unlink()
        assert ddpo("annotate", "--report", run=root).exit_code == 0
        assert path.read_bytes() == good
        assert not faults(root)
