"""Pictures as public sets hold them: bytes, `datasets`' Image, a data address, or a path into a folder or a tar beside.

An address on the web is not followed: Pick-a-Pic's are dead, and a set that is read twice must be the same twice.
"""

import base64
import binascii
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from aifeedback_dpo.codec import FORMATS, decode_image
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources import labels
from aifeedback_dpo.sources.comparison import Picture


@dataclass(frozen=True)
class Shelf:
    """Where pictures lie that are named by a path: folders, and where each member of a tar begins and how long it is.

    A member that several tars have, or several folders of them by its name alone, is None: nobody knows which is meant.
    `packed` names archives that can only be read from their start, and so are not.
    """

    folders: tuple[Path, ...] = ()
    members: Mapping[str, tuple[Path, int, int] | None] = field(default_factory=dict)
    packed: str = ""

    def find(self, name: str) -> bytes | str:
        """The bytes of a picture, or why there are none."""
        tidy = self._inside(name.removeprefix("./"))
        if tidy is None:
            return "path leaves the folder"
        for folder in self.folders:
            path = folder / tidy
            if there(path) and path.is_file():
                return path.read_bytes() if _stays(path, folder) else "a link that leaves the folder"
        for key in (tidy, Path(tidy).name):
            if key in self.members:
                if (place := self.members[key]) is None:
                    return f"{key} is there several times, in tars"
                tar, offset, size = place
                with tar.open("rb") as file:
                    file.seek(offset)
                    return file.read(size)
        return f"no file {name}" + (f"; {self.packed} is compressed, `tar -xf` it first" if self.packed else "")

    def _inside(self, name: str) -> str | None:
        """A path as seen from a folder; None for one that leads out of it."""
        if Path(name).is_absolute():  # as `datasets` gives those of a folder of pictures
            inner = [Path(name).relative_to(root) for root in self.folders if Path(name).is_relative_to(root)]
            name = inner[0].as_posix() if inner else "/"
        return None if re.match(r"^(/|[A-Za-z]:)", name) or ".." in Path(name).parts else name


def there(path: Path) -> bool:
    """Whether a path exists; what is too long or no path at all does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _stays(path: Path, folder: Path) -> bool:
    """Whether a file is in the folder, and no link out of it but into the hub's cache, which is made of links."""
    resolved = path.resolve()
    return resolved.is_relative_to(folder.resolve()) or resolved.parent.name == "blobs"


def shelf(asked: Path | None, beside: Path, *, under: Iterable[str] = (), tars_too: bool = False) -> Shelf:
    """The pictures of a set whose rows are in the folder `beside`: there, in its folders `under`, or in its tars.

    `asked` is a folder or a tar that the user names. Raises UserError where that is not there.
    """
    if asked is not None and not asked.exists():
        raise UserError(f"--images {asked}: no such folder or tar")
    places = [asked] if asked else [beside, *(beside / name for name in under)]
    folders = tuple(place.absolute() for place in places if place.is_dir())
    tars = [place for place in places if place.is_file()]
    if tars_too or asked:
        tars += [tar for folder in folders for tar in sorted(folder.glob("*.tar*"))]
    packed = [tar.name for tar in tars if tar.suffix != ".tar"]
    return Shelf(folders, _members([tar for tar in tars if tar.suffix == ".tar"]), ", ".join(packed))


def _members(tars: Iterable[Path]) -> dict[str, tuple[Path, int, int] | None]:
    found: dict[str, tuple[Path, int, int] | None] = {}
    bare: dict[str, tuple[Path, int, int] | None] = {}
    for path in tars:
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile() and not member.issparse():  # of those only the stretches with data are there
                        name, place = member.name.removeprefix("./"), (path, member.offset_data, member.size)
                        found[name] = None if name in found else place
                        short = Path(name).name
                        bare[short] = None if short in bare else place
        except (tarfile.TarError, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:  # of damage
            raise UserError(f"{path} is no tar that can be read ({error}); fetch it again, or take it away") from error
    return bare | found


def picture(cell: Any, shelf: Shelf | None = None, *, model: Any = "") -> Picture:
    """A cell of a row as a picture. What cannot be had is a picture without data, and the reason."""
    drawn_by = "" if model is None else labels.text(model)
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
    """As `decode_image` does; raises OSError for pixels of more than 8 bits as well."""
    picture = decode_image(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as head:
        if head.mode.startswith(("I", "F")):
            raise OSError("pixels of more than 8 bits, which would be cut off")
    return picture
