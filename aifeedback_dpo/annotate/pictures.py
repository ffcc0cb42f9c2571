"""The pictures of a study as pixels and nothing else: re-encoded without loss, so that no metadata comes along."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from aifeedback_dpo import seeds
from aifeedback_dpo.annotate.journal import Showing, Side
from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.store import Run

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
        self._stored: OrderedDict[str, bytes] = OrderedDict()  # as in the run; guarded by `_drawing`
        self._lock = threading.Lock()
        self._drawing = threading.Lock()

    def of(self, showing: Showing, left: bool) -> bytes:
        """The picture on one side of a showing, as lossless WebP. Raises DataError when it cannot be read."""
        pair = self.pairs[showing.pair_id]
        if showing.kind == "attention":
            image = attention_image(pair, showing)
            both = {"a": (image, False), "b": (image, True)}
        else:
            both = {"a": (pair.a, False), "b": (pair.b, False)}
        wanted = both["a" if left == (showing.left_is == "a") else "b"]
        found = self._known(wanted)
        if found is None:
            with self._drawing:  # a browser asks for both sides at once, and one reading gives both
                found = self._known(wanted) or self._draw(both)[wanted]
        return found

    def _known(self, key: tuple[str, bool]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _draw(self, both: dict[str, tuple[str, bool]]) -> dict[tuple[str, bool], bytes]:
        """Both pictures of a pair, read and re-encoded, and kept as long as there is room."""
        drawn = {}
        stored = self._read({image_id for image_id, _ in both.values()})
        for image_id, spoiled in both.values():
            try:
                image = decode_image(stored[image_id])
            except (OSError, KeyError) as error:
                raise DataError(f"image {image_id} cannot be read ({error}); run `ddpo generate` again") from error
            drawn[image_id, spoiled] = encode_image(spoil(image, image_id) if spoiled else image)
        with self._lock:
            self._kept.update(drawn)
            _bound(self._kept, self._kept_bytes)
        return drawn

    def _read(self, wanted: set[str]) -> dict[str, bytes]:
        """Stored pictures by id. A part is read whole anyway, so what else it holds is kept as long as there is room."""
        lacking = wanted - self._stored.keys()
        if not lacking:
            return {image_id: self._stored[image_id] for image_id in wanted}
        places = np.searchsorted(self._album.ids, packed_ids(sorted(lacking))).clip(max=len(self._album.ids) - 1)
        beside = np.isin(self._album.parts, self._album.parts[places])
        read = dict(self._album.images([name.decode() for name in self._album.ids[beside]]))
        found = {image_id: data for image_id, data in {**self._stored, **read}.items() if image_id in wanted}
        self._stored.update(read)
        _bound(self._stored, self._kept_bytes)
        return found


def _bound(kept: OrderedDict[Any, bytes], most: int) -> None:
    """Lets go of what was kept first, down to so many bytes."""
    held = sum(map(len, kept.values()))
    while len(kept) > 1 and held > most:
        held -= len(kept.popitem(last=False)[1])


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
