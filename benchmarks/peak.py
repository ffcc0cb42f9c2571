"""The peak memory of a `ddpo` command in a process of its own."""

import subprocess
import sys
from collections.abc import Sequence

PROGRAM = """
import sys
from pathlib import Path
from aifeedback_dpo.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print([line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0].split()[1])
"""


def peak(command: Sequence[str]) -> tuple[str, int]:
    """What it printed, and the most memory it had, in MiB (VmHWM of Linux: of itself alone)."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], check=True, capture_output=True, text=True)
    *said, most = done.stdout.strip().splitlines()
    return "\n".join(said), int(most) >> 10
