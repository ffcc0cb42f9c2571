"""What of a picture's pixels a judge may be going by: brightness, sharpness, saturation, each a number in [0, 1] or so.

    brightness   mean luma (Rec. 601)
    sharpness    mean absolute difference of neighbouring luma values
    saturation   mean of (max - min) / max of RGB, as in HSV

A judge may rightly prefer brighter pictures; what such a share tells is how far a rule without any taste would agree with it.
"""

import numpy as np
from PIL import Image

FEATURES = {
    "brightness": "the brighter picture (mean luma)",
    "sharpness": "the sharper picture (mean difference of neighbouring luma values)",
    "saturation": "the more saturated picture (mean saturation of HSV)",
}
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def features(picture: Image.Image) -> dict[str, float]:
    """All of them, of one picture."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    luma = pixels @ LUMA
    steps = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
    highest = pixels.max(axis=2)
    saturation = np.divide(highest - pixels.min(axis=2), highest, out=np.zeros_like(highest), where=highest > 0)
    return {
        "brightness": float(luma.mean()),
        "sharpness": float(np.mean(steps)) if steps else 0.0,
        "saturation": float(saturation.mean()),
    }
