"""The folder that an export makes: whole or not at all.

All is written into a hidden folder beside it, put on the disk and renamed. An error or Ctrl-C takes the hidden folder away;
what a kill has left of one is taken away by the next export to the same place. A lock keeps two exports apart.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aifeedback_dpo.disk import disk_error, sync
from aifeedback_dpo.errors import UserError


def check(folder: Path) -> None:
    """Raises UserError for a folder that holds something, or a path that is no folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder; name one that is not there yet")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and nothing is written over; name a folder that is not there yet")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """The hidden folder to write into. Raises DdpoError when the disk is full or read-only."""
    check(folder)
    place = folder.resolve()
    partial = place.with_name(f".{place.name}.partial")
    with _errors(folder):
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another `ddpo export` is writing {folder}; name another folder, or wait") from error
        try:
            with _errors(folder):
                _empty(partial)
                yield partial
                sync(partial)
                partial.rename(place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(lock)


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, folder) from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
