"""Pictures of a report: each once, as it is in the run, and small ones that keep the report's folder light.

    RUN/pictures/ID.webp          the run's own bytes (.png and .jpg where an imported set had those)
    REPORT/thumbnails/ID.webp     at most 256 pixels a side, never enlarged; all together within 6 MB

How small and how coarse a thumbnail gets depends on how many there are: each may take an equal share of the budget, and the
first rung of a ladder that fits its share is taken.
"""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from aifeedback_dpo import engine
from aifeedback_dpo.codec import EXIF, decode_image
from aifeedback_dpo.store import Run

BUDGET = 6_000_000
"""Bytes of all thumbnails of a report: with plotly and the page of 500 prompts that is less than 15 MB."""
SMALL = 128
"""A picture of at most so many pixels a side is shown enlarged, pixel by pixel."""
LADDER = ((256, 80), (256, 60), (256, 40), (192, 50), (160, 45), (128, 45), (128, 30), (96, 30), (80, 20), (64, 10))
"""Pixels of the longer side, and WebP's quality."""
SUFFIXES = {"WEBP": "webp", "PNG": "png", "JPEG": "jpg", "MPO": "jpg"}  # MPO: a JPEG with more pictures behind it


@dataclass(frozen=True)
class Shown:
    """A picture on the page: links from the report's folder, and the size in pixels of the picture that `full` leads to."""

    thumb: str
    full: str
    width: int
    height: int
    small: bool


def write(run: Run, result: Mapping[str, Any], folder: Path, progress: engine.Progress) -> dict[str, Shown]:
    """Image id -> what the page needs to show it. What is there already is not written again.

    A picture that is not in the run, or cannot be opened, is left out, with a note. Thumbnails of an earlier report that this
    one does not show are deleted.
    """
    ids = wanted(result)
    shown: dict[str, Shown] = {}
    share = BUDGET // max(len(ids), 1)
    with progress.task("pictures", len(ids)) as bar:
        for image_id, data in run.images(ids):
            try:
                shown[image_id] = _write(run, image_id, data, folder, share)
            except (OSError, Image.DecompressionBombError) as error:
                progress.note(f"picture {image_id} cannot be opened ({error}); the report is without it")
            bar.advance(1)
    if lost := [image_id for image_id in ids if image_id not in shown]:
        progress.note(f"{len(lost)} pictures of the report are not there to be shown (first: {lost[0]})")
    for path in (folder / "thumbnails").glob("*.webp"):
        if re.fullmatch(r"[0-9a-f]{32}", path.stem) and path.stem not in shown:
            path.unlink(missing_ok=True)
    return shown


def wanted(result: Mapping[str, Any]) -> list[str]:
    """The ids of all pictures that a report shows, each once: the gallery's, then those in dispute."""
    rows = [row for found in result["sets"] for row in found["gallery"]]
    ids = [cell["image"] for row in rows for cell in row["images"]]
    disputed = (result["judges"] or {}).get("disputed", [])
    return list(dict.fromkeys([*ids, *(row[side] for row in disputed for side in ("image_a", "image_b"))]))


def thumbnail(picture: Image.Image, share: int) -> bytes:
    """A WebP of at most `share` bytes; of the last rung's size and quality where even that takes more.

    A picture that is shown pixel by pixel stays without loss where it fits.
    """
    exact = _webp(picture, lossless=True) if max(picture.size) <= SMALL else b""
    if exact and len(exact) <= share:
        return exact
    data, smaller = b"", picture.copy()
    for side, quality in LADDER:
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        data = _webp(smaller, quality=quality)
        if len(data) <= share:
            break
    return data


def _write(run: Run, image_id: str, data: bytes, folder: Path, share: int) -> Shown:
    """Raises OSError for bytes that are no picture, and for an id that could lead out of the folder."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", image_id):
        raise OSError("its id is no name for a file")
    with Image.open(io.BytesIO(data)) as header:
        kind, size = header.format or "", header.size
    full = run.root / "pictures" / f"{image_id}.{SUFFIXES.get(kind, kind.lower())}"
    thumb = folder / "thumbnails" / f"{image_id}.webp"
    there = thumb.exists() and thumb.stat().st_size <= share
    if not there or kind in EXIF:  # a camera's picture may lie on its side
        upright = decode_image(data)
        size = upright.size
        if not there:
            small = thumbnail(upright, share)
            run.write(thumb, lambda file: file.write(small))
    if not full.exists():
        run.write(full, lambda file: file.write(data))
    link = Path(os.path.relpath(full.resolve(), folder.resolve())).as_posix()
    return Shown(f"thumbnails/{image_id}.webp", quote(link), *size, small=max(size) <= SMALL)


def _webp(picture: Image.Image, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", method=4, **settings)
    return buffer.getvalue()
