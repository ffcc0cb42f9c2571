"""An import that is stopped, killed, taken further or joined by another ends as a straight one."""

import json
from pathlib import Path
from typing import Any

import pytest

from aifeedback_dpo.importing import slices
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.store import Run
from tests import published
from tests.cli.test_import import assert_said, files, imported
from tests.conftest import ddpo, ddpo_process
from tests.published import EVERY, Published, Said, picture, write_parquet


@pytest.fixture(params=["pickapic", "pickapic_webdataset", "hpdv3", "imagereward", "unpaired", "folders"])
def many(request: pytest.FixtureRequest, tmp_path: Path) -> Published:
    return EVERY[request.param](tmp_path / "set")


def test_an_import_taken_up_again_ends_with_the_files_of_a_straight_one(
    many: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, and stopped after each table of each slice."""
    monkeypatch.setattr(slices, "ROWS", 1)
    imported(many.arguments, tmp_path / "straight")
    commits = len(files(tmp_path / "straight"))

    commit, left = Run.write, 0

    def stopping(run: Run, path: Path, fill: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        commit(run, path, fill)

    monkeypatch.setattr(Run, "write", stopping)
    for _ in range(3 * commits):
        left = 9  # the recipe, the card and the manifest are written each time
        result = ddpo("import", *many.arguments, run=tmp_path / "stopped")
        if result.exit_code == 0:
            break
        assert result.exit_code == 130, result.output
    assert result.exit_code == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "straight")


def test_a_killed_import_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"p{at}", "chosen": picture(at), "rejected": picture(at + 100)} for at in range(20)]
    published.write_parquet(tmp_path / "set.parquet", rows)
    told = ("import", "pairs", str(tmp_path / "set.parquet"))
    small = "from aifeedback_dpo.importing import slices; slices.ROWS = 4"
    killed = f"""{small}
import os, signal
from aifeedback_dpo.store import Run
commit = Run.commit
def once(self, table, rows, part, name=None):
    commit(self, table, rows, part, name)
    if table == "pairs" and part.endswith("-000000008"):
        os.kill(os.getpid(), signal.SIGKILL)
Run.commit = once"""
    assert ddpo_process(*told, "--run", "killed", cwd=tmp_path, before=killed).returncode == -9
    monkeypatch.setattr(slices, "ROWS", 4)
    for name in ("killed", "straight"):
        assert ddpo(*told, run=tmp_path / name).exit_code == 0

    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def test_more_rows_may_follow_and_a_finished_import_is_not_done_twice(tmp_path: Path) -> None:
    made = published.pickapic(tmp_path / "set")
    imported((*made.arguments, "--limit", "3"), tmp_path / "run")
    assert_said(open_run(tmp_path / "run", None), [Said("a cat", 1, 2, 1.0), *made.said[1:]])

    imported(made.arguments, tmp_path / "run")
    before = files(tmp_path / "run")
    imported(made.arguments, tmp_path / "run")

    assert files(tmp_path / "run") == before
    assert_said(open_run(tmp_path / "run", None), made.said)


def test_two_sets_meet_in_one_run(tmp_path: Path) -> None:
    """The same pair in both is one pair with the votes of both."""
    one, other = published.pickapic_int(tmp_path / "one"), published.hpdv3(tmp_path / "other")
    imported(one.arguments, tmp_path / "run")

    imported(other.arguments, tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    cat = Said("a cat", 1, 2, 0.5, 2)  # 0 in the one, 1 in the other
    assert found_reasons(run) == {"hpdv3": {"label": 2, "the same pictures under another prompt": 1}, "pickapic": {}}
    assert_said(run, [cat, one.said[1]])
    assert {row["annotator"] for row in run.rows("votes")} == {"pickapic", "hpdv3"}


def found_reasons(run: Run) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for path in sorted(run.root.glob("imports/*/rows-*.json")):
        found.setdefault(path.parent.name.split("-")[0], {}).update(json.loads(path.read_text())["tally"]["unusable"])
    return found


def test_two_sets_of_one_name_are_two_and_one_that_moved_is_one(tmp_path: Path) -> None:
    for folder, number in (("one", 1), ("other", 3)):
        rows = [{"prompt": "p", "chosen": picture(number), "rejected": picture(9)}]
        write_parquet(tmp_path / folder / "set" / "train.parquet", rows)
        imported(("pairs", str(tmp_path / folder / "set")), tmp_path / "run")
    (tmp_path / "one").rename(tmp_path / "moved")

    imported(("pairs", str(tmp_path / "moved" / "set")), tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    assert_said(run, [Said("p", 1, 9, 1.0), Said("p", 3, 9, 1.0)])
    assert len(run.rows("votes")) == 2


def test_a_half_slice_of_one_set_is_never_the_ground_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One import stops before its ledger; another has the same pair; and no vote is left on a pair that is taken back."""
    for name in ("one", "other"):
        write_parquet(tmp_path / f"{name}.parquet", [{"prompt": "p", "chosen": picture(1), "rejected": picture(2)}])
    write = Run.write

    def full(run: Run, path: Path, fill: Any) -> None:
        if path.name.startswith("rows-"):
            raise KeyboardInterrupt
        write(run, path, fill)

    with monkeypatch.context() as broken:
        broken.setattr(Run, "write", full)
        assert ddpo("import", "pairs", str(tmp_path / "one.parquet"), run=tmp_path / "run").exit_code == 130
    imported(("pairs", str(tmp_path / "other.parquet")), tmp_path / "run")

    run = open_run(tmp_path / "run", None)
    assert_said(run, [Said("p", 1, 2, 1.0)])
    assert {row["source"] for row in run.rows("votes")} == {"pairs-other.parquet-train"}


def test_a_second_import_waits_for_the_first(tmp_path: Path) -> None:
    made = published.pickapic_int(tmp_path / "set")
    imported((*made.arguments, "--limit", "1"), tmp_path / "run")

    with open_run(tmp_path / "run", None).alone("ddpo import"):
        result = ddpo("import", *made.arguments, run=tmp_path / "run")

    assert (result.exit_code, "another `ddpo import` is at work" in result.stderr) == (2, True)
