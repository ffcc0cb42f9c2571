"""The pictures of a study as pixels and nothing else: re-encoded without loss, so that no metadata comes along."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aifeedback_dpo import seeds
from aifeedback_dpo.annotate.journal import Showing, Side
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.store import Run, decode_image, encode_image

KEPT_BYTES = 256 * 2**20
SPOILED_SIDE = 12  # pixels that the longer side of a spoiled picture is shrunk to
SPOILED_NOISE = 48.0  # standard deviation, of 255


@dataclass(frozen=True)
class Pair:
    """What the page needs to know of a pair, and nothing of where its pictures come from."""

    prompt: str
    a: str
    b: str
    width: int
    height: int

    def image(self, side: Side) -> str:
        """The id of one of the two."""
        return self.a if side == "a" else self.b


class Pictures:
    """The run's pictures, those of late in memory. Safe to call from many threads."""

    def __init__(self, run: Run, pairs: dict[str, Pair], kept_bytes: int = KEPT_BYTES) -> None:
        self.pairs = pairs
        self._album = run.album()
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, bool], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, showing: Showing, left: bool) -> bytes:
        """The picture on one side of a showing, as lossless WebP. Raises DataError when it cannot be read."""
        side: Side = showing.left_is if left else ("b" if showing.left_is == "a" else "a")
        if showing.kind == "attention":
            return self._get(attention_image(self.pairs[showing.pair_id], showing), spoiled=side == "b")
        return self._get(self.pairs[showing.pair_id].image(side))

    def _get(self, image_id: str, spoiled: bool = False) -> bytes:
        key = (image_id, spoiled)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = self._draw(image_id, spoiled)  # twice at once is rare and does no harm
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._kept_bytes:
                self._kept.popitem(last=False)
        return found

    def _draw(self, image_id: str, spoiled: bool) -> bytes:
        try:
            image = decode_image(dict(self._album.images([image_id]))[image_id])
        except (OSError, KeyError) as error:
            raise DataError(f"image {image_id} cannot be read ({error}); run `ddpo generate` again") from error
        return encode_image(spoil(image, image_id) if spoiled else image)


def of_run(run: Run) -> dict[str, Pair]:
    """All pairs by id. Raises UserError for a run without pairs, DataError where a picture or prompt is missing."""
    rows = run.rows("pairs", ["pair_id", "prompt_id", "image_a", "image_b"])
    if not rows:
        raise UserError(f"{run.root} has no pairs to vote on; run `ddpo generate` or `ddpo import` first")
    run.need({image for row in rows for image in (row["image_a"], row["image_b"])})
    prompts = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts", ["prompt_id", "prompt"])}
    sizes = {row["image_id"]: row for row in run.rows("images", ["image_id", "width", "height"])}
    if lost := [row["prompt_id"] for row in rows if row["prompt_id"] not in prompts]:
        raise DataError(f"{len(lost)} prompts of the pairs are not in the run (first: {lost[0]}); restore its prompts")
    pairs = {}
    for row in rows:
        both = [sizes[row["image_a"]], sizes[row["image_b"]]]
        width, height = (max(size[way] or 0 for size in both) for way in ("width", "height"))
        pairs[row["pair_id"]] = Pair(prompts[row["prompt_id"]], row["image_a"], row["image_b"], width, height)
    return pairs


def attention_image(pair: Pair, showing: Showing) -> str:
    """The picture that an attention pair shows whole and spoiled: `a` or `b` of a pair that the person has seen."""
    return pair.image(
        "a" if seeds.uniform("attention", showing.pair_id, showing.annotator, showing.place) < 0.5 else "b"
    )


def spoil(image: Image.Image, image_id: str) -> Image.Image:
    """Shrunk to a dozen pixels, blown up again and covered with noise: nobody who looks prefers it."""
    scale = SPOILED_SIDE / max(image.size)
    small: Sequence[int] = [max(1, round(side * scale)) for side in image.size]
    blurred = image.resize((small[0], small[1])).resize(image.size, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(int(hashlib.sha256(image_id.encode()).hexdigest()[:8], 16)).normal(
        0, SPOILED_NOISE, (image.height, image.width, 3)
    )
    return Image.fromarray((np.asarray(blurred, np.float64) + noise).clip(0, 255).astype(np.uint8))
