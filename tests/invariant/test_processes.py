"""Training in two processes is training in one: the same trajectory, and stopped and run again the same as straight."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import labelled

pytestmark = pytest.mark.slow

# a look at held-out pairs at each step; a small rate, for Adam makes a whole step of a gradient that is rounding alone
LORA = ("train.held_out.pairs=2", "train.held_out.every=1", "train.learning_rate=1e-4")
FULL = ("train.method=full", "train.learning_rate=3e-5", "--judge", "human")

# Ends the first process, and the launcher that would end the second, at the second commit of the second checkpoint.
KILL = """
import os, pathlib, signal
real, seen = pathlib.Path.replace, []
def replace(self, target):
    seen.append(target)
    if os.environ.get("RANK") == "0" and sum(str(path).endswith(".pt") for path in seen) == 5:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.replace = replace
"""


def in_two(run: Path, *arguments: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`ddpo train` in two processes; a folder `before` has a sitecustomize.py that every process runs first."""
    told = ("train", "--run", str(run), "--num-processes", "2", "train.micro_batch_size=1", "--json", *arguments)
    given = {**os.environ, "PYTHONPATH": str(before)} if before else None
    command = [sys.executable, "-m", "aifeedback_dpo", *told]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=given)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRAs of three judges, trained at once in two processes."""
    run = labelled.write(tmp_path_factory.mktemp("straight"))
    done = in_two(run, *LORA)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["policies"]) == 3  # one document, of the first process
    assert done.stderr.count("Loading shapes") == 1
    return run


def test_two_processes_train_three_judges_at_once_as_one_process_does(straight, tmp_path):
    alone = labelled.write(tmp_path)
    labelled.train(alone, *LORA)
    labelled.assert_alike(alone, straight, close=labelled.REORDERED)


def test_two_processes_train_all_weights_as_one_process_does(tmp_path):
    alone, two = (labelled.write(tmp_path / name) for name in ("alone", "two"))
    labelled.train(alone, *FULL)
    done = in_two(two, *FULL)
    assert done.returncode == 0, done.stderr
    labelled.assert_alike(alone, two, ("human",), close=labelled.REORDERED)


def test_two_processes_killed_and_run_again_equal_straight_ones_bit_for_bit(straight, tmp_path):
    run = labelled.write(tmp_path / "run")
    (tmp_path / "sitecustomize.py").write_text(KILL)
    killed = in_two(run, *LORA, before=tmp_path)
    assert killed.returncode == -9
    assert not list(run.rglob("policy.json"))
    assert {path.name for path in run.rglob("step-*.pt")} == {"step-000001.pt", "step-000002.pt"}
    again = in_two(run, *LORA)
    assert again.returncode == 0, again.stderr
    assert "going on after step 1" in again.stderr
    for kept in ("metrics.jsonl", "pytorch_lora_weights.safetensors"):
        files = sorted(path.relative_to(straight) for path in straight.rglob(kept))
        assert len(files) == len(labelled.JUDGES)
        assert all((run / file).read_bytes() == (straight / file).read_bytes() for file in files)
