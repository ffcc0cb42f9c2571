"""Pictures as bytes: how a run keeps them, and what of others' it opens."""

import io
from typing import Any

from PIL import Image, ImageOps

EXIF = ("JPEG", "TIFF", "MPO")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # and no EPS, for which Pillow calls Ghostscript
LARGEST = 64 * 2**20  # pixels of a picture once unpacked
LONGEST = 512  # times the shorter side: a strip is enormous once its shorter side is as large as a scorer takes it
ENCODINGS: dict[str, dict[str, Any]] = {
    "webp": {"format": "WEBP", "lossless": True, "method": 0},
    "png": {"format": "PNG", "compress_level": 1},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def encode_image(image: Image.Image, kind: str = "webp") -> bytes:
    """As lossless WebP, as PNG, or as JPEG of quality 95 with all its colours."""
    buffer = io.BytesIO()
    image.save(buffer, **ENCODINGS[kind])
    return buffer.getvalue()


def decode_image(data: bytes) -> Image.Image:
    """As RGB, the right way up where EXIF says so, of FORMATS alone.

    Raises OSError, and nothing else, for bytes that are no picture, are damaged, or would be enormous once unpacked or resized.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST or max(picture.size) > LONGEST * min(picture.size):
                raise OSError(f"{picture.width} x {picture.height} pixels, more than a picture should have, or a strip")
            upright = ImageOps.exif_transpose(picture) if picture.format in EXIF else picture
            return upright.convert("RGB")
    except OSError:
        raise
    except Exception as error:  # Pillow on damaged files raises whatever its plugins do, and on bombs no OSError
        raise OSError(str(error) or type(error).__name__) from error
