"""The pairs of a run as columns: what is judged, and of which pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.lookup import Lookup, distinct, find
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.store import Run

Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class Pairs(Sequence[Row]):
    """Packed ids, one row a pair; as a sequence, rows of the table `pairs`, each made when it is asked for."""

    ids: NDArray[np.bytes_]
    a: NDArray[np.bytes_]
    b: NDArray[np.bytes_]
    prompts: NDArray[np.bytes_]

    @classmethod
    def read(cls, run: Run) -> "Pairs":
        """Those of a run, in stored order."""
        names = ("pair_id", "image_a", "image_b", "prompt_id")
        rows = run.read("pairs", names)
        return cls(*(packed_ids(rows[name]) for name in names))

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again."""
        return {name: getattr(self, name) for name in ("ids", "a", "b", "prompts")}

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...

    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        columns = {"pair_id": self.ids, "image_a": self.a, "image_b": self.b, "prompt_id": self.prompts}
        return {name: column[at].decode() for name, column in columns.items()}

    @cached_property
    def images(self) -> NDArray[np.bytes_]:
        """Each picture of any pair, once and in the order in which they come up."""
        return distinct(self._sides)

    def captions(self, run: Run) -> Lookup[str]:
        """Image id -> prompt, in the order of `images`."""
        told = run.read("prompts", ["prompt_id", "prompt"])
        of_pair = find(packed_ids(told["prompt_id"]), self.prompts)
        assert (of_pair >= 0).all(), "a pair's prompt is in the run"
        texts = told["prompt"].take(of_pair[find(self._sides, self.images) // 2])
        return Lookup(self.images, texts.combine_chunks())

    @cached_property
    def _sides(self) -> NDArray[np.bytes_]:
        return np.stack([self.a, self.b], axis=1).ravel()
