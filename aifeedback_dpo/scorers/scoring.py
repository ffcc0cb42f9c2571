"""Committed pictures in, committed scores out: what `label` and `compare` both do. A score is computed once, ever.

One pass: a picture is decoded once for all scorers, and what they share (resized pixels, a tower) is computed once. While the
towers look at a batch, the next one is decoded and resized, the next part is read, and the one before is written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo import engine, overlap, scorers
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.lookup import Lookup, absent
from aifeedback_dpo.overlap import Behind, Fitting
from aifeedback_dpo.parts import Album
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.scorers import Scorer, kept
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.scorers.pixels import Pictures, PixelRecipe

clock = perf_counter
ADDRESS = re.compile(r" <\S+ object at 0x\w+>")  # of a buffer in memory, which tells nobody anything


@dataclass(frozen=True)
class Unreadable:
    """A picture that would not open, by id, and why."""

    image_id: str
    reason: str


def reason(error: OSError) -> str:
    """Why a picture would not open, short."""
    return ADDRESS.sub("", (str(error).splitlines() or [type(error).__name__])[0])[:80]


@dataclass(frozen=True)
class Scoring:
    """Has scorers, by name, look at pictures (image id -> prompt). Those that are loaded are used, or else they are loaded.

    Each commits parts of its own. With `counted`, what each took is added to its entry in the manifest: seconds of its own
    `score`, in which the first of those that share a tower pays for it. Opening pictures goes on beside that.
    """

    run: Run
    weights: Mapping[str, ScorerWeights]
    recipes: Mapping[str, str]
    prompts: Mapping[str, str]
    counted: bool = False
    command: str = "label"
    loaded: Mapping[str, Scorer] | None = field(default=None, repr=False)

    def elsewhere(self, run: Run) -> Self:
        return replace(self, run=run, loaded=None)

    @property
    def title(self) -> str:
        return f"Scoring with {', '.join(self.recipes)}"

    @property
    def ids(self) -> NDArray[np.bytes_]:
        """Of the pictures, in order."""
        return packed_ids(self.prompts.ids if isinstance(self.prompts, Lookup) else list(self.prompts))

    def part(self, name: str, part: engine.Slice) -> str:
        """What a scorer's part of a slice is called."""
        return f"{self.recipes[name][:8]}-{part.name}"

    def committed(self, part: engine.Slice) -> bool:
        return all(self.run.has("scores", self.part(name, part), name) for name in part.asked)

    @contextmanager
    def begin(self, progress: engine.Progress) -> Iterator["_Panel"]:
        loaded = self.loaded or {}
        for name, weights in self.weights.items() if self.loaded is None else ():
            progress.note(f"Loading {name}")
            loaded = {**loaded, name: scorers.load(name, weights)}
            if loaded[name].recipe != self.recipes[name]:
                raise UserError(
                    f"scorer {name} is another one on this machine: its weights, or the versions here, differ"
                )
        with ExitStack() as open_now:
            reader = open_now.enter_context(ThreadPoolExecutor(1, "read"))
            behind = open_now.enter_context(Behind())
            yield _Panel(self, loaded, reader, behind, progress)

    def write(self, name: str, part: engine.Slice, rows: pa.Table, seconds: float) -> None:
        """Commits a scorer's scores of a slice, and what they took."""
        self.run.commit("scores", rows, self.part(name, part), name)
        if self.counted:
            self.run.add(f"label/{name}", seconds=seconds, pictures=len(rows))


class _Panel:
    """Looks at slices; batches are as large as fit."""

    def __init__(
        self,
        job: Scoring,
        loaded: Mapping[str, Scorer],
        reader: ThreadPoolExecutor,
        behind: Behind,
        progress: engine.Progress,
    ) -> None:
        self.job, self.loaded, self.reader, self.behind = job, loaded, reader, behind
        self.ids = job.ids
        self.album: Album = job.run.album()
        self.read: dict[str, Future[dict[str, bytes]]] = {}
        size, say = job.run.recipe.label.batch_size, "out of memory: {} goes on with batches of {} pictures"
        self.fitting = {
            name: Fitting(size, lambda fits, name=name: progress.note(say.format(name, fits)))  # type: ignore[misc]
            for name in loaded
        }
        self.recipes: set[PixelRecipe] = set()

    def __call__(self, part: engine.Slice, following: engine.Slice | None) -> list[Unreadable]:
        encoded = self._reading(part).result()
        self.read.clear()  # what was read ahead and somebody else has done since is not kept
        if following:
            self._reading(following)
        names, size = self._names(part), self.job.run.recipe.label.batch_size
        batches = [names[at : at + size] for at in range(0, len(names), size)]
        found: dict[str, dict[str, float]] = {name: {} for name in part.asked}
        seconds, unreadable = dict.fromkeys(part.asked, 0.0), list[Unreadable]()
        for pictures, seen, lost in overlap.ahead(partial(self._open, some, encoded) for some in batches):
            unreadable += lost
            if not seen:
                continue
            texts = [self.job.prompts[image_id] for image_id in seen]
            for name in part.asked:
                began = clock()
                numbers = self._ask(name, pictures, texts)
                seconds[name] += clock() - began
                found[name] |= dict(zip(seen, map(float, numbers), strict=True))
            self.recipes |= pictures.carried_out
        for name in part.asked:
            if found[name]:
                rows = self._rows(name, found[name])
                self.behind.call(partial(self.job.write, name, part, rows, seconds[name]))
        return unreadable

    def settle(self) -> None:
        self.behind.settle()

    def _names(self, part: engine.Slice) -> list[str]:
        return [name.decode() for name in self.ids[part.at]]

    def _reading(self, part: engine.Slice) -> "Future[dict[str, bytes]]":
        """The encoded pictures of a slice, under way."""
        if part.name not in self.read:
            self.read[part.name] = self.reader.submit(lambda: dict(self.album.images(self._names(part))))
        return self.read[part.name]

    def _open(
        self, image_ids: Sequence[str], encoded: Mapping[str, bytes]
    ) -> "tuple[Pictures, list[str], list[Unreadable]]":
        """The pictures that open, resized as the scorers want them; their ids; and those that do not open."""
        from aifeedback_dpo.scorers.pixels import Pictures

        lost, images = list[Unreadable](), dict[str, Image.Image]()
        for image_id in image_ids:
            try:
                images[image_id] = decode_image(encoded[image_id])
            except OSError as error:
                lost.append(Unreadable(image_id, reason(error)))
        pictures = Pictures.of(list(images.values()))
        for recipe in list(self.recipes) if images else ():
            pictures.tensor(recipe)
        return pictures, list(images), lost

    def _ask(self, name: str, pictures: "Pictures", texts: Sequence[str]) -> NDArray[np.float32]:
        """A scorer's numbers for a batch, in pieces where it does not fit into memory."""
        fitting, found, at = self.fitting[name], list[NDArray[np.float32]](), 0
        while at < len(pictures):
            end = at + fitting.size
            some = pictures if at == 0 and end >= len(pictures) else pictures.part(at, end)
            numbers = fitting(partial(self._numbers, name, some, texts[at:end]), len(some))
            if numbers is not None:
                found.append(numbers)
                at += len(some)
        return np.concatenate(found)

    def _numbers(self, name: str, pictures: "Pictures", texts: Sequence[str]) -> NDArray[np.float32]:
        return checked(name, self.loaded[name].score(pictures, texts), len(pictures))

    def _rows(self, name: str, found: Mapping[str, float]) -> pa.Table:
        scorer = self.loaded[name]
        values = np.array(list(found.values()), np.float32)
        columns = {
            "image_id": pa.array(list(found), pa.string()),
            "scorer": pa.array([name] * len(found), pa.string()),
            "recipe": pa.array([scorer.recipe] * len(found), pa.string()),
            "score": pa.array(values, pa.float32(), mask=np.isnan(values)),
            "truncated": pa.array([self.job.prompts[image_id] in scorer.truncated for image_id in found], pa.bool_()),
        }
        return pa.table(columns)


def asked(job: Scoring, share: tuple[int, int] = (0, 1)) -> "engine.Asked[Unreadable]":
    """The job with what is left of it: pictures that these scorers, with these very weights, have not scored yet."""
    ids = job.ids
    size, found, done = job.run.recipe.label.images_per_part, dict[str, engine.Slice](), 0
    for name, recipe in job.recipes.items():
        missing = absent(ids, kept.scored(job.run, name, recipe))
        done += int((~missing).sum())
        # scorers that lack the same pictures look at them together, which after a kill may not be all of them
        for part in engine.left(ids, missing, size, share):
            found[part.name] = replace(part, asked=(*found.get(part.name, part).asked, name))
    parts = sorted(found.values(), key=lambda part: part.at[0])
    return engine.Asked(job, parts, len(ids) * len(job.recipes), done)


def score(
    run: Run, loaded: Mapping[str, Scorer], prompts: Mapping[str, str], progress: engine.Progress
) -> list[Unreadable]:
    """Scores, here and now, the pictures (image id -> prompt) that are not scored yet; gives those that cannot be read."""
    recipes = {name: scorer.recipe for name, scorer in loaded.items()}
    job = Scoring(run, {}, recipes, prompts, command="compare", loaded=loaded)
    unreadable = engine.run(asked(job), progress, engine.Here())
    warn(job, progress)
    return unreadable


def checked(name: str, numbers: object, count: int) -> NDArray[np.float32]:
    """What a scorer gave, if it is what it must give. Raises UserError, naming the scorer, for anything else."""
    right = f"must give {count} float32 numbers, NaN where it has none"
    if not isinstance(numbers, np.ndarray) or numbers.dtype != np.float32:
        given = f"an array of {numbers.dtype}" if isinstance(numbers, np.ndarray) else type(numbers).__name__
        raise UserError(f"scorer {name} gave {given} for {count} pictures; it {right}")
    if numbers.shape != (count,):
        raise UserError(f"scorer {name} gave an array of shape {numbers.shape} for {count} pictures; it {right}")
    if np.isinf(numbers).any():
        raise UserError(f"scorer {name} gave an infinite score; it {right}")
    return numbers


def warn(job: Scoring, progress: engine.Progress) -> None:
    """Says which scorers have cut prompts."""
    for name, recipe in job.recipes.items():
        if cut := kept.truncated(job.run, name, recipe, job.prompts):
            texts = len(set(job.prompts.values()))
            progress.note(f"{name}: {cut} of {texts} prompts are longer than it reads and were cut")
