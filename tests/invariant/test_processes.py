"""Training in two processes is training in one, sharded or not: the same trajectory, and stopped and run again the same."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests import labelled
from tests.conftest import Forked

pytestmark = pytest.mark.slow

# a look at held-out pairs at each step; a small rate, for Adam makes a whole step of a gradient that is rounding alone
LORA = ("train.held_out.pairs=2", "train.held_out.every=1", "train.learning_rate=1e-4")
FULL = ("train.method=full", "train.learning_rate=3e-5", "--judge", "human")
ALL = (*FULL, "train.ema=0.5", "train.held_out.pairs=2", "train.held_out.every=1", "train.validation.prompts=1")

ZERO2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"}

# Ends the first process at a commit of a checkpoint.
KILL = """
import os, pathlib, signal
real, seen = pathlib.Path.replace, []
def replace(self, target):
    seen.append(target)
    if os.environ["RANK"] == "0" and sum(str(path).endswith(".pt") for path in seen) == {commits}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.replace = replace
"""
# Nobody launched these, who would end one that waits after an error.
AT_ONCE = """
from aifeedback_dpo.cli import launch
launch.A_MOMENT = launch.A_FEW = launch.A_WHILE = 0
"""


def joined(
    run: Path, *arguments: str, place: Mapping[str, str] | None = None, before: str = ""
) -> tuple[list[int], str]:
    """`ddpo train` as a launcher starts it, twice: the exit codes, and what the first process said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    told = ("train", "train.micro_batch_size=1", *arguments)
    ranks = ({**shared, "RANK": rank, "LOCAL_RANK": rank, **(place or {})} for rank in ("0", "1"))
    both = [Forked(*told, run=run, environment=rank, before=AT_ONCE + before) for rank in ranks]
    return [process.exit_code for process in both], both[0].said


def assert_was_killed(run: Path) -> None:
    """After the second step's checkpoints were begun."""
    assert not list(run.rglob("policy.json"))
    assert {path.name for path in run.rglob("step-*.pt")} == {"step-000001.pt", "step-000002.pt"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRAs of three judges, trained at once in one process."""
    run = labelled.write(tmp_path_factory.mktemp("alone"))
    labelled.train(run, *LORA)
    return run


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in two processes."""
    run = labelled.write(tmp_path_factory.mktemp("straight"))
    codes, said = joined(run, *LORA)
    assert codes == [0, 0], said
    return run


def test_two_processes_train_three_judges_at_once_as_one_process_does(alone, straight):
    labelled.assert_alike(alone, straight, close=labelled.REORDERED)


def test_two_processes_train_three_judges_at_once_on_a_base_that_is_sharded(alone, tmp_path):
    """Also where a judge has decided none of the pairs that one of them holds."""
    run = labelled.write(tmp_path)
    micro = "train.micro_batch_size=1"
    launched = Forked("train", "--num-processes", "2", "--launcher", "fsdp2", "--json", micro, *LORA, run=run)
    assert launched.exit_code == 0, launched.said
    assert len(json.loads(launched.printed)["policies"]) == 3  # one document, of the first process
    assert launched.said.count("Loading shapes") == 1
    labelled.assert_alike(alone, run, close=labelled.REORDERED)


def test_what_a_sharded_reference_said_is_what_one_process_is_told(tmp_path):
    """Where a process has nothing but pairs that nobody has judged, and calls the network all the same."""
    few = {"human": (1.0, None, None, None, None, 0.0, None, None)}
    alone, two = (labelled.write(tmp_path / name, said={**labelled.SAID, **few}) for name in ("alone", "two"))
    labelled.train(alone, "--judge", "human")
    codes, said = joined(two, "--judge", "human", place=ZERO2)
    assert codes == [0, 0], said
    labelled.assert_alike(alone, two, ("human",), close=labelled.REORDERED)
    ours, theirs = (said_by_the_reference(run) for run in (alone, two))
    assert len(ours) == 4  # two pairs, at the draws of two epochs
    assert theirs == {key: pytest.approx(errors, rel=1e-5) for key, errors in ours.items()}


def said_by_the_reference(run: Path) -> dict[tuple[str, int], tuple[float, float]]:
    rows = [row for path in run.rglob("reference-*/*.parquet") for row in pq.read_table(path).to_pylist()]
    found = {(row["pair_id"], row["draw"]): (row["error_a"], row["error_b"]) for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_policy_that_is_stopped_is_told_alike_by_all_processes(tmp_path):
    """The checkpoint that is kept must not be deleted, which a process that looked for the policy would ask for."""
    run = labelled.write(tmp_path)
    codes, said = joined(run, "--judge", "human", "train.guard.spike=1.0001")
    assert codes == [1, 1], said
    assert "human (simulated), seed 0 was stopped at step" in said


def test_two_processes_killed_and_run_again_equal_straight_ones_bit_for_bit(straight, tmp_path):
    run = labelled.write(tmp_path)
    # the fifth of three judges that save in turn is the second judge's of the second step
    codes, said = joined(run, *LORA, before=KILL.format(commits=5))
    assert codes[0] == -9 and codes[1] != 0, said
    assert_was_killed(run)
    codes, said = joined(run, *LORA)
    assert codes == [0, 0], said
    assert "going on after step 1" in said
    for kept in ("metrics.jsonl", "pytorch_lora_weights.safetensors"):
        files = sorted(path.relative_to(straight) for path in straight.rglob(kept))
        assert len(files) == len(labelled.JUDGES)
        assert all((run / file).read_bytes() == (straight / file).read_bytes() for file in files)


def test_two_processes_train_all_weights_as_one_process_does(tmp_path):
    alone, two = (labelled.write(tmp_path / name) for name in ("alone", "two"))
    labelled.train(alone, *FULL)
    codes, said = joined(two, *FULL)
    assert codes == [0, 0], said
    labelled.assert_alike(alone, two, ("human",), close=labelled.REORDERED)


def test_all_weights_that_are_sharded_and_killed_and_go_on_end_as_in_one_process(tmp_path):
    """With a running mean, held-out pairs, pictures that all draw together, and shares of a batch that are all ties."""
    alone, two = (labelled.write(tmp_path / name, "generate.steps=2", eval_prompts=1) for name in ("alone", "two"))
    labelled.train(alone, *ALL)
    codes, said = joined(two, *ALL, place=ZERO2, before=KILL.format(commits=3))
    assert codes[0] == -9 and codes[1] != 0, said
    assert_was_killed(two)
    codes, said = joined(two, *ALL, place=ZERO2)
    assert codes == [0, 0], said
    assert "going on after step 2" in said
    labelled.assert_alike(alone, two, ("human",), close=labelled.REORDERED)
    ours, theirs = (np.asarray(Image.open(labelled.folder(run) / "validation.png"), int) for run in (alone, two))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 1
