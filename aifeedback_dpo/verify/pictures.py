"""Whether pictures are what their rows say: bytes that open, of that size, with those pixels."""

import hashlib
from concurrent.futures import Executor
from functools import partial
from typing import Any

import pyarrow as pa

from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.records import IMPORTED


def wrong(part: pa.Table, pool: Executor | None) -> dict[str, list[str]]:
    """What is wrong -> ids, of the pictures of a part; without a pool none is opened."""
    found: dict[str, list[str]] = {}
    rows = part.select(["image_id", "image", "pixel_sha256", "policy", "width", "height"]).to_pylist()
    look = partial(_wrong, opened=pool is not None)
    for row, what in zip(rows, map(look, rows) if pool is None else pool.map(look, rows), strict=True):
        if what:
            found.setdefault(what, []).append(str(row["image_id"]))
    return found


def _wrong(row: dict[str, Any], *, opened: bool) -> str:
    data = (row["image"] or {}).get("bytes")
    if not data:
        return "pictures without bytes"
    if row["policy"] == IMPORTED and hashlib.sha256(data).hexdigest()[:32] != row["image_id"]:
        return "imported pictures whose id is not that of their bytes"
    if not opened:
        return ""
    try:
        picture = decode_image(data)
    except OSError:
        return "pictures that do not open"
    if picture.size != (row["width"], row["height"]):
        return "pictures of another size than their row says"
    if hashlib.sha256(picture.tobytes()).hexdigest() != row["pixel_sha256"]:
        return "pictures with other pixels than their row says"
    return ""
