"""What `ddpo train --num-processes` launches, what it refuses, and who speaks when several processes run it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aifeedback_dpo import config
from aifeedback_dpo.cli import launch
from aifeedback_dpo.cli.app import app
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.store import Run
from tests.conftest import ddpo

LAUNCHERS = Path(launch.__file__).parent.parent / "launchers"
SHIPPED = LAUNCHERS / "ddp.yaml"
RESHARD, SHARDED = "fsdp_reshard_after_forward", {"fsdp_version": 2}
SECOND = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}


def test_what_follows_the_dashes_begins_at_the_first_value_with_a_dash():
    assert launch.split(["train.beta=10", "--main_process_port", "29501"]) == (
        ["train.beta=10"],
        ["--main_process_port", "29501"],
    )
    assert launch.split(["train.beta=10"]) == (["train.beta=10"], [])
    assert launch.split(["--debug"]) == ([], ["--debug"])


def test_the_launched_command_has_all_that_was_asked_and_the_file_of_the_recipe(tmp_path):
    run = Run(tmp_path / "run", config.load("shapes", ["train.beta=10"]))
    asked = launch.asked(2, None, ["--main_process_port", "29501"], place={})
    told = launch.command(run, ["ai", "human"], from_step=7, json=True)
    assert launch.arguments(asked, told) == [
        "--multi_gpu",
        "--num_processes=2",
        f"--config_file={SHIPPED}",
        "--main_process_port",
        "29501",
        "-m",
        "aifeedback_dpo",
        "train",
        f"--run={run.root}",
        f"--recipe={launch.recipe_file(run)}",
        "--judge=ai",
        "--judge=human",
        "--from-step=7",
        "--json",
    ]


def test_the_file_of_the_recipe_holds_its_overrides_and_is_another_for_another_recipe(tmp_path):
    run, other = (Run(tmp_path, config.load("shapes", [f"train.beta={beta}"])) for beta in (10, 20))
    run.write_text(launch.recipe_file(run), launch.resolved(run))
    assert config.load(launch.recipe_file(run)) == run.recipe
    assert launch.recipe_file(other) != launch.recipe_file(run)


def test_one_process_needs_no_launcher():
    assert launch.asked(None, None, [], place={}) is None
    assert launch.asked(1, None, [], place={}) is None
    assert launch.asked(None, None, [], place=SECOND) is None  # joins
    assert (
        launch.asked(2, None, [], place={"WORLD_SIZE": "1", "RANK": "0"}).number == 2
    )  # a pod's, which launches itself


@pytest.mark.parametrize(
    ("number", "launcher", "passed_on", "place", "words"),
    [
        (2, None, [], SECOND, ("--num-processes 2", "RANK=1", "leave it out")),
        (None, None, [], {"WORLD_SIZE": "2", "RANK": "1"}, ("no LOCAL_RANK", "as torchrun does")),
        (None, None, [], {"LOCAL_RANK": "1"}, ("no WORLD_SIZE and no RANK",)),
        (None, None, [], {**SECOND, "ACCELERATE_USE_FSDP": "true"}, ("FSDP_VERSION=1", "set it to 2")),
        (None, None, [], {**SECOND, "ACCELERATE_USE_DEEPSPEED": "true"}, ("DEEPSPEED=true", "FSDP2 only")),
        (None, None, ["--debug"], {}, ("'--debug'", "add --num-processes")),
        (1, None, ["--debug"], {}, ("'--debug'", "more than one")),
        (None, "ddp", [], {}, ("--launcher ddp", "add --num-processes")),
        (2, None, ["--num_processes=3"], {}, ("--num_processes=3", "say it before")),
        (2, None, ["--config-file", "x"], {}, ("--config-file", "--launcher")),
        (2, "nowhere", [], {}, ("--launcher nowhere cannot be read", "ddp")),
    ],
)
def test_options_that_contradict_each_other_are_refused(number, launcher, passed_on, place, words):
    with pytest.raises(UserError) as refusal:
        launch.asked(number, launcher, passed_on, place=place)
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(
    ("says", "word"),
    [
        ("distributed_type: DEEPSPEED", "DEEPSPEED; take .*FSDP"),
        ("distributed_type: FSDP", "fsdp_version 1"),
        ("- a list", "list"),
        ("a: [", "not YAML"),
    ],
)
def test_a_configuration_that_training_cannot_follow_is_refused(tmp_path, says, word):
    file = tmp_path / "mine.yaml"
    file.write_text(says)
    with pytest.raises(UserError, match=word):
        launch.asked(2, str(file), [], place={})
    file.write_text("distributed_type: MULTI_CPU")
    assert launch.asked(2, str(file), [], place={}).configuration == file


@pytest.mark.parametrize(
    ("name", "flag", "says"),
    [
        ("ddp", "--multi_gpu", {"distributed_type": "MULTI_GPU"}),
        ("fsdp2", "--use_fsdp", {"distributed_type": "FSDP", "fsdp_config": SHARDED | {RESHARD: True}}),
        ("zero2", "--use_fsdp", {"distributed_type": "FSDP", "fsdp_config": SHARDED | {RESHARD: False}}),
    ],
)
def test_the_shipped_configurations_are_ones_that_accelerate_reads(name, flag, says):
    from accelerate.commands.config import load_config_from_file

    file = LAUNCHERS / f"{name}.yaml"
    read = load_config_from_file(str(file))
    assert {setting: getattr(read, setting) for setting in yaml.safe_load(file.read_text())} == says | {
        "compute_environment": "LOCAL_MACHINE",
        "num_machines": 1,
        "machine_rank": 0,
        "main_process_port": 0,
        "rdzv_backend": "static",
        "same_network": True,
        "gpu_ids": "all",
        "mixed_precision": "no",
    }
    assert launch.arguments(launch.asked(2, name, [], place={}), ["train"])[0] == flag


@pytest.mark.parametrize(
    ("passed_on", "words"),
    [
        (["--main_proces_port", "1"], ("unrecognized arguments", "--main_proces_port")),
        (["--num_machines", "3"], ("2 counts those of all 3 machines",)),
        (["--num_machines", "2"], ("--num_machines 2", "--main_process_ip")),
        (["--num_machines", "2", "--main_process_ip", "a"], ("--num_machines 2", "--main_process_port")),
    ],
)
def test_arguments_that_the_launcher_cannot_follow_are_one_line(passed_on, words):
    asked = launch.asked(2, None, passed_on, place={})
    with pytest.raises(UserError) as refusal:
        launch.launch(asked, launch.arguments(asked, ["train"]))
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(
    ("place", "error", "waited"),
    [
        ({}, UserError("no"), []),
        ({**SECOND, "RANK": "0", "LOCAL_RANK": "0"}, UserError("no"), []),
        ({**SECOND, "RANK": "0", "LOCAL_RANK": "0"}, RuntimeError("broken pipe"), [launch.A_MOMENT]),
        # the first of another machine, or any task of srun
        ({**SECOND, "LOCAL_RANK": "0"}, UserError("no"), [launch.A_FEW]),
        (SECOND, UserError("no"), [launch.A_WHILE]),
        (SECOND, DataError("image 7 cannot be read"), [launch.A_WHILE]),
    ],
)
def test_the_first_process_tells_its_error_at_once_and_the_others_later(monkeypatch, place, error, waited):
    slept: list[float] = []
    monkeypatch.setattr(launch.time, "sleep", slept.append)
    for name, value in place.items():
        monkeypatch.setenv(name, value)

    @launch.in_turn
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        work()
    assert slept == waited


WORK = """
import os, signal, typer
from aifeedback_dpo.cli import launch, options
from aifeedback_dpo.errors import UserError

@options.guarded
@launch.in_turn
def work() -> None:
    launch.end_with_launcher()
    os.write(1, ("process %(RANK)s of %(WORLD_SIZE)s\\n" % os.environ).encode())  # whole lines, never mixed
    signal.alarm(120)  # were it left behind
    {trouble}
    signal.pause()

typer.run(work)
"""
LAUNCH = """
import typer
from aifeedback_dpo.cli import launch, options

@options.guarded
def main() -> None:
    asked = launch.asked(2, None, [], place={})
    launch.launch(asked, [*launch.arguments(asked, [])[:3], WORK])

typer.run(main)
"""
OF_THE_SECOND = "os.environ['RANK'] == '1' and "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "code", "told"),
    [
        ("raise UserError('no such judge')", 2, ["ddpo: no such judge"]),
        (OF_THE_SECOND + "os.kill(os.getpid(), signal.SIGKILL)", 1, ["ddpo: process 1 was ended by SIGKILL"]),
        (OF_THE_SECOND + "os.kill(os.getppid(), signal.SIGKILL)", -9, []),  # the launcher: nobody is left to tell
    ],
)
def test_what_ends_one_process_ends_all_with_one_line_and_its_exit_code(tmp_path, trouble, code, told):
    worker = tmp_path / "work.py"
    worker.write_text(WORK.format(trouble=trouble))
    command = [sys.executable, "-c", f"WORK = {str(worker)!r}\n{LAUNCH}"]
    # returns when every process has closed its output; times out where one is left behind
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    began = set(ended.stdout.splitlines())  # the other may have been ended before it began
    assert began
    assert began <= {"process 0 of 2", "process 1 of 2"}
    assert ended.returncode == code
    lines = ended.stderr.splitlines()
    assert len(lines) == len(told)
    assert all(line.startswith(start) for line, start in zip(lines, told, strict=True))


@pytest.fixture
def untrained(copied: Path) -> Path:
    shutil.rmtree(copied / "policies")
    return copied


@pytest.mark.slow
def test_a_dry_run_shows_the_launch_and_does_not_launch(untrained, monkeypatch):
    monkeypatch.setattr(launch, "launch", lambda *_: pytest.fail("launched"))
    before = sorted(untrained.rglob("*"))
    told = ["train", "--run", str(untrained), "--num-processes", "2", "--dry-run", "--", "--main_process_port", "29501"]
    shown = CliRunner().invoke(app, told)
    assert shown.exit_code == 0, shown.output
    line, note = shown.stdout.splitlines()[-2:]
    assert "the recipe in that line is written when `ddpo train` launches it" in note
    assert line.startswith(
        f"accelerate launch --multi_gpu --num_processes=2 --config_file={SHIPPED} --main_process_port 2950"
    )
    alone = ddpo("train", "--num-processes", "1", "--dry-run", "--json", run=untrained)
    assert json.loads(alone.stdout)["launch"] is None
    assert sorted(untrained.rglob("*")) == before


@pytest.mark.slow
def test_what_is_wrong_is_told_before_anything_is_launched(untrained, monkeypatch):
    monkeypatch.setattr(launch, "launch", lambda *_: pytest.fail("launched"))
    for arguments, word in (
        (("--judge", "clpi"), "did you mean 'clip'"),
        (("train.bta=1",), "did you mean 'train.beta'"),
        (("train.batch_size=5",), "train.batch_size=5 does not divide among 2 processes; take a multiple of 2"),
        (("train.batch_size=5", "--dry-run"), "does not divide"),
        (("--launcher", "fsdp2", "train.compile=true"), "train.compile=true does not go with sharding"),
    ):
        refused = ddpo("train", "--num-processes", "2", *arguments, run=untrained)
        assert refused.exit_code == 2
        assert word in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_training_ends_with_its_launcher(finished, monkeypatch):
    began = []
    monkeypatch.setattr(launch, "end_with_launcher", lambda: began.append(True))
    assert ddpo("train", "--dry-run", run=finished).exit_code == 0
    assert began


@pytest.mark.slow
def test_nothing_is_launched_where_all_is_trained(finished, monkeypatch):
    monkeypatch.setattr(launch, "launch", lambda *_: pytest.fail("launched"))
    assert ddpo("train", "--num-processes", "2", run=finished).exit_code == 0


@pytest.mark.slow
def test_of_several_processes_the_first_alone_prints(untrained, monkeypatch):
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    assert ddpo("train", "--dry-run", "--json", run=untrained).output == ""
    monkeypatch.setenv("RANK", "0")
    assert len(json.loads(ddpo("train", "--dry-run", "--json", run=untrained).stdout)["policies"]) == 3
