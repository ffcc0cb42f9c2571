"""`ddpo export` as a user meets it: one line for what is wrong, a folder whole or none, and a card that says whose labels."""

import errno
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from aifeedback_dpo import config
from aifeedback_dpo.cli.export import NAMES
from aifeedback_dpo.export import parts, push, target
from aifeedback_dpo.export.formats import FORMATS
from aifeedback_dpo.store import Run
from tests import labelled
from tests.conftest import ddpo, ddpo_process


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Eight pairs of the embedded world, whose raters are simulated: six decided, a tie, and one without a label."""
    return labelled.write(tmp_path_factory.mktemp("export") / "run")


def refused(shown, code: int) -> str:
    assert shown.exit_code == code, shown.output
    (line,) = shown.stderr.splitlines()
    assert line.startswith("ddpo: ")
    return line


def header(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_formats_of_the_help_are_those_there_are():
    assert list(NAMES) == list(FORMATS)


@pytest.mark.parametrize("format", NAMES)
def test_an_export_says_what_is_in_it_and_what_is_not(run, tmp_path, format):
    shown = ddpo("export", format, str(tmp_path / "set"), run=run)

    assert shown.exit_code == 0, shown.output
    has_ties = format in ("pickapic", "webdataset", "label-studio")
    assert f"{format}, judge human (simulated)" in shown.stdout
    assert "decided: 6" in shown.stdout
    assert ("Left out: ties: 1" in shown.stdout) is not has_ties
    assert ("without a label: 1" in shown.stdout.partition("Left out")[2]) is (format != "label-studio")
    assert ("some trainers take for a win" in shown.stdout) is (format in ("pickapic", "webdataset"))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_card_says_who_judged_by_which_rule_and_what_is_left_out(run, tmp_path):
    ddpo("export", "chosen-rejected", str(tmp_path / "set"), run=run)

    card = (tmp_path / "set" / "README.md").read_text()
    assert "**Judge:** human (simulated). These are simulated raters, not people. **Rule:** hand." in card
    assert "| train | 6 | 6 | 0 | 0 |" in card
    assert "Left out of the run's 8 pairs: ties (1), without a label (1)." in card
    assert "| unknown |  | 10 |" in card  # of no model that anyone noted: 12, less the two in no decided pair
    assert "None is stated here" in card
    assert "aifeedback\\_dpo 0" in card
    assert "license" not in header(tmp_path / "set")
    assert header(tmp_path / "set")["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]


def test_the_card_of_a_scorer_names_it_and_calls_nobody_human(run, tmp_path):
    ddpo("export", "pickapic", str(tmp_path / "set"), "--judge", "ai", run=run)

    card = (tmp_path / "set" / "README.md").read_text()
    assert "**Judge:** pickscore" in card
    assert "human" not in card
    assert "simulated" not in card


@pytest.mark.parametrize(
    ("licences", "drawn", "stated"),
    [
        ({"one": "mit"}, False, "mit"),
        ({"one": "mit"}, True, None),
        ({"one": "mit", "two": "apache-2.0"}, False, None),
        ({"one": "mit", "two": None}, False, None),
    ],
)
def test_a_licence_is_stated_where_all_that_is_there_has_it(tmp_path, licences, drawn, stated):
    made = Run(labelled.write(tmp_path / "run"), config.load("shapes"))
    works = {f"import/{name}": {"source": "pairs", "dataset": name, "licence": said} for name, said in licences.items()}
    works |= {"generate": {"versions": {"diffusers": "0.42.7"}, "commit": "c0ffee"}} if drawn else {}
    made.write_text(made.root / "manifest.json", json.dumps({"schema_version": 1, "made_by": works}))

    ddpo("export", "folders", str(tmp_path / "set"), run=made.root)

    assert header(tmp_path / "set").get("license") == stated
    card = (tmp_path / "set" / "README.md").read_text()
    for name, said in licences.items():
        assert f"- {name}: {said or 'no licence stated'}" in card
    assert ("- `generate`: diffusers 0.42.7; commit c0ffee" in card) is drawn


def test_json_is_the_same_in_numbers_and_a_dry_run_writes_nothing(run, tmp_path):
    dry = ddpo("export", "chosen-rejected", str(tmp_path / "set"), "--dry-run", "--json", run=run)
    assert not list(tmp_path.iterdir())
    made = ddpo("export", "chosen-rejected", str(tmp_path / "set"), "--json", run=run)

    planned, told = json.loads(dry.stdout), json.loads(made.stdout)
    assert planned.pop("written") is False
    assert told.pop("written") is True
    assert planned == told
    assert {name: told[name] for name in ("judge", "pairs", "decided", "ties", "left_out", "splits", "page")} == {
        "judge": "human (simulated)",
        "pairs": 6,
        "decided": 6,
        "ties": 0,
        "left_out": {"ties": 1, "without a label": 1},
        "splits": {"train": 6},
        "page": None,
    }


def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")

    line = refused(ddpo("export", "pickapic", str(tmp_path / "mine"), run=run), 2)

    assert f"{tmp_path / 'mine'} is not empty" in line
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert "is no folder" in refused(ddpo("export", "pickapic", str(tmp_path / "mine" / "notes.txt"), run=run), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_filled(run, tmp_path):
    assert ddpo("export", "pickapic", str(tmp_path), run=run).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "data"}


def test_a_judge_who_has_said_nothing_is_refused_with_those_who_have(run, tmp_path):
    line = refused(ddpo("export", "pickapic", str(tmp_path / "set"), "--judge", "clip", run=run), 2)
    assert "no preferences of judge clip; it has those of human, pickscore, random" in line

    line = refused(ddpo("export", "pickapic", str(tmp_path / "set"), "--judge", "none", run=run), 2)
    assert "--judge none goes with label-studio" in line
    assert not list(tmp_path.iterdir())


def test_a_format_that_is_not_there_is_refused_with_the_nearest(run, tmp_path):
    line = refused(ddpo("export", "folder", str(tmp_path / "set"), run=run), 2)
    assert "no format 'folder', did you mean 'folders'?" in line


def test_a_run_without_pairs_is_told_what_comes_first(tmp_path):
    line = refused(ddpo("export", "label-studio", str(tmp_path / "set"), "--judge", "none", run=tmp_path / "run"), 2)
    assert "has no pairs; `ddpo generate`" in line


def test_missing_pictures_are_one_line_and_nothing_is_written(tmp_path):
    made = Run(labelled.write(tmp_path / "run"), config.load("shapes"))
    (part,) = made.parts("images")
    part.unlink()

    line = refused(ddpo("export", "folders", str(tmp_path / "set"), run=made.root), 3)

    assert "10 images of the pairs are not in the run" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("format", NAMES)
@pytest.mark.parametrize("where", ["while pairs are written", "while the disk takes them"])
def test_a_full_disk_is_one_line_and_leaves_nothing(run, tmp_path, monkeypatch, format, where):
    if where == "while the disk takes them":
        monkeypatch.setattr(target, "sync", full)
    else:
        monkeypatch.setattr(parts.pq.ParquetWriter, "write_table", full)
        monkeypatch.setattr(parts.tarfile.TarFile, "addfile", full)
        monkeypatch.setattr(Path, "write_bytes", full)

    line = refused(ddpo("export", format, str(tmp_path / "set"), run=run), 1)

    assert f"cannot write {tmp_path / 'set'}: the disk is full" in line
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "sync", interrupted)
    assert ddpo("export", "folders", str(tmp_path / "set"), run=run).exit_code == 130
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_no_export_and_the_next_one_takes_it_away(run, tmp_path):
    killed: subprocess.CompletedProcess[str] = ddpo_process(
        *("export", "folders", str(tmp_path / "set"), "--run", str(run)),
        cwd=tmp_path,
        before="import os\nfrom aifeedback_dpo.export import target\ntarget.sync = lambda folder: os.kill(os.getpid(), 9)",
    )
    assert killed.returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".set.partial"]

    assert ddpo("export", "pickapic", str(tmp_path / "set"), run=run).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"README.md", "data"}


def test_private_without_an_upload_is_refused(run, tmp_path):
    line = refused(ddpo("export", "pickapic", str(tmp_path / "set"), "--private", run=run), 2)
    assert "--private goes with --push-to-hub" in line


def test_a_hub_that_cannot_be_asked_is_exit_code_4_before_anything_is_written(run, tmp_path):
    line = refused(ddpo("export", "pickapic", str(tmp_path / "set"), "--push-to-hub", "team/set", run=run), 4)

    assert "cannot upload to team/set: HF_HUB_OFFLINE is set" in line
    assert not list(tmp_path.iterdir())


def test_an_upload_comes_after_the_folder_is_whole(run, tmp_path, monkeypatch):
    steps = []

    def prepared(name: str, *, private: bool) -> SimpleNamespace:
        steps.append((name, private, (tmp_path / "set").exists()))
        return SimpleNamespace()

    def pushed(_: object, folder: Path, message: str) -> str:
        steps.append((message, (folder / "README.md").exists()))
        return "https://hub/team/set"

    monkeypatch.setattr(push, "prepare", prepared)
    monkeypatch.setattr(push, "push", pushed)
    shown = ddpo("export", "folders", str(tmp_path / "set"), "--push-to-hub", "team/set", "--private", run=run)

    assert steps == [("team/set", True, False), ("6 pairs by `ddpo export folders`", True)]
    assert "Uploaded: https://hub/team/set" in shown.stdout
