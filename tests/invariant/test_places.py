"""Wherever a plan is worked off, the run holds the same files, byte for byte."""

import os
import signal
import sys
import warnings
from contextlib import contextmanager

import pytest

from aifeedback_dpo import engine, generate, label, workers
from aifeedback_dpo.cli import processes
from aifeedback_dpo.opening import open_run
from tests import killed
from tests.conftest import TINY, Forked, ddpo
from tests.killed import tables

pytestmark = pytest.mark.slow

SMALL = (*TINY, "generate.images_per_part=3", "label.images_per_part=4")
STAGES = (("generate", *SMALL), ("label", "--scorer", "pickscore"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    for stage in STAGES:
        assert ddpo(*stage, run=run).exit_code == 0
    return run


def told(result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


# -- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 9])
def test_shares_in_any_order_make_a_straight_run_and_only_the_last_one_concludes(straight, tmp_path, count):
    for stage, table in zip(STAGES, ("pairs", "preferences"), strict=True):
        for at in reversed(range(count)):
            assert not (tmp_path / table).exists()
            told(ddpo(*stage, "--shard", f"{at}/{count}", run=tmp_path))
    assert tables(tmp_path) == tables(straight)


def test_a_slurm_array_is_a_share_and_says_so(straight, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    for task, share in (("1", "share 0 of 2"), ("2", "share 1 of 2")):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        result = ddpo(*STAGES[0], run=tmp_path)
        assert share in result.stderr
    assert tables(tmp_path).items() <= tables(straight).items()
    assert "pairs/part-all.parquet" in tables(tmp_path)


def test_status_tells_what_became_of_every_share(tmp_path):
    killing = killed.killing(after=100)
    assert Forked(*STAGES[0], "--shard", "1/2", run=tmp_path, before=killing).exit_code == killed.KILLED
    told(ddpo(*STAGES[0], "--shard", "0/2", run=tmp_path))
    said = told(ddpo("status", run=tmp_path))
    assert "`ddpo generate --shard 0/2`" in said and "done, 12 of 12 done" in said
    if workers.read(open_run(tmp_path, None))[-1].shard == (1, 2):  # it may have been killed before it said anything
        assert "`ddpo generate --shard 1/2`" in said and "gone, " in said
    told(ddpo(*STAGES[0], run=tmp_path))
    assert workers.read(open_run(tmp_path, None)) == []  # who does it all tidies up


# -- processes -------------------------------------------------------------------------------------------------------


class Started:
    """A forked process in the place of one that `--workers` starts, so that it need not import everything again."""

    def __init__(self, line, before):
        at = line.index("--run")
        arguments = [*line[3:at], *line[at + 2 :]]
        self.forked = Forked(*arguments, run=line[at + 1], before=before)
        self.pid = self.forked._process.pid
        self.returncode = None

    def poll(self):
        self.returncode = self.forked._process.exitcode
        return self.returncode

    def terminate(self):
        self.forked._process.terminate()

    def wait(self):
        return self.forked.exit_code


@contextmanager
def starting(before):
    """`before(n)` is what the nth process that is started runs first."""
    started = []

    def start(process):
        process.running = Started(process.line, before(len(started)))
        process.log.write_text("what it said last")
        started.append(process.running)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(processes.Process, "start", start)
        patched.setattr(processes, "LOOK", 0)
        yield started


def test_a_worker_that_is_killed_is_started_again_and_nothing_is_lost(straight, tmp_path):
    for stage in STAGES:
        with starting(lambda number: killed.killing(150 + 40 * number) if number < 4 else "") as started:
            result = ddpo(*stage, "--workers", "2", run=tmp_path)
            told(result)
        assert len(started) > 2
        assert "was ended by signal 9 and is started again" in result.stderr
    assert tables(tmp_path) == tables(straight)


def test_a_worker_that_dies_again_and_again_is_given_up_with_what_may_be_the_reason(tmp_path):
    with starting(lambda number: "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") as started:
        result = ddpo(*STAGES[0], "--workers", "2", run=tmp_path)
    assert result.exit_code == 1
    assert "was ended by signal 9 4 times, and nothing was committed" in result.stderr
    assert len(started) == 2 * (processes.ATTEMPTS + 1)


def test_what_a_worker_says_is_wrong_is_said_with_its_exit_code(tmp_path):
    with starting(lambda number: f"import os; os._exit({3 * (number > 0)})"):
        result = ddpo(*STAGES[0], "--workers", "2", run=tmp_path)
    assert result.exit_code == 3
    assert "share 1 of 2: what it said last" in result.stderr


# -- Ray -------------------------------------------------------------------------------------------------------------


class Stopped(engine.Silent):
    """Interrupts when something is done."""

    def advance(self, count):
        raise KeyboardInterrupt


class Killing(engine.Silent):
    """Kills a worker of the pool when so many slices are done."""

    def __init__(self, run, at):
        self.run, self.at, self.advanced, self.killed = run, at, 0, []

    def advance(self, count):
        self.advanced += 1
        if self.advanced == self.at:
            for worker in [worker for worker in workers.read(self.run) if worker.status == workers.AT_WORK][:1]:
                os.kill(worker.pid, signal.SIGKILL)
                self.killed.append(worker.pid)


@pytest.fixture(scope="module")
def on_ray():
    """One Ray for the tests of this file; it is quiet about what it starts."""
    ray = pytest.importorskip("ray")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patched.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            ray.init("local", num_cpus=6, object_store_memory=2**27, include_dashboard=False, log_to_driver=False)
            yield engine.OnRay(workers=2)
            ray.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_pool_on_ray_whose_workers_are_killed_makes_a_straight_run(straight, tmp_path, on_ray):
    run = open_run(tmp_path, "shapes", SMALL)
    killing = Killing(run, at=3)
    generate.generate(run, killing, on_ray)
    assert killing.killed
    labels = label.label(open_run(tmp_path, None), ["pickscore"], engine.Silent(), place=on_ray)
    assert {judged.judge for judged in labels.judged} == {"human", "pickscore", "random"}
    assert tables(tmp_path) == tables(straight)
    assert workers.read(run) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_run_that_was_stopped_on_ray_has_its_recipe_and_goes_on_anywhere(straight, tmp_path, on_ray):
    run = open_run(tmp_path, "shapes", SMALL)
    with pytest.raises(KeyboardInterrupt):
        generate.generate(run, Stopped(), on_ray)
    told(ddpo("status", run=tmp_path))
    result = ddpo("generate", "generate.steps=3", run=tmp_path)
    assert (result.exit_code, "made by another recipe" in result.stderr) == (2, True)
    for stage in STAGES:
        told(ddpo(*stage, run=tmp_path))
    assert tables(tmp_path) == tables(straight)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_goes_wrong_on_ray_is_told_in_a_line_and_the_rest_is_done(tmp_path, on_ray):
    run = open_run(tmp_path, "shapes", SMALL)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "base").write_text("where a folder should be")
    with pytest.raises(Exception, match=r"24 of 24 are not done: cannot write .*images/base") as caught:
        generate.generate(run, engine.Silent(), on_ray)
    assert getattr(caught.value, "exit_code", None) == 1
    (tmp_path / "images" / "base").unlink()
    assert generate.generate(run, engine.Silent()).images_done == 24


def test_ray_that_is_not_installed_or_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = ddpo(*STAGES[0], "--engine", "ray", run=tmp_path)
    assert result.exit_code == 2
    assert "pip install 'aifeedback_dpo[ray]'" in result.stderr
