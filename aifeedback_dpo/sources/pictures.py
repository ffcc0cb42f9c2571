"""Pictures as public sets hold them: bytes, `datasets`' Image, a data address, or a path into a folder or a tar beside.

An address on the web is not followed: Pick-a-Pic's are dead, and a set that is read twice must be the same twice.
"""

import base64
import binascii
import re
import tarfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources.comparison import Picture
from aifeedback_dpo.store import decode_image


@dataclass(frozen=True)
class Shelf:
    """Where pictures lie that are named by a path: folders, and where each member of a tar begins and how long it is.

    `packed` names archives that can only be read from their start, and so are not.
    """

    folders: tuple[Path, ...] = ()
    members: Mapping[str, tuple[Path, int, int]] = field(default_factory=dict)
    packed: str = ""

    def find(self, name: str) -> bytes | str:
        """The bytes of a picture, or why there are none."""
        tidy = name.removeprefix("./")
        if re.match(r"^(/|[A-Za-z]:)", tidy) or ".." in Path(tidy).parts:
            return "path leaves the folder"
        for folder in self.folders:
            path = folder / tidy
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path.read_bytes()
        for key in (tidy, Path(tidy).name):
            if key in self.members:
                tar, offset, size = self.members[key]
                with tar.open("rb") as file:
                    file.seek(offset)
                    return file.read(size)
        return f"no file {name}" + (f"; {self.packed} is compressed, `tar -xf` it first" if self.packed else "")


def shelf(asked: Path | None, beside: Path, *, under: Iterable[str] = ()) -> Shelf:
    """The pictures of a set whose JSON is in the folder `beside`: there, in its folders `under`, or in its tars.

    `asked` is a folder or a tar that the user names. Raises UserError where that is not there.
    """
    if asked is not None and not asked.exists():
        raise UserError(f"--images {asked}: no such folder or tar")
    places = [asked] if asked else [beside, *(beside / name for name in under)]
    folders = tuple(place for place in places if place.is_dir())
    tars = [place for place in places if place.is_file()]
    tars += [tar for folder in folders for tar in sorted(folder.glob("*.tar*"))]
    packed = [tar.name for tar in tars if tar.suffix != ".tar"]
    return Shelf(folders, _members([tar for tar in tars if tar.suffix == ".tar"]), ", ".join(packed))


def _members(tars: Iterable[Path]) -> dict[str, tuple[Path, int, int]]:
    found: dict[str, tuple[Path, int, int]] = {}
    for path in tars:
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile():
                        found[member.name.removeprefix("./")] = (path, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise UserError(f"{path} is no tar that can be read ({error}); fetch it again") from error
    return found


def picture(cell: Any, shelf: Shelf | None = None, *, model: Any = "") -> Picture:
    """A cell of a row as a picture. What cannot be had is a picture without data, and the reason."""
    drawn_by = "" if model is None else (model.decode(errors="replace") if isinstance(model, bytes) else str(model))
    if isinstance(cell, Mapping):
        inner = cell.get("bytes")
        cell = inner if inner is not None else cell.get("path")
    if cell is None or cell == "" or cell == b"":
        return Picture(None, drawn_by, "empty")
    if isinstance(cell, bytes | bytearray | memoryview):
        return Picture(bytes(cell), drawn_by)
    if not isinstance(cell, str):
        return Picture(None, drawn_by, f"a {type(cell).__name__} is no picture")
    if cell.startswith("data:"):
        head, _, body = cell.partition(",")
        try:
            return (
                Picture(base64.b64decode(body, validate=True), drawn_by) if head.endswith(";base64") else _no(drawn_by)
            )
        except binascii.Error:
            return _no(drawn_by)
    if re.match(r"^(https?|s3|gs|hf)://", cell):
        return Picture(None, drawn_by, "an address on the web, which is not followed")
    found = shelf.find(cell) if shelf else f"no file {cell}"
    return Picture(found, drawn_by) if isinstance(found, bytes) else Picture(None, drawn_by, found)


def _no(model: str) -> Picture:
    return Picture(None, model, "a data address that is not base64")


def decoded(data: bytes) -> Image.Image:
    """As RGB. Raises OSError for what is no picture, is cut short, or would be enormous once unpacked."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", message="Palette images with Transparency")
        try:
            return decode_image(data)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise OSError("more pixels than a picture should have") from error
        except (ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:  # Pillow on damaged files
            raise OSError(str(error) or type(error).__name__) from error
