"""Training in several processes: what `--num-processes` launches, what a launched process joins, and which one speaks."""

import contextlib
import functools
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, ParamSpec

import typer

from aifeedback_dpo.cli.options import INTERRUPTED
from aifeedback_dpo.errors import DdpoError, UserError

if TYPE_CHECKING:
    from aifeedback_dpo.store import Run

P = ParamSpec("P")

NumProcesses = Annotated[
    int | None,
    typer.Option(
        "--num-processes",
        min=1,
        metavar="N",
        help="Train in so many processes, one for each GPU of all machines; arguments of `accelerate launch` follow after "
        "`--`. \\[default: this one, or those of the torchrun, srun or accelerate that started it]",
    ),
]
Launcher = Annotated[
    str | None,
    typer.Option(
        "--launcher",
        metavar="ddp|fsdp2|zero2|PATH",
        help="How they are launched: a configuration file of accelerate. \\[default: ddp]",
    ),
]

PLACE = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
NOT_TAKEN = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
SHARDED = "FSDP"
PARALLEL = ("NO", "MULTI_GPU", "MULTI_CPU", SHARDED)
OURS = ("num_processes", "config_file")
LAUNCHED_BY = "DDPO_LAUNCHED_BY"
A_MOMENT, A_FEW, A_WHILE = 1.0, 3.0, 10.0
"""Seconds. A launcher ends its processes a tenth of a second after one has failed."""


class Launch(NamedTuple):
    """A launch of several processes: how many on all machines, by which file, what that file says, and what goes on top."""

    number: int
    configuration: Path
    says: dict[str, Any]
    passed_on: Sequence[str]

    @property
    def sharded(self) -> bool:
        """Whether the file has the weights spread over the processes."""
        return bool(self.says.get("distributed_type") == SHARDED)


def split(values: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides, and what followed `--`: everything from the first value that starts with a dash."""
    at = next((at for at, value in enumerate(values) if value.startswith("-")), len(values))
    return list(values[:at]), list(values[at:])


def asked(
    number: int | None, launcher: str | None, passed_on: Sequence[str], *, place: Mapping[str, str]
) -> Launch | None:
    """The launch that is asked for; None where this process trains, alone or with others that a launcher has started.

    `place` is the environment. Raises UserError for options that contradict each other or the environment.
    """
    there = {name: place[name] for name in PLACE if name in place}
    told = ", ".join(f"{name}={value}" for name, value in there.items())
    if "LOCAL_RANK" in there or (number is None and there.get("WORLD_SIZE", "1") != "1"):
        if missing := [name for name in PLACE if name not in there]:
            raise UserError(
                f"the environment has {told} but no {' and no '.join(missing)}; set all three as torchrun does"
            )
        if number is not None:
            raise UserError(
                f"--num-processes {number} in a process that a launcher started ({told}); leave it out to join"
            )
        if other := [name for name in NOT_TAKEN if place.get(name, "").lower() == "true"]:
            raise UserError(f"{other[0]}=true, but weights are sharded by FSDP2 only; see --launcher fsdp2")
        if place.get("ACCELERATE_USE_FSDP", "").lower() == "true" and place.get("FSDP_VERSION") != "2":
            raise UserError(
                f"FSDP_VERSION={place.get('FSDP_VERSION', '1')}, but weights are sharded by FSDP2; set it to 2"
            )
    extra = " ".join(passed_on) or (f"--launcher {launcher}" if launcher else "")
    if extra and (number or 1) == 1:
        raise UserError(f"'{extra}' is for the launcher, which starts more than one process; add --num-processes N")
    for value in passed_on:
        if value.lstrip("-").partition("=")[0].replace("-", "_") in OURS:
            raise UserError(f"'{value}' after --; say it before, with --num-processes or --launcher")
    if number is None or number == 1:
        return None
    return Launch(number, *_configuration(launcher or "ddp"), passed_on)


def command(run: "Run", judges: Sequence[str], *, from_step: int | None, json: bool) -> list[str]:
    """What every process runs: `ddpo train` by the file that holds the recipe with all overrides in it."""
    told = [f"--judge={judge}" for judge in judges]
    if from_step is not None:
        told.append(f"--from-step={from_step}")
    if json:
        told.append("--json")
    return ["train", f"--run={run.root}", f"--recipe={recipe_file(run)}", *told]


def arguments(launch: Launch, told: Sequence[str]) -> list[str]:
    """What `accelerate launch` is given; without the first it would start a single process where there is no GPU."""
    kind = "--use_fsdp" if launch.sharded else "--multi_gpu"
    ours = [kind, f"--num_processes={launch.number}", f"--config_file={launch.configuration}"]
    return [*ours, *launch.passed_on, "-m", "aifeedback_dpo", *told]


def recipe_file(run: "Run") -> Path:
    """Where the processes find the recipe; named after what it says, so that two launches at once do not meet."""
    from aifeedback_dpo.records import content_id

    return run.cache / f"launch-{content_id(resolved(run))[:24]}.yaml"


def resolved(run: "Run") -> str:
    """The recipe with every override and every default, as YAML."""
    from aifeedback_dpo import config

    return config.dump(run.recipe)


def launch(asked: Launch, given: Sequence[str]) -> None:
    """Runs `accelerate launch` with these arguments, and returns when every process has done its work.

    Leaves with the exit code of the first that failed, which has said why. Raises UserError for arguments that accelerate
    does not take and for more processes than GPUs, DdpoError for a process that was killed.
    """
    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = _parsed(given)
    here = _on_this_machine(asked, parsed)
    # batches are made on the CPU, and torchrun's default is one thread for each process
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    os.environ[LAUNCHED_BY] = str(os.getpid())
    logging.disable(logging.ERROR)  # the launcher's account of what the processes have said themselves
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise typer.Exit(failure.exitcode) from error
        raise DdpoError(
            f"process {rank} was ended by {failure.signal_name()}; a machine that runs out of memory does so with SIGKILL. "
            "What was committed is kept; run the same command again to go on"
        ) from error
    except SignalException as error:
        raise typer.Exit(128 + error.sigval) from error
    except ValueError as error:
        raise UserError(f"accelerate launch: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def end_with_launcher() -> None:
    """Ends this process soon after the one that launched it, were that killed: what is run again must find nobody at work."""
    if LAUNCHED_BY not in os.environ:
        return
    launcher = int(os.environ[LAUNCHED_BY])

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(A_MOMENT)
        os._exit(DdpoError.exit_code)

    threading.Thread(target=watch, daemon=True).start()


def speaks() -> bool:
    """Whether this process prints what all of them found."""
    return os.environ.get("RANK", "0") == "0"


def in_turn(train: Callable[P, None]) -> Callable[P, None]:
    """Has an error that several processes meet told once, and one that a single process meets told all the same.

    The first process of all tells what is wrong at once, and the launcher then ends the others, who wait: one that is still
    there after a while is alone with its error. The first of another machine waits for less, as its launcher may know nothing
    of it yet. What is no DdpoError may be a connection to a process that was killed.
    """

    @functools.wraps(train)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        others = "LOCAL_RANK" in os.environ
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        try:
            train(*args, **kwargs)
        except Exception as error:
            if others and not first:
                time.sleep(A_WHILE)
            elif others and not speaks():
                time.sleep(A_FEW)
            elif others and not isinstance(error, DdpoError):
                time.sleep(A_MOMENT)
            raise
        except KeyboardInterrupt as error:
            if not first:
                raise typer.Exit(INTERRUPTED) from error
            raise

    return run


def _configuration(launcher: str) -> tuple[Path, dict[str, Any]]:
    """The file of that name or path, and what it says. Raises UserError for one that cannot be read or used."""
    import yaml

    shipped = {path.stem: path for path in (Path(__file__).parent.parent / "launchers").glob("*.yaml")}
    path = shipped.get(launcher, Path(launcher))
    try:
        says = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML"
        known = ", ".join(sorted(shipped))
        raise UserError(
            f"--launcher {launcher} cannot be read: {reason}; take {known}, or a file that `accelerate config` wrote"
        ) from error
    kind = says.get("distributed_type", "NO") if isinstance(says, dict) else says
    if kind not in PARALLEL:
        raise UserError(f"--launcher {launcher} has distributed_type {kind}; take {', '.join(PARALLEL)}")
    if kind == SHARDED and (version := (says.get("fsdp_config") or {}).get("fsdp_version", 1)) != 2:
        raise UserError(f"--launcher {launcher} has fsdp_version {version}; weights are sharded by FSDP2: set it to 2")
    return path, says


def _parsed(given: Sequence[str]) -> Any:
    from accelerate.commands.launch import launch_command_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return launch_command_parser().parse_args(list(given))
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        problem = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UserError(
            f"accelerate launch: {problem}; `ddpo train --num-processes 2 -- --help` lists its arguments"
        ) from stop


def _on_this_machine(asked: Launch, parsed: Any) -> int:
    """How many of the processes are this machine's."""
    import torch

    machines = int(parsed.num_machines or asked.says.get("num_machines") or 1)
    here, left = divmod(asked.number, machines)
    if left or not here:
        raise UserError(f"--num-processes {asked.number} counts those of all {machines} machines; make it a multiple")
    for name in ("main_process_ip", "main_process_port"):
        if machines > 1 and not (getattr(parsed, name) or asked.says.get(name)):
            raise UserError(f"--num_machines {machines} needs --{name}, that of the first machine, as well")
    if torch.cuda.is_available() and here > torch.cuda.device_count():
        raise UserError(
            f"--num-processes {asked.number} needs {here} GPUs here, and there are {torch.cuda.device_count()}; take fewer"
        )
    return here
