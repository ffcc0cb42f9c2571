"""Pictures that are small on the disk and enormous once unpacked, and ids that lead out of their folder: refused everywhere."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from aifeedback_dpo.annotate.journal import Showing
from aifeedback_dpo.annotate.pictures import Pair as Shown
from aifeedback_dpo.annotate.pictures import Pictures
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.compare import pictures
from aifeedback_dpo.dpo.cache import _pixels
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.export import files, folders, label_studio, webdataset
from aifeedback_dpo.export.pair import Pair, Picture
from aifeedback_dpo.importing.slices import Slice, look
from aifeedback_dpo.scorers.asking import _readable
from aifeedback_dpo.sources import Comparison
from aifeedback_dpo.sources import Picture as Imported
from aifeedback_dpo.sources import Vote as Said
from tests.published import picture
from tests.unit.test_pictures import Noting, opened, result

BOMB, GOOD = "b" * 32, "a" * 32
CLIMBING = "../../climbed"


def png(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, one bit each, packed to almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(min(10**6, height * (1 + (width + 7) // 8))))
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# Pillow itself warns of more than 89 million pixels, and from twice as many on raises what is no OSError
BOMBS = {"no warning": png(9000, 9000), "Pillow warns": png(10_000, 10_000), "Pillow refuses": png(20_000, 20_000)}


@pytest.mark.filterwarnings("ignore:Image size")  # as the command line has it
@pytest.mark.parametrize("data", [*BOMBS.values(), png(60_000, 100)], ids=[*BOMBS, "a strip"])
def test_what_would_be_enormous_is_refused_as_a_broken_picture_is(data: bytes) -> None:
    with pytest.raises(OSError, match=r"pixels"):
        decode_image(data)


def labelled(data: bytes, root: Path) -> object:
    pairs = [{"pair_id": "p", "image_a": GOOD, "image_b": BOMB}]
    unreadable: dict = {}
    assert _readable(pairs, {GOOD: picture(1), BOMB: data}, unreadable) == []
    return "".join(f"{one}" for one in unreadable.values())


def imported(data: bytes, root: Path) -> object:
    pair = Comparison("a cat", Imported(picture(1)), Imported(data), (Said(1.0),), "first")
    (refused,) = look(Slice(0, 1, [("train/0", pair)], None)).refused
    return f"{refused['reason']} {refused['detail']}"


def reported(data: bytes, root: Path) -> object:
    progress = Noting()
    run = opened(root, {GOOD: picture(1), BOMB: data})
    assert list(pictures.write(run, result(GOOD, BOMB), run.report, progress)) == [GOOD]
    return progress.notes[0]


def annotated(data: bytes, root: Path) -> object:
    run = opened(root, {GOOD: picture(1), BOMB: data})
    showing = Showing(*["x"] * len(Showing.__dataclass_fields__))
    object.__setattr__(showing, "pair_id", "p")
    object.__setattr__(showing, "left_is", "b")
    with pytest.raises(DataError) as error:
        Pictures(run, {"p": Shown("a cat", GOOD, BOMB, 24, 16)}).of(showing, left=True)
    return error.value


def cached(data: bytes, root: Path) -> object:
    with pytest.raises(DataError) as error:
        _pixels((BOMB, data), resolution=32, flipped=False)
    return error.value


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("stage", [labelled, imported, reported, annotated, cached], ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("kind", BOMBS)
def test_every_stage_calls_it_one_picture_that_cannot_be_read(
    stage: Callable[[bytes, Path], object], kind: str, tmp_path: Path
) -> None:
    assert "pixels" in str(stage(BOMBS[kind], tmp_path))


@pytest.mark.filterwarnings("ignore:Image size")
def test_no_export_names_a_file_after_it() -> None:
    with pytest.raises(DataError, match=f"image {BOMB} is not one of"):
        files.ending(Picture(BOMB, "", BOMBS["Pillow refuses"]))


def test_the_formats_that_call_other_programs_are_not_opened() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


# -- ids -----------------------------------------------------------------------------------------------------------------


def climbing() -> Pair:
    one, other = Picture(CLIMBING, "", picture(1)), Picture(GOOD, "", picture(2))
    return Pair(0, CLIMBING, "a cat", "train", one, other, 0.9, 1, 1, 1)


@pytest.mark.parametrize("form", [folders, label_studio, webdataset], ids=lambda form: form.__name__.rpartition(".")[2])
def test_no_export_writes_outside_of_its_folder(form: object, tmp_path: Path) -> None:
    at = tmp_path / "deep" / "set"
    at.mkdir(parents=True)
    more = (SimpleNamespace(of=lambda pair: []), "human") if form is label_studio else ()
    with pytest.raises(DataError, match="is no name for a file"):
        form.write([[climbing()]], at, *more)
    assert not list(tmp_path.rglob("*climbed*"))
    for tar in at.rglob("*.tar"):
        assert b"climbed" not in tar.read_bytes()


def test_no_report_writes_outside_of_its_run(tmp_path: Path) -> None:
    progress = Noting()
    run = opened(tmp_path / "deep" / "run", {GOOD: picture(1), CLIMBING: picture(2)})

    assert list(pictures.write(run, result(GOOD, CLIMBING), run.report, progress)) == [GOOD]

    assert not list(tmp_path.rglob("*climbed*"))
    assert "its id is no name for a file" in progress.notes[0]
