"""A stage that is stopped at any moment and run again ends with the very files of a straight run."""

from pathlib import Path

import pytest

from tests.conftest import TINY, ddpo_process

pytestmark = pytest.mark.slow

STOP = """
import os, pathlib, signal
real, seen = pathlib.Path.replace, []
def replace(self, target):
    seen.append(target)
    if sum(str(path).endswith(".parquet") for path in seen) == {commits}:
        {stop}
    return real(self, target)
pathlib.Path.replace = replace
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
# a shell that starts the tests in the background has told them to ignore Ctrl-C
INTERRUPT = "signal.signal(signal.SIGINT, signal.default_int_handler); signal.raise_signal(signal.SIGINT)"


def parts(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.parquet")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("straight")
    for command in (("generate", *TINY), ("label",)):
        done = ddpo_process(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return parts(folder / "runs" / "shapes")


@pytest.mark.parametrize(("stop", "code"), [(KILL, -9), (INTERRUPT, 130)])
def test_stopped_and_run_again_equals_straight(tmp_path, straight, stop, code):
    run = tmp_path / "runs" / "shapes"
    # the fifth commit of generate is the third of six parts of images, the second of label the second of three of scores
    for command, commits, table, whole in (
        (("generate", *TINY), 5, "images", 6),
        (("label",), 2, "scores/pickscore", 3),
    ):
        stopped = ddpo_process(*command, cwd=tmp_path, before=STOP.format(commits=commits, stop=stop))
        assert stopped.returncode == code, stopped.stderr
        assert 0 < len([part for part in parts(run) if part.startswith(table)]) < whole
        again = ddpo_process(*command, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    assert parts(run) == straight
