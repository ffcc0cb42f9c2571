"""Shots and a model in, committed pictures out: what `generate` and `compare` both do.

While the denoiser draws a batch, the one before is encoded and the part before is written. The prompts of a slice are read
once, and together, so that a picture does not depend on what was drawn before its slice.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aifeedback_dpo import engine, models
from aifeedback_dpo.codec import decode_image, encode_image
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.models.shots import Shot, Shots
from aifeedback_dpo.overlap import Behind, Fitting
from aifeedback_dpo.records import packed_ids, prompt_id
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from PIL import Image

    from aifeedback_dpo.models.diffuser import Captions, Diffuser

ENCODERS = 4  # threads; a slice's pictures are few


@dataclass(frozen=True)
class Drawing:
    """Takes the shots of one source; `weights` are the policy's. A model that is at hand is used, or else it is loaded."""

    run: Run
    shots: Sequence[Shot]
    source: Model
    title: str
    weights: Path | None = None
    command: str = "generate"
    model: "Diffuser | None" = field(default=None, repr=False)

    def elsewhere(self, run: Run) -> Self:
        return replace(self, run=run, model=None)

    def committed(self, part: engine.Slice) -> bool:
        return self.run.has("images", part.name, self._folder)

    @contextmanager
    def begin(self, progress: engine.Progress) -> Iterator["_Camera"]:
        model = self.model
        if model is None:
            progress.note(f"Loading {self.source.id}")
            model = models.load(self.source)
        with ExitStack() as open_now:
            open_now.enter_context(model.policy(self.weights))
            open_now.enter_context(model.scheduler(self.shots[0].scheduler))
            pool = open_now.enter_context(ThreadPoolExecutor(ENCODERS, "encode"))
            behind = open_now.enter_context(Behind())
            yield _Camera(self, model, pool, behind, progress)

    def write(self, part: engine.Slice, rows: Sequence["Future[dict[str, Any]]"]) -> None:
        """Commits the pictures of a slice once all are encoded."""
        self.run.commit("images", [row.result() for row in rows], part.name, self._folder)

    @property
    def _folder(self) -> str:
        return self.shots[0].policy.replace("/", "-")


class _Camera:
    """Draws slices; batches are as large as fit."""

    def __init__(
        self, job: Drawing, model: "Diffuser", pool: ThreadPoolExecutor, behind: Behind, progress: engine.Progress
    ) -> None:
        self.job, self.model, self.pool, self.behind = job, model, pool, behind
        self.at_once = job.run.recipe.generate.batch_size
        self.fitting = Fitting(
            self.at_once, lambda size: progress.note(f"out of memory: going on with generate.batch_size={size}")
        )

    def __call__(self, part: engine.Slice, following: engine.Slice | None) -> list[engine.Finding]:
        shots = part.of(self.job.shots)
        captions = self.model.read(
            [shot.prompt for shot in shots], shots[0].negative_prompt or "", at_once=self.at_once
        )
        rows, at = list[Future[dict[str, Any]]](), 0
        while at < len(shots):
            now = shots[at : at + self.fitting.size]
            pictures = self.fitting(partial(sample, self.model, now, captions), len(now))
            if pictures is not None:
                rows += [
                    self.pool.submit(_row, shot, picture, self.model.scheduler_name, self.job.run)
                    for shot, picture in zip(now, pictures, strict=True)
                ]
                at += len(now)
        self.behind.call(lambda: self.job.write(part, rows))
        return []

    def settle(self) -> None:
        self.behind.settle()


def asked(job: Drawing, share: tuple[int, int] = (0, 1)) -> engine.Asked[engine.Finding]:
    """The job with what is left of it: pictures that are not in the run yet."""
    shots, run = job.shots, job.run
    ids = shots.ids if isinstance(shots, Shots) else packed_ids([shot.image_id for shot in shots])
    missing = absent(ids, run.ids("images"))
    parts = engine.left(ids, missing, run.recipe.generate.images_per_part, share)
    return engine.Asked(job, parts, len(shots), int((~missing).sum()))


def take(
    run: Run,
    model: "Diffuser",
    shots: Sequence[Shot],
    progress: engine.Progress,
    *,
    name: str,
    weights: Path | None = None,
) -> None:
    """Takes and commits, here and now, the shots that are not in the run yet, all of one source."""
    job = Drawing(run, shots, Model(id=model.identity.name), name, weights, command="compare", model=model)
    engine.run(asked(job), progress, engine.Here())


def sample(model: "Diffuser", shots: Sequence[Shot], captions: "Captions | None" = None) -> list["Image.Image"]:
    """The pictures of a batch of one source; prompts that have not been read are read first."""
    first = shots[0]
    return model.sample(
        [shot.prompt for shot in shots],
        [shot.seed for shot in shots],
        steps=first.steps,
        guidance=first.guidance,
        negative_prompt=first.negative_prompt or "",
        captions=captions,
        width=first.width,
        height=first.height,
    )


def _row(shot: Shot, picture: "Image.Image", scheduler: str, run: Run) -> dict[str, Any]:
    kind = run.recipe.generate.format
    data = encode_image(picture, kind)
    stored = decode_image(data) if shot.lossy else picture
    image_id = shot.image_id
    return {
        "image_id": image_id,
        "prompt_id": prompt_id(shot.prompt),
        "image": {"bytes": data, "path": f"{image_id}.{kind}"},
        "pixel_sha256": hashlib.sha256(stored.tobytes()).hexdigest(),
        "policy": shot.policy,
        "model": shot.model,
        "revision": shot.revision,
        "seed": shot.seed,
        "steps": shot.steps,
        "guidance": shot.guidance,
        "scheduler": scheduler,
        "width": picture.width,
        "height": picture.height,
    }
