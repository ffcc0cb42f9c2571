"""Committed pairs in, committed answers of a pairwise judge out. A pair is asked once, ever."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo import engine, scorers
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.overlap import Fitting
from aifeedback_dpo.pairs import Pairs, Row
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.scorers import Answer, PairJudge
from aifeedback_dpo.scorers.scoring import Unreadable, clock, reason
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Asking:
    """Asks a pairwise judge about pairs; `prompts` are by image id. One that is loaded is used, or else it is loaded.

    A pair of which a picture cannot be read is not asked about; the picture is given back. The time that it takes is added to
    its entry in the manifest, each pair as two pictures.
    """

    run: Run
    name: str
    weights: ScorerWeights
    recipe: str
    pairs: Pairs
    prompts: Mapping[str, str]
    command: str = "label"
    loaded: PairJudge | None = field(default=None, repr=False)

    def elsewhere(self, run: Run) -> Self:
        return replace(self, run=run, loaded=None)

    @property
    def title(self) -> str:
        return f"Asking {self.name}"

    def part(self, part: engine.Slice) -> str:
        """What the answers about a slice are called."""
        return f"{self.recipe[:8]}-{part.name}"

    def committed(self, part: engine.Slice) -> bool:
        return self.run.has("answers", self.part(part), self.name)

    @contextmanager
    def begin(self, progress: engine.Progress) -> Iterator["_Interview"]:
        judge = self.loaded
        if judge is None:
            progress.note(f"Loading {self.name}")
            judge = scorers.load_judge(self.name, self.weights)
            if judge.recipe != self.recipe:
                raise UserError(
                    f"judge {self.name} is another one on this machine: its weights, or the versions here, differ"
                )
        yield _Interview(self, judge, progress)


class _Interview:
    """Asks about slices; batches are as large as fit."""

    def __init__(self, job: Asking, judge: PairJudge, progress: engine.Progress) -> None:
        self.job, self.judge, self.album = job, judge, job.run.album()
        self.fitting = Fitting(
            job.run.recipe.label.batch_size,
            lambda size: progress.note(f"out of memory: {job.name} goes on with {size} pairs at a time"),
        )

    def __call__(self, part: engine.Slice, following: engine.Slice | None) -> list[Unreadable]:
        job, pairs, unreadable = self.job, part.of(self.job.pairs), dict[str, Unreadable]()
        encoded = dict(self.album.images({image_id for pair in pairs for image_id in _sides(pair)}))
        rows, began, at = list[dict[str, object]](), clock(), 0
        while at < len(pairs):
            now = pairs[at : at + self.fitting.size]
            shown = _readable(now, encoded, unreadable)
            told = self.fitting(partial(self._ask, shown), len(shown)) if shown else []
            if told is not None:
                for (pair, _, _), said in zip(shown, told, strict=True):
                    rows.append(_row(job.name, self.judge, pair["pair_id"], said))
                at += len(now)
        if rows:
            job.run.commit("answers", rows, job.part(part), job.name)
            job.run.add(f"label/{job.name}", seconds=clock() - began, pictures=2 * len(rows))
        return list(unreadable.values())

    def settle(self) -> None:
        pass

    def _ask(self, shown: "Sequence[Shown]") -> list[Answer]:
        texts = [self.job.prompts[pair["image_a"]] for pair, _, _ in shown]
        told = self.judge.ask([a for _, a, _ in shown], [b for _, _, b in shown], texts)
        if len(told) != len(shown):
            raise UserError(
                f"judge {self.job.name} gave {len(told)} answers about {len(shown)} pairs; it must give one a pair"
            )
        return told


Shown = tuple[Row, Image.Image, Image.Image]


def asked(job: Asking, share: tuple[int, int] = (0, 1)) -> engine.Asked[Unreadable]:
    """The job with what is left of it: pairs that this judge, with this very recipe, has not been asked about."""
    missing = absent(job.pairs.ids, answered(job.run, job.name, job.recipe))
    parts = engine.left(job.pairs.ids, missing, job.run.recipe.label.images_per_part, share)
    return engine.Asked(job, parts, len(job.pairs), int((~missing).sum()))


def answered(run: Run, name: str, recipe: str) -> NDArray[np.bytes_]:
    """The ids of the pairs that this judge, with this recipe, has been asked about."""
    rows = run.read("answers", ["pair_id", "recipe"], name)
    return packed_ids(rows.filter(pc.equal(rows["recipe"], recipe))["pair_id"])


def answers(run: Run, name: str, recipe: str) -> dict[str, Answer]:
    """Pair id -> what this judge, with this recipe, has answered."""
    return {
        row["pair_id"]: Answer(row["a_first"], row["b_first"], row["choice_a_first"], row["choice_b_first"])
        for row in run.rows("answers", name=name)
        if row["recipe"] == recipe
    }


def _sides(pair: Row) -> tuple[str, str]:
    return pair["image_a"], pair["image_b"]


def _readable(pairs: Sequence[Row], encoded: Mapping[str, bytes], unreadable: dict[str, Unreadable]) -> list[Shown]:
    pictures: dict[str, Image.Image] = {}
    for image_id in dict.fromkeys(image_id for pair in pairs for image_id in _sides(pair)):
        try:
            pictures[image_id] = decode_image(encoded[image_id])
        except OSError as error:
            unreadable[image_id] = Unreadable(image_id, reason(error))
    return [
        (pair, pictures[pair["image_a"]], pictures[pair["image_b"]])
        for pair in pairs
        if pair["image_a"] in pictures and pair["image_b"] in pictures
    ]


def _row(name: str, judge: PairJudge, pair_id: str, answer: Answer) -> dict[str, object]:
    return {
        "pair_id": pair_id,
        "judge": name,
        "recipe": judge.recipe,
        "a_first": answer.a_first,
        "b_first": answer.b_first,
        "choice_a_first": answer.choice_a_first,
        "choice_b_first": answer.choice_b_first,
    }
