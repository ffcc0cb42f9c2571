"""Prompts, seeds and a model in, committed pictures out: what `generate` and `compare` both do."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aifeedback_dpo import engine
from aifeedback_dpo.models import identify
from aifeedback_dpo.records import BASE, content_id, prompt_id
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.settings import Drawer, Model, Recipe
from aifeedback_dpo.store import Run, encode_image
from aifeedback_dpo.weights import Identity

if TYPE_CHECKING:
    from PIL import Image

    from aifeedback_dpo.models.diffuser import Diffuser


T = TypeVar("T")


@dataclass(frozen=True)
class Shot:
    """One picture to take: everything that decides its pixels."""

    prompt: str
    seed: int
    policy: str
    policy_revision: str
    model: str
    revision: str
    dtype: str
    steps: int
    guidance: float
    width: int | None
    height: int | None
    scheduler: str | None = None
    negative_prompt: str | None = None

    @property
    def image_id(self) -> str:
        """Of all of the above but the names, which only say where a model was found; None is what the model's folder says."""
        made_by = asdict(self)
        del made_by["model"], made_by["policy"]
        for key in ("scheduler", "negative_prompt"):
            if made_by[key] is None:
                del made_by[key]
        return content_id("image", made_by)


@dataclass(frozen=True)
class Source:
    """What draws: a model at a revision, the policy on top of it, and how it samples."""

    model: Model
    identity: Identity
    steps: int
    guidance: float
    width: int | None
    height: int | None
    scheduler: str | None
    negative_prompt: str
    policy: str = BASE
    policy_revision: str = ""

    def shot(self, prompt: str, k: int, *, run_seed: int) -> Shot:
        """Candidate k of a prompt. Its seed comes from the run, the prompt and k: policies are compared on equal noise."""
        return Shot(
            prompt=prompt,
            seed=derive(run_seed, prompt_id(prompt), k),
            policy=self.policy,
            policy_revision=self.policy_revision,
            model=self.identity.name,
            revision=self.identity.revision,
            dtype=self.model.dtype,
            steps=self.steps,
            guidance=self.guidance,
            width=self.width,
            height=self.height,
            scheduler=self.scheduler,
            negative_prompt=self.negative_prompt or None,
        )


def source(recipe: Recipe, drawer: Model | None = None) -> Source:
    """The recipe's model, or one of its pool, with its settings. Raises ModelMissing where its revision cannot be told."""
    model, settings = drawer or recipe.model, recipe.generate
    own = drawer if isinstance(drawer, Drawer) else Drawer(id=model.id)
    return Source(
        model=model,
        identity=identify(model),
        steps=_first(own.steps, settings.steps),
        guidance=_first(own.guidance, settings.guidance),
        width=_first(own.width, settings.width),
        height=_first(own.height, settings.height),
        scheduler=_first(own.scheduler, settings.scheduler),
        negative_prompt=settings.negative_prompt,
    )


def _first(own: T | None, shared: T) -> T:
    return shared if own is None else own


def plan(prompts: Sequence[str], sources: Sequence[Source], *, run_seed: int, candidates: int) -> list[Shot]:
    """`candidates` shots a prompt; with several sources, candidate k is of source k modulo their number."""
    return [
        sources[k % len(sources)].shot(prompt, k, run_seed=run_seed) for prompt in prompts for k in range(candidates)
    ]


def take(
    run: Run,
    model: "Diffuser",
    shots: Sequence[Shot],
    progress: engine.Progress,
    *,
    name: str,
    weights: Path | None = None,
) -> int:
    """Takes and commits the shots that are not in the run yet, all of one source; `weights` are the policy's.

    Gives how many were taken.
    """
    settings = run.recipe.generate

    def work(part: engine.Slice[Shot]) -> None:
        rows: list[dict[str, Any]] = []
        for start in range(0, len(part.units), settings.batch_size):
            shots_now = part.units[start : start + settings.batch_size]
            rows += [
                _row(shot, picture, model) for shot, picture in zip(shots_now, sample(model, shots_now), strict=True)
            ]
        run.commit("images", rows, part.name, shots[0].policy.replace("/", "-"))

    with model.policy(weights), model.scheduler(shots[0].scheduler):
        return engine.run(
            shots,
            key=lambda shot: shot.image_id,
            done=run.done("images"),
            size=settings.images_per_part,
            work=work,
            progress=progress,
            name=name,
        )


def sample(model: "Diffuser", shots: Sequence[Shot]) -> list["Image.Image"]:
    """The pictures of a batch of one source; each prompt of it is encoded once."""
    first = shots[0]
    return model.sample(
        [shot.prompt for shot in shots],
        [shot.seed for shot in shots],
        steps=first.steps,
        guidance=first.guidance,
        negative_prompt=first.negative_prompt or "",
        width=first.width,
        height=first.height,
    )


def _row(shot: Shot, picture: "Image.Image", model: "Diffuser") -> dict[str, Any]:
    return {
        "image_id": shot.image_id,
        "prompt_id": prompt_id(shot.prompt),
        "image": {"bytes": encode_image(picture), "path": f"{shot.image_id}.webp"},
        "pixel_sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
        "policy": shot.policy,
        "model": shot.model,
        "revision": shot.revision,
        "seed": shot.seed,
        "steps": shot.steps,
        "guidance": shot.guidance,
        "scheduler": model.scheduler_name,
        "width": picture.width,
        "height": picture.height,
    }
