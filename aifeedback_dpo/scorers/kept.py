"""The scores that a run holds, by picture: of one scorer, with one recipe."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.lookup import Lookup, find
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.store import Run


def scored(run: Run, name: str, recipe: str) -> NDArray[np.bytes_]:
    """The ids of the pictures that this scorer, with this recipe, has looked at."""
    rows = run.read("scores", ["image_id", "recipe"], name)
    return packed_ids(rows.filter(pc.equal(rows["recipe"], recipe))["image_id"])


def scores(run: Run, name: str, recipe: str, looks: "Looks | None" = None) -> Lookup[float]:
    """Image id -> score, of this scorer with this recipe; NaN where it has none to give.

    Pictures of one prompt with the very same pixels have one score, the first's: in another batch a network may round its
    last digit otherwise, and a tie would become a win. Who asks for several scorers reads `looks` once.
    """
    rows = run.read("scores", ["image_id", "recipe", "score"], name)
    rows = rows.filter(pc.equal(rows["recipe"], recipe))
    ids, values = packed_ids(rows["image_id"]), np.array(rows["score"].to_numpy(), np.float64)
    looks = looks or Looks.read(run)
    at = find(ids, looks.ids)
    _, first, same = np.unique(looks.numbers[at >= 0], return_index=True, return_inverse=True)
    at = at[at >= 0]
    values[at] = values[at[first[same]]]
    return Lookup(ids, values)


@dataclass(frozen=True, eq=False)
class Looks:
    """The pictures of a run in stored order, and a number for each: the same for those of one prompt with the same pixels."""

    ids: NDArray[np.bytes_]
    numbers: NDArray[np.int64]

    @classmethod
    def read(cls, run: Run) -> "Looks":
        pictures = run.read("images", ["image_id", "prompt_id", "pixel_sha256"])
        prompts, pixels = (_numbered(pictures[name]) for name in ("prompt_id", "pixel_sha256"))
        return cls(packed_ids(pictures["image_id"]), prompts * (len(pixels) + 1) + pixels)


def _numbered(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each of the different values."""
    whole = column.cast(pa.large_string()).combine_chunks()
    return np.asarray(pc.dictionary_encode(whole, null_encoding="encode").indices, np.int64)


def truncated(run: Run, name: str, recipe: str, prompts: Mapping[str, str]) -> int:
    """How many of these prompts (image id -> prompt) were cut when they were scored, in this command or before."""
    rows = run.read("scores", ["image_id", "recipe", "truncated"], name)
    cut = rows.filter(pc.and_(rows["truncated"], pc.equal(rows["recipe"], recipe)))["image_id"].to_pylist()
    return len({prompts[image_id] for image_id in cut if image_id in prompts})
