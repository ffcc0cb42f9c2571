"""`--workers N`: as many processes on this machine, each with a share of the plan, and one GPU each where there are any.

A process that is killed is started again and goes on where it was. What one of them says lies in `workers/` of the run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aifeedback_dpo.cli import launch
from aifeedback_dpo.errors import DdpoError

if TYPE_CHECKING:
    from aifeedback_dpo.engine import Progress
    from aifeedback_dpo.store import Run

ATTEMPTS = 3  # in a row, in which nothing is committed before a process dies
GRACE = 10.0  # seconds in which processes that were interrupted may write what they have computed
TABLES = {"generate": ("images",), "label": ("scores", "answers")}
LOOK = 0.2  # seconds between two looks at the processes


@dataclass
class Process:
    """One of them, and how often it has died since anything was committed."""

    shard: tuple[int, int]
    line: Sequence[str]
    log: Path
    environment: dict[str, str]
    committed: Callable[[], int]
    died: int = 0
    parts: int = 0
    done: int = 0
    running: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.environment
            )

    def look(self, said: Mapping[int, int]) -> int:
        """How much it has done since the last look; `said` is what each process says by its number."""
        before, self.done = self.done, max(self.done, said.get(self.running.pid, 0))
        return self.done - before

    def goes_on(self, progress: "Progress") -> bool:
        """Whether it is still at work: one that was killed is started again, unless that does not help."""
        code = self.running.poll()
        if code is None or code >= 0:
            return code is None
        before, self.parts = self.parts, self.committed()
        if self.parts > before:
            self.died = 0
        if self.died == ATTEMPTS:
            return False
        progress.note(f"process {self.running.pid} was ended by signal {-code} and is started again")
        self.died, self.done = self.died + 1, 0
        self.start()
        return True

    @property
    def last_words(self) -> str:
        """The last line that it wrote."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


def run(opened: "Run", command: str, told: Sequence[str], number: int, progress: "Progress") -> None:
    """Has so many processes do all there is to do, and returns when they have.

    Raises what the first that failed has said; the others end their shares first.
    """
    from aifeedback_dpo import workers

    opened.write_text(launch.recipe_file(opened), launch.resolved(opened))
    processes = [_process(opened, command, told, (at, number)) for at in range(number)]
    for process in processes:
        process.log.unlink(missing_ok=True)
        process.start()
    left = list(processes)
    try:
        with progress.task(f"`ddpo {command}` in {number} processes", None) as bar:
            while left:
                time.sleep(LOOK)
                said = {worker.pid: worker.done for worker in workers.read(opened) if worker.command == command}
                for process in left:
                    bar.advance(process.look(said))
                left = [process for process in left if process.goes_on(progress)]
    finally:
        until = time.monotonic() + GRACE  # Ctrl-C has reached them as well
        while time.monotonic() < until and any(process.running.poll() is None for process in left):
            time.sleep(LOOK)
        for process in left:
            process.running.terminate()
        for process in left:
            process.running.wait()
    if failed := [process for process in processes if process.running.returncode]:
        raise _what(failed[0])


def _process(opened: "Run", command: str, told: Sequence[str], shard: tuple[int, int]) -> Process:
    number, count = shard
    line = [sys.executable, "-m", "aifeedback_dpo", command, "--run", str(opened.root), *told]
    line += ["--recipe", str(launch.recipe_file(opened)), "--shard", f"{number}/{count}"]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), launch.LAUNCHED_BY: str(os.getpid())}
    if devices := _devices():
        environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    log = opened.root / "workers" / f"{command}-{number}-of-{count}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return Process(shard, line, log, environment, lambda: sum(len(opened.parts(table)) for table in TABLES[command]))


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA knows them."""
    import torch

    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return allowed or [str(at) for at in range(torch.cuda.device_count())]


def _what(process: Process) -> DdpoError:
    """What went wrong with it, with its exit code."""
    code, words = process.running.returncode, process.last_words.removeprefix("ddpo: ")
    number, count = process.shard
    if code < 0:
        return DdpoError(
            f"share {number} of {count} was ended by signal {-code} {ATTEMPTS + 1} times, and nothing was committed; a machine "
            "that runs out of memory does so with signal 9. What was committed is kept; take fewer --workers"
        )
    error = DdpoError(f"share {number} of {count}: {words} ({process.log} has all that it said)")
    error.exit_code = code
    return error
