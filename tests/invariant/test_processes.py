"""Training in two processes is training in one: the same trajectory, and stopped and run again the same as straight."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import ddpo

pytestmark = pytest.mark.slow

# the rate at once, a look at held-out pairs at each step, a checkpoint at each step
PACE = (
    "train.warmup=0",
    "train.steps=4",
    "train.held_out.pairs=3",
    "train.held_out.every=1",
    "train.checkpoint_steps=1",
)
LORA = (*PACE, "train.learning_rate=1e-4")
FULL = (*PACE, "train.learning_rate=3e-5", "train.method=full", "--judge", "human")
EXACTLY = ("step", "pairs", "pairs_by_depth", "learning_rate")
CLOSELY = ("winner_error", "loser_error", "winner_drift", "loser_drift", "margin", "held_out_margin")

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


@pytest.fixture(scope="module")
def labelled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run before anything was trained."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("labelled") / "run"))
    shutil.rmtree(run / "policies")
    shutil.rmtree(run / "cache")
    return run


def in_two(run: Path, *arguments: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`ddpo train` in two processes; a folder `before` has a sitecustomize.py that every process runs first."""
    told = ("train", "--run", str(run), "--num-processes", "2", "train.micro_batch_size=1", "--json", *arguments)
    given = {**os.environ, "PYTHONPATH": str(before)} if before else None
    command = [sys.executable, "-m", "aifeedback_dpo", *told]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=given)


@pytest.fixture(scope="module")
def straight(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRAs of three judges, trained at once in two processes."""
    run = Path(shutil.copytree(labelled, tmp_path_factory.mktemp("straight") / "run"))
    done = in_two(run, *LORA)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["policies"]) == 3  # one document, of the first process
    assert done.stderr.count("Loading shapes") == 1
    return run


def assert_same_trajectory(one: Path, two: Path) -> None:
    """Every step's numbers and the final weights, to what another order of summation does to float32.

    Adam does not feel how large a gradient is, so its norm is compared as well.
    """
    folders = sorted(path.relative_to(one) for path in one.glob("policies/*/seed-0"))
    assert folders == sorted(path.relative_to(two) for path in two.glob("policies/*/seed-0"))
    for folder in folders:
        logs = [(run / folder / "metrics.jsonl").read_text().splitlines() for run in (one, two)]
        assert len(logs[0]) == 4
        for expected, found in zip(*(map(json.loads, log) for log in logs), strict=True):
            assert {name: found[name] for name in EXACTLY} == {name: expected[name] for name in EXACTLY}
            assert [found[name] for name in CLOSELY] == pytest.approx([expected[name] for name in CLOSELY], abs=1e-7)
            assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)  # beta / 2 is 1000 times a margin
            assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
        weights, others = (load_file(next((run / folder).rglob("*.safetensors"))) for run in (one, two))
        assert weights.keys() == others.keys()
        assert max(float((value - others[name]).abs().max()) for name, value in weights.items()) < 1e-5


def test_two_processes_train_three_judges_at_once_as_one_process_does(labelled, straight, tmp_path):
    run = Path(shutil.copytree(labelled, tmp_path / "run"))
    alone = ddpo("train", *LORA, run=run)
    assert alone.exit_code == 0, alone.output
    assert_same_trajectory(run, straight)


def test_two_processes_train_all_weights_as_one_process_does(labelled, tmp_path):
    one, two = (Path(shutil.copytree(labelled, tmp_path / name)) for name in ("one", "two"))
    alone = ddpo("train", *FULL, run=one)
    assert alone.exit_code == 0, alone.output
    done = in_two(two, *FULL)
    assert done.returncode == 0, done.stderr
    assert_same_trajectory(one, two)


def test_two_processes_killed_and_run_again_equal_straight_ones_bit_for_bit(labelled, straight, tmp_path):
    run = Path(shutil.copytree(labelled, tmp_path / "run"))
    (tmp_path / "sitecustomize.py").write_text(KILL)
    killed = in_two(run, *LORA, before=tmp_path)
    assert killed.returncode == -9
    assert not list(run.rglob("policy.json"))
    reached = {path.name for path in run.rglob("step-*.pt")}
    assert reached == {"step-000001.pt", "step-000002.pt"}
    again = in_two(run, *LORA)
    assert again.returncode == 0, again.stderr
    assert "going on after step 1" in again.stderr
    for kept in ("metrics.jsonl", "pytorch_lora_weights.safetensors"):
        files = sorted(path.relative_to(straight) for path in straight.rglob(kept))
        assert len(files) == 3
        assert all((run / file).read_bytes() == (straight / file).read_bytes() for file in files)
