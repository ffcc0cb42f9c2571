"""ddpo status: which run, what of it is at work, and what was left when a process was killed."""

import json
import os
import socket

import pytest
from typer.testing import CliRunner

from aifeedback_dpo import config, workers
from aifeedback_dpo.cli.app import app
from aifeedback_dpo.store import Run
from aifeedback_dpo.workers import Worker


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run", config.load("shapes"))


def status(*arguments) -> str:
    shown = CliRunner().invoke(app, ["status", *map(str, arguments)])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def test_a_run_is_named_alone_or_as_an_option_and_once(run):
    run.record("generate", "done")
    assert status(run.root) == status("--run", run.root)
    both = CliRunner().invoke(app, ["status", str(run.root), "--run", "other"])
    assert (both.exit_code, "are two runs; name one" in both.stderr) == (2, True)


def test_a_stage_that_nobody_is_at_is_not_finished(run):
    run.record("label/warmth", "running")
    assert "label/warmth             not finished" in status(run.root)
    mine = workers.Said(run, Worker("label", (0, 1), 12))
    assert "label/warmth             running" in status(run.root)
    mine.remove()
    mine.worker.pid = 2**22 + 1  # none has such a number
    mine.write()
    assert "label/warmth             not finished" in status(run.root)


def test_workers_are_told_before_anything_is_made(run):
    assert CliRunner().invoke(app, ["status", str(run.root)]).exit_code == 2
    workers.Said(run, Worker("generate", (1, 3), 12))
    first, second = status(run.root).splitlines()
    assert first == f"{run.root} (nothing made yet)"
    assert f"`ddpo generate --shard 1/3` (process {os.getpid()} on {socket.gethostname()}): at work" in second
    told = json.loads(status(run.root, "--json"))
    assert [worker["command"] for worker in told["workers"]] == ["generate"]
