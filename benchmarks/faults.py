"""kill -9 at random moments, for real: `python benchmarks/faults.py [--kills 20] [--only ...]`.

    process    `ddpo generate` and `ddpo label` in one process, killed and run again until they end
    worker     one of the processes of `--workers 2`, while its driver goes on
    driver     the driver of `--workers 2`; the same command is run again
    actor      an actor of `--engine ray --workers 2`, while its driver goes on
    ray-driver the driver on Ray; the same command is run again

Every kill is SIGKILL at a random moment of the wall clock, at least `--kills` of a kind; a run that ends is held, byte for byte
and table for table, to one that nobody disturbed, and the next one begins. Beside them what a fault in the machine does is in
the tests: tests/cli/test_faults_*.py, tests/invariant/test_kills.py.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aifeedback_dpo import workers
from aifeedback_dpo.opening import open_run
from tests.killed import tables

STAGES = (("generate", "prompts.eval=4", "generate.steps=12"), ("label", "--scorer", "pickscore"))
HOW = {
    "process": ([], "driver"),
    "worker": (["--workers", "2"], "worker"),
    "driver": (["--workers", "2"], "driver"),
    "actor": (["--engine", "ray", "--workers", "2"], "worker"),
    "ray-driver": (["--engine", "ray", "--workers", "2"], "driver"),
}
LONGEST = {"driver": 16.0, "worker": 14.0}  # seconds until the next kill, at most


@dataclass
class Count:
    """What has been done to runs of one kind."""

    kills: int = 0
    runs: int = 0
    different: int = 0
    problems: list[str] = field(default_factory=list)


def main() -> None:
    """Prints a row for each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--only", nargs="+", choices=HOW, default=list(HOW))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}, {4 * asked.prompts} pictures a run")
    print("| killed | kills | runs that ended | equal to a straight one | seconds |\n|---|---|---|---|---|")
    draw = random.Random(asked.seed)
    stages = [[*STAGES[0], f"prompts.train={asked.prompts}"], list(STAGES[1])]
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight"
        for stage in stages:
            assert started(stage, straight, Path(folder) / "log").wait() == 0, (Path(folder) / "log").read_text()
        wanted = tables(straight)
        for name in asked.only:
            options, whom = HOW[name]
            count, begun = Count(), time.monotonic()
            while count.kills < asked.kills and not count.problems:
                run = Path(folder) / f"{name}-{count.runs}"
                for stage in stages:
                    disturbed([*stage, *options], run, whom, count, draw)
                count.runs += 1
                count.different += tables(run) != wanted
            told = "; ".join(count.problems) or f"{count.runs - count.different} of {count.runs}"
            spent = time.monotonic() - begun
            print(f"| {name} | {count.kills} | {count.runs} | {told} | {spent:.0f} |", flush=True)


def started(command: Sequence[str], run: Path, log: Path) -> "subprocess.Popen[bytes]":
    """A `ddpo` command in a process of its own."""
    line = [sys.executable, "-m", "aifeedback_dpo", *command, "--run", str(run)]
    return subprocess.Popen(line, stdout=log.open("wb"), stderr=subprocess.STDOUT)


def disturbed(command: Sequence[str], run: Path, whom: str, count: Count, draw: random.Random) -> None:
    """Runs a command until it ends, with kills on the way."""
    log = run.with_suffix(".log")
    while True:
        process = started(command, run, log)
        while process.poll() is None:
            moment = time.monotonic() + draw.uniform(0, LONGEST[whom])
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.01)
            if process.poll() is None:
                count.kills += killed(process, run, command[0], whom, draw)
        if process.returncode == 0:
            return
        if process.returncode != -signal.SIGKILL:
            count.problems.append(f"exit code {process.returncode}: {log.read_text(errors='replace')[-300:]}")
            return


def killed(process: "subprocess.Popen[bytes]", run: Path, command: str, whom: str, draw: random.Random) -> int:
    """Kills the driver, or one of its workers that says it is at work; whether there was any."""
    if whom == "driver":
        process.kill()
        process.wait()
        return 1
    there = workers.read(open_run(run, None)) if (run / "recipe.yaml").exists() else []
    pids = [worker.pid for worker in there if worker.command == command and worker.status == workers.AT_WORK]
    if not pids:
        return 0
    try:
        os.kill(draw.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


if __name__ == "__main__":
    main()
