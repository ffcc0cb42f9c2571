"""A disk that is full in the middle of a file: one line, nothing half there, and with room again the end of a straight run."""

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import labelled as byhand
from tests.conftest import TINY, ddpo

pytestmark = pytest.mark.slow

FEW = (*TINY, "prompts.train=3", "generate.candidates=2", "generate.pairs=1", "generate.steps=1")
MADE = ("prompts", "images", "pairs", "scores", "preferences", "cache", "policies")


class Disk:
    """Holds so many bytes of the first file of a kind, by a part of its path, and from then on nothing more of any."""

    def __init__(self, kind: str, room: int) -> None:
        self.kind, self.room, self.full = kind, room, False

    def open(self, path: Path, mode: str = "r", *arguments, **settings):
        if "w" not in mode and "a" not in mode:
            return REAL(path, mode, *arguments, **settings)
        file = Filling(path, mode.replace("b", ""))
        file.disk = self if self.kind in str(path) or self.full else None
        return file if "b" in mode else io.TextIOWrapper(file, write_through=True)


class Filling(io.FileIO):
    disk: Disk | None

    def write(self, data) -> int:
        if self.disk is None:
            return super().write(data)
        kept = bytes(data)[: self.disk.room]
        self.disk.room -= super().write(kept)
        if len(kept) < len(data):
            self.disk.full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(kept)


REAL = Path.open


def parts(run: Path) -> dict[str, bytes]:
    """What a run is made of: tables, latents, policies."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for made in MADE
        for path in (run / made).rglob("*")
        if path.is_file() and path.suffix in (".parquet", ".safetensors")
    }


def refused(result) -> str:
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == 1, result.output
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


def assert_goes_on(stage: tuple[str, ...], run: Path, straight: Path, disk: Disk) -> None:
    """The stage is stopped by the disk, and then, with room again, ends as the straight run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "open", lambda path, *arguments, **settings: disk.open(path, *arguments, **settings))
        told = refused(ddpo(*stage, run=run))
    assert disk.full
    assert "the disk is full. What was committed is safe; make room and run the same command again" in told
    if disk.kind != "metrics.jsonl":  # after which, at the end, what the reference said is written
        assert disk.kind in told  # the file, not one that says that it failed
    wanted, left = parts(straight), parts(run)
    assert not list(run.rglob("*.tmp"))
    assert {name: wanted[name] for name in left} == left
    assert ddpo("status", run=run).exit_code == (0 if (run / "recipe.yaml").exists() else 2)
    again = ddpo(*stage, run=run)
    assert again.exit_code == 0, again.output
    assert parts(run) == wanted


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures, labelled."""
    run = tmp_path_factory.mktemp("judged") / "run"
    for stage in (("generate", *FEW), ("label",)):
        assert ddpo(*stage, run=run).exit_code == 0
    return run


@pytest.mark.parametrize(
    ("kind", "room"),
    [
        ("prompts/", 0),
        ("images/", 100),
        ("pairs/", 100),
        ("manifest.json", 100),
        ("recipe.yaml", 0),
        ("README.md", 100),
        ("workers/", 100),
    ],
)
def test_a_disk_that_fills_up_while_drawing_loses_nothing(judged, tmp_path, kind, room):
    straight, run, stage = tmp_path / "straight", tmp_path / "run", ("generate", *FEW)
    for table in ("prompts", "images", "pairs"):
        shutil.copytree(judged / table, straight / table)
    assert_goes_on(stage, run, straight, Disk(kind, room))


@pytest.mark.parametrize(
    ("kind", "room"), [("scores/", 100), ("preferences/", 0), ("manifest.json", 0), ("workers/", 0)]
)
def test_a_disk_that_fills_up_while_labelling_loses_nothing(judged, tmp_path, kind, room):
    run = Path(shutil.copytree(judged, tmp_path / "run"))
    for table in ("scores", "preferences"):
        shutil.rmtree(run / table)
    assert_goes_on(("label",), run, judged, Disk(kind, room))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A labelled run made by hand, and one whose human judge has a policy."""
    root = tmp_path_factory.mktemp("trained")
    run = byhand.write(root / "run")
    straight = Path(shutil.copytree(run, root / "straight"))
    byhand.train(straight, "--judge", "human")
    return run, straight


@pytest.mark.parametrize(
    ("kind", "room"),
    [
        ("cache/latents", 100),
        ("cache/prompts", 0),
        ("cache/reference", 100),
        ("step-000002.pt", 100),
        ("metrics.jsonl", 100),
        ("inputs.json", 0),
        ("policy.json", 100),
    ],
)
def test_a_disk_that_fills_up_while_training_loses_nothing(trained, tmp_path, kind, room):
    run, stage = Path(shutil.copytree(trained[0], tmp_path / "run")), ("train", "--judge", "human")
    assert_goes_on(stage, run, trained[1], Disk(kind, room))
    log = "policies/human/seed-0/metrics.jsonl"
    assert (run / log).read_bytes() == (trained[1] / log).read_bytes()


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small file system here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full_again_and_again_loses_nothing(trained, small):
    run, filler, stage = small / "run", small / "filler", ("train", "--judge", "human")
    shutil.copytree(trained[0], run)
    filler.write_bytes(bytes(shutil.disk_usage(small).free))
    refusals, result = 0, ddpo(*stage, run=run)
    while result.exit_code:
        assert "make room" in refused(result)
        assert not list(run.rglob("*.tmp"))
        refusals += 1
        os.truncate(filler, filler.stat().st_size - 2**17)
        result = ddpo(*stage, run=run)
    assert refusals > 1
    assert parts(run) == parts(trained[1])
