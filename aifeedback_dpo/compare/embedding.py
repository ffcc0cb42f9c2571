"""Pictures as rows of numbers, for the guards: by a CLIP of the recipe, or by Inception. A picture is embedded once, ever.

    cache/embeddings/<stamp>/part-*.npz     ids and rows (float32) of what one network, with one preprocessing, has seen
    cache/embeddings/<made_of>.json         the stamp that these weights and versions gave

So whether everything is there is known without loading a network, and without torch.
"""

import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo import engine, scorers
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.compare import truth
from aifeedback_dpo.errors import DataError, ModelMissing
from aifeedback_dpo.records import content_id, packed_ids
from aifeedback_dpo.scorers import presence
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run

Rows = NDArray[np.float32]
Embed = Callable[[Sequence[Image.Image]], Rows]

PLAIN = ("clip", "clip-h", "aesthetic")  # with a CLIP as it was published
TUNED = ("pickscore", "hpsv2.1", "hpsv2", "hpsv2.1-legacy", "hpsv2-legacy")  # with one that has learned preferences


@dataclass(frozen=True)
class Loaded:
    """A network at work. The stamp is a hash of all that decides a row: weights, preprocessing, dtype."""

    stamp: str
    embed: Embed


@dataclass(frozen=True)
class Space:
    """Where pictures become rows. `made_of` is a hash of what the stamp follows from, None where that is not known yet.

    `caution` says why distances in it are not what they seem.
    """

    about: str
    made_of: Callable[[], str | None]
    load: Callable[[], Loaded]
    caution: str | None = None


@dataclass(frozen=True)
class Shelf:
    """Where encoded pictures come from, by id, and what to say of one that cannot be read."""

    fetch: Callable[[Collection[str]], Iterable[tuple[str, bytes]]]
    broken: Callable[[str], DataError]


class Eye(Protocol):
    """What sees pictures."""

    @property
    def about(self) -> str: ...

    @property
    def caution(self) -> str | None: ...

    @property
    def stamp(self) -> str: ...

    def rows(self, wanted: Collection[str], shelf: Shelf) -> dict[str, Rows]: ...


@dataclass(frozen=True)
class Blind:
    """Sees nothing: raises ModelMissing with what to do about it."""

    why: str
    about: str
    caution: str | None = None

    @property
    def stamp(self) -> str:
        raise ModelMissing(self.why)

    def rows(self, wanted: Collection[str], shelf: Shelf) -> dict[str, Rows]:
        raise ModelMissing(self.why)


@dataclass
class Embedder:
    """A space in a run, its network loaded once it is needed."""

    run: Run
    space: Space
    progress: engine.Progress
    _loaded: Loaded | None = None

    @property
    def about(self) -> str:
        return self.space.about

    @property
    def caution(self) -> str | None:
        return self.space.caution

    @property
    def loaded(self) -> Loaded:
        """Raises ModelMissing where the weights cannot be had."""
        if self._loaded is None:
            self._loaded = self.space.load()
            if made_of := self.space.made_of():  # after loading, which may have fetched the weights
                text = json.dumps({"stamp": self._loaded.stamp}) + "\n"
                self.run.write_text(self._folder / f"{made_of}.json", text)
        return self._loaded

    @property
    def stamp(self) -> str:
        """Of the network, which is loaded only where these weights have not been met before."""
        path = self._folder / f"{self.space.made_of()}.json"
        try:
            return str(json.loads(path.read_text())["stamp"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.loaded.stamp

    def rows(self, wanted: Collection[str], shelf: Shelf) -> dict[str, Rows]:
        """A row (width,) of each picture by id. Raises DataError for a picture that cannot be read, ModelMissing."""
        folder = self._folder / self.stamp
        known = dict(_read(folder, set(wanted)))
        left = sorted(set(wanted) - known.keys())
        if left:
            embed = self.loaded.embed
            with self.progress.task(f"Embedding with {self.space.about}", len(set(wanted)), len(known)) as bar:
                every = np.ones(len(left), np.bool_)
                for part in engine.left(packed_ids(left), every, self.run.recipe.label.images_per_part):
                    found = self._embed(part.of(left), shelf, embed)
                    ids, rows = packed_ids(list(found)), np.stack(list(found.values()))
                    self.run.write(
                        folder / f"part-{part.name}.npz",
                        lambda file, ids=ids, rows=rows: np.savez(file, ids=ids, rows=rows),  # type: ignore[misc]
                    )
                    known |= found
                    bar.advance(len(found))
        return known

    @property
    def _folder(self) -> Path:
        return self.run.cache / "embeddings"

    def _embed(self, ids: Sequence[str], shelf: Shelf, embed: Embed) -> dict[str, Rows]:
        encoded = dict(shelf.fetch(set(ids)))
        found: dict[str, Rows] = {}
        size = self.run.recipe.label.batch_size
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            found |= dict(zip(some, embed([_opened(one, encoded, shelf) for one in some]), strict=True))
        return found


def shelf(run: Run, real: Mapping[str, Path]) -> Shelf:
    """The pictures of a run, and real ones on disk by the ids of `file_id`."""
    album = cache(run.album)

    def fetch(ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
        yield from ((one, real[one].read_bytes()) for one in ids if one in real)
        if drawn := [one for one in ids if one not in real]:
            yield from album().images(drawn)

    def broken(one: str) -> DataError:
        if one not in real:
            return truth.broken(one)
        return DataError(f"{real[one]} cannot be read as a picture; mend it, or take it out of its folder")

    return Shelf(fetch, broken)


def file_id(path: Path) -> str:
    """By name, size and time of change, so that a folder of real pictures need not be read to know that it is the same."""
    about = path.stat()
    return content_id("file", str(path.resolve()), about.st_size, about.st_mtime_ns)


def clip(run: Run) -> Space | None:
    """The first CLIP that a scorer of the recipe stands on; None where none does.

    In this order: `clip`, `clip-h`, the CLIP under `aesthetic`, then those fine-tuned on preferences (PickScore, HPS), and
    within one kind as the recipe lists them.
    """
    for kind in (*PLAIN, *TUNED):
        for name, weights in run.recipe.label.scorers.items():
            if (weights.uses or name) == kind:
                about = f"the image tower of {name} ({(weights.base or weights).id})"
                caution = f"{name} was fine-tuned on preferences, and so is what it sees" if kind in TUNED else None
                return Space(about, partial(presence.made_of, name, weights), partial(_load, name, weights), caution)
    return None


def _load(name: str, weights: ScorerWeights) -> Loaded:
    from aifeedback_dpo.scorers.towers import Towers

    presence.demand({name: weights})
    towers = scorers.load(name, weights).towers  # type: ignore[attr-defined]
    assert isinstance(towers, Towers)
    return Loaded(towers.stamp, lambda images: np.asarray(towers.embed_images(images), dtype=np.float32))


def _opened(image_id: str, encoded: Mapping[str, bytes], shelf: Shelf) -> Image.Image:
    try:
        return decode_image(encoded[image_id])
    except (OSError, KeyError) as error:
        raise shelf.broken(image_id) from error


def _read(folder: Path, wanted: set[str]) -> Iterator[tuple[str, Rows]]:
    """What is kept of these pictures; the rows of a part without any of them are not read."""
    for path in sorted(folder.glob("part-*.npz")):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
                ids = [one.decode() for one in part["ids"]]
                if not wanted.isdisjoint(ids):
                    yield from ((one, row) for one, row in zip(ids, part["rows"], strict=True) if one in wanted)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is corrupted ({error}); delete it and run `ddpo compare` again") from error
