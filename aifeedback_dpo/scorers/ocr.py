"""Written text: whether what the prompt puts in quotes can be read in the picture.

The reward of Flow-GRPO (Liu et al. 2025, arXiv:2505.05470, repository yifan123/flow_grpo), with PP-OCR's models as they come
in the package RapidOCR, so that nothing is downloaded. It differs where that one errs: all quoted texts count and not
the first alone, a prompt without any has no score, and a reader that fails is an error and not a zero.
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.scorers.preference import Preference
from aifeedback_dpo.scorers.presence import takes_no_weights
from aifeedback_dpo.settings import ScorerWeights

VERSION = 1  # of this file's arithmetic, in every recipe
CONFIDENCE = 0.8  # what is read into pictures without any text lies below
QUOTED = re.compile(r'(?<!\d)"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»')  # 12" is a length


class Ocr:
    """How much of the quoted text can be read, in [0, 1], the mean over the quoted texts; NaN where nothing is quoted."""

    preference = Preference(None, "it is an edit distance")

    def __init__(self, weights: ScorerWeights) -> None:
        takes_no_weights("ocr", weights)
        self.reader = _reader()
        packages = {name: version(name) for name in ("rapidocr", "onnxruntime")}
        self.recipe = content_id("ocr", VERSION, packages, CONFIDENCE)
        self.truncated: set[str] = set()

    def score(self, images: Sequence[Image.Image | NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.float32]:
        scores = [self._score(*pair) for pair in zip(Pictures.of(images), prompts, strict=True)]
        return np.array(scores, dtype=np.float32)

    def _score(self, picture: Image.Image, prompt: str) -> float:
        wanted = quoted(prompt)
        if not wanted:
            return float("nan")
        read = self._read(picture)
        return sum(legibility(text, read) for text in wanted) / len(wanted)

    def _read(self, picture: Image.Image) -> list[str]:
        """The texts that are there for sure, in reading order."""
        found = self.reader(picture)
        pairs = zip(found.txts or (), found.scores or (), strict=True)
        return [_letters(text) for text, confidence in pairs if confidence >= CONFIDENCE]


def quoted(prompt: str) -> list[str]:
    """What stands in quotes, straight or typographic, in lower case and without white space; nothing empty."""
    texts = ("".join(match.groups(default="")) for match in QUOTED.finditer(prompt))
    return [letters for letters in map(_letters, texts) if letters]


def legibility(wanted: str, read: Sequence[str]) -> float:
    """1 if `wanted` stands in what was read, else 1 - edits / its length for the nearest read or all of them, at least 0."""
    from rapidfuzz.distance import Levenshtein

    joined = "".join(read)
    if wanted in joined:
        return 1.0
    edits = min(Levenshtein.distance(wanted, text) for text in (*read, joined))
    return max(0.0, 1 - edits / len(wanted))


def _letters(text: str) -> str:
    return "".join(text.lower().split())


def _reader() -> Callable[[Image.Image], Any]:
    try:
        for package in ("onnxruntime", "rapidfuzz"):  # rapidocr asks for the first only when it reads
            import_module(package)
        from rapidocr import RapidOCR
    except ModuleNotFoundError as error:
        raise UserError(f'the scorer ocr needs {error.name}; run `pip install "aifeedback_dpo[ocr]"`') from error
    reader: Callable[[Image.Image], Any] = RapidOCR(params={"Global.log_level": "critical"})
    return reader
