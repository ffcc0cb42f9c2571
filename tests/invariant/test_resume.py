"""A stage that is stopped at any moment and run again ends with the very files of a straight run."""

import signal
from pathlib import Path

import pytest

from tests.conftest import TINY, Forked, ddpo

pytestmark = pytest.mark.slow

# the fifth commit of generate is the third of six parts of images, the second of label the second of three of scores
STAGES = ((("generate", *TINY), 5, "images", 6), (("label",), 2, "scores/pickscore", 3))

KILL = """
import os, pathlib, signal
real, seen = pathlib.Path.replace, []
def replace(self, target):
    seen.append(target)
    if sum(str(path).endswith(".parquet") for path in seen) == {commits}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
pathlib.Path.replace = replace
"""


def parts(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.parquet")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("straight") / "runs" / "shapes"
    for command, *_ in STAGES:
        done = ddpo(*command, run=run)
        assert done.exit_code == 0, done.stderr
    return parts(run)


def killed(command: tuple[str, ...], run: Path, commits: int) -> int:
    return Forked(*command, run=run, before=KILL.format(commits=commits)).exit_code


def interrupted(command: tuple[str, ...], run: Path, commits: int) -> int:
    real, seen = Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        seen.append(target)
        if sum(str(path).endswith(".parquet") for path in seen) == commits:
            signal.raise_signal(signal.SIGINT)
        return real(path, target)

    # a shell that starts the tests in the background has told them to ignore Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            return ddpo(*command, run=run).exit_code
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("stop", "code"), [(killed, -9), (interrupted, 130)])
def test_stopped_and_run_again_equals_straight(tmp_path, straight, stop, code):
    run = tmp_path / "run"
    for command, commits, table, whole in STAGES:
        assert stop(command, run, commits) == code
        assert 0 < len([part for part in parts(run) if part.startswith(table)]) < whole
        again = ddpo(*command, run=run)
        assert again.exit_code == 0, again.stderr
    assert parts(run) == straight
