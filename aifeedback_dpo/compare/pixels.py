"""The features of pixels that judges are checked against, of a seeded draw of pairs; each picture is read once, ever."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo import engine, provenance
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.compare import bias
from aifeedback_dpo.compare.truth import broken
from aifeedback_dpo.compare.views import Views

Array = NDArray[np.float64]


def compared(views: Views, seed: int, progress: engine.Progress) -> Iterator[tuple[str, str, Array]]:
    """Each feature by name, what it is, and by how much the first picture of each pair has more; NaN where not drawn.

    Raises DataError for a picture that is not in the run, or cannot be read.
    """
    count = min(views.run.recipe.compare.pixel_pairs, views.pairs.num_rows)
    if not count:
        return
    drawn = np.sort(np.random.default_rng(seed).permutation(views.pairs.num_rows)[:count])
    sides = views.sides()
    wanted = {side[at] for side in sides for at in drawn.tolist()}
    read = _read(views, wanted, progress)
    for feature, about in bias.FEATURES.items():
        more = np.full(views.pairs.num_rows, np.nan)
        more[drawn] = [read[sides[0][at]][feature] - read[sides[1][at]][feature] for at in drawn.tolist()]
        yield feature, about, more


def _read(views: Views, wanted: set[str], progress: engine.Progress) -> dict[str, dict[str, float]]:
    version = provenance.file_hash(Path(bias.__file__))[:12]  # what was read by other code is read again
    path = views.run.cache / "measured" / f"pixels-{version}.json"
    known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    left = sorted(wanted - known.keys())
    if left:
        views.run.need(left)
        with progress.task("Reading pixels", len(left)) as bar:
            for image_id, data in views.run.images(left):
                try:
                    known[image_id] = bias.features(decode_image(data))
                except OSError as error:
                    raise broken(image_id) from error
                bar.advance(1)
        views.run.write_text(path, json.dumps(known))
    return known
