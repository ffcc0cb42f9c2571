"""The ending of a picture's file, from its content."""

import io

from PIL import Image

from aifeedback_dpo.errors import DataError
from aifeedback_dpo.export.pair import Picture

ENDINGS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}


def ending(picture: Picture) -> str:
    """Such as `.webp`. Raises DataError for what is no picture."""
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            return ENDINGS[str(image.format)]
    except (OSError, KeyError) as error:
        raise DataError(
            f"image {picture.id} is not one of {', '.join(ENDINGS)}; export pickapic or chosen-rejected, which take any bytes"
        ) from error
