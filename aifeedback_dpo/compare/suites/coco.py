"""MS-COCO's captions: one of each picture, in an order that is drawn once and for all, and the folder of the pictures."""

import json
from pathlib import Path
from typing import Any

from aifeedback_dpo.compare.suites.known import COCO_CAPTIONS
from aifeedback_dpo.compare.suites.tables import Row
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.seeds import derive

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def captions(path: Path) -> list[Row]:
    """The first caption (lowest annotation id) of each of up to 30,000 pictures, with `image`, its file name.

    The pictures are in the order of a hash of their ids, so a shorter list is the start of a longer one. Raises DataError for
    a file that is not COCO's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files = {image["id"]: str(image["file_name"]) for image in found["images"]}
        first: dict[Any, Any] = {}
        for told in sorted(found["annotations"], key=lambda told: told["id"]):
            first.setdefault(told["image_id"], told["caption"])
        chosen = sorted(first, key=lambda image: derive("coco", str(image)))[:COCO_CAPTIONS]
        return [{"prompt": first[image], "image": files[image]} for image in chosen]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:120]
        raise DataError(f"{path} is no captions file of COCO (`images` and `annotations`): {reason}") from error


def pictures(captions_file: Path) -> Path | None:
    """The folder of the pictures, beside the captions or beside their folder: `val2014`, `images`, or that folder itself."""
    year = captions_file.stem.removeprefix("captions_")
    for root in (captions_file.parent, captions_file.parent.parent):
        for folder in (root / year, root / "images" / year, root / "images", root):
            if folder.is_dir() and any(file.suffix.lower() in PICTURES for file in folder.iterdir()):
                return folder
    return None
