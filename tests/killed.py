"""Processes that are killed with SIGKILL at a random moment, and whether a run came out as a straight one."""

import random
from pathlib import Path

from tests.conftest import Forked

TABLES = ("prompts", "images", "pairs", "scores", "answers", "preferences")
KILLED = -9


def killing(after: int) -> str:
    """Python that has its process killed at its nth event: a file opened, renamed, removed, a folder listed, a thread started.

    Files are written under a temporary name, so that this is before, within and after each writing, at any point of a stage.
    """
    return f"""
import os, signal, sys
seen = 0
def count(event, arguments):
    global seen
    if event != "os.kill" and event.startswith(("open", "os.", "_thread.", "fcntl.")):
        seen += 1
        if seen > {after}:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
"""


def counted(into: Path) -> str:
    """Python that keeps count of such events in a file, eight bytes."""
    into.write_bytes(bytes(8))
    there = f"import mmap, os; kept = mmap.mmap(os.open({str(into)!r}, os.O_RDWR), 8)"
    return there + killing(10**9).replace("seen += 1", "seen += 1; kept[:] = seen.to_bytes(8, 'big')")


def events(*arguments: str, run: Path, into: Path) -> int:
    """How many there are in a straight run of this command."""
    process = Forked(*arguments, run=run, before=counted(into))
    assert process.exit_code == 0, process.said
    return int.from_bytes(into.read_bytes(), "big")


def kill_and_run_again(*arguments: str, run: Path, total: int, draw: random.Random) -> int:
    """Runs a command until it gets through, killed at random moments; how often it was killed."""
    kills = 0
    while True:
        process = Forked(*arguments, run=run, before=killing(draw.randrange(total)))
        code = process.exit_code
        if code == 0:
            return kills
        assert code == KILLED, process.said
        kills += 1


def tables(run: Path) -> dict[str, bytes]:
    """Every part of every table, by its path; what was not finished has a name that readers ignore."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for table in TABLES
        for path in sorted((run / table).rglob("part-*.parquet"))
    }
