"""What a disk refuses, in one line; and what is to be on it for good."""

import errno
import os
from pathlib import Path

from aifeedback_dpo.errors import DdpoError


def disk_error(error: OSError, path: Path) -> DdpoError:
    """One line for a write that the machine refused."""
    what, way = (
        ("the disk is full", "make room") if is_full(error) else (error.strerror or str(error), "let it write there")
    )
    return DdpoError(f"cannot write {path}: {what}. What was committed is safe; {way} and run the same command again")


def is_full(error: OSError) -> bool:
    """Whether the machine has no room left, on the disk or in the quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sync(folder: Path) -> None:
    """Puts the files of a folder on the disk, for writers that do not do it themselves."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
