"""What a picture's file is called: its id, and an ending from its content."""

import io
import re

from PIL import Image

from aifeedback_dpo.errors import DataError
from aifeedback_dpo.export.pair import Picture

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}


def stem(name: str) -> str:
    """An id as the name of a file. Raises DataError for one that could lead out of the folder."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
        raise DataError(
            f"the id {name[:60]!r} is no name for a file; ids are hex digits, so this run was not made by ddpo"
        )
    return name


def ending(picture: Picture) -> str:
    """Such as `.webp`. Raises DataError for what is no picture."""
    try:
        with Image.open(io.BytesIO(picture.data), formats=list(ENDINGS)) as image:
            return ENDINGS[str(image.format)]
    except (OSError, KeyError, Image.DecompressionBombError) as error:
        raise DataError(
            f"image {picture.id} is not one of {', '.join(ENDINGS)}; export pickapic or chosen-rejected, which take any bytes"
        ) from error
