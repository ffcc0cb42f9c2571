"""Prompts, seeds and a model in, committed pictures out: what `generate` and `compare` both do."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifeedback_dpo import engine
from aifeedback_dpo.config import Generate
from aifeedback_dpo.records import BASE, content_id, prompt_id
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run, encode_image

if TYPE_CHECKING:
    from PIL import Image

    from aifeedback_dpo.models.sd import StableDiffusion


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

    @property
    def image_id(self) -> str:
        """Of all of the above but the model's name, which is only where it was found."""
        made_by = asdict(self)
        del made_by["model"], made_by["policy"]
        return content_id("image", made_by)


@dataclass(frozen=True)
class Source:
    """A model at a revision, and the policy on top of it."""

    model: str
    revision: str
    dtype: str
    policy: str = BASE
    policy_revision: str = ""


def plan(prompts: Sequence[str], source: Source, settings: Generate, *, run_seed: int, candidates: int) -> list[Shot]:
    """`candidates` shots a prompt. Seeds come from the run, the prompt and k, so policies are compared on equal noise."""
    return [
        Shot(
            prompt=prompt,
            seed=derive(run_seed, prompt_id(prompt), k),
            policy=source.policy,
            policy_revision=source.policy_revision,
            model=source.model,
            revision=source.revision,
            dtype=source.dtype,
            steps=settings.steps,
            guidance=settings.guidance,
            width=settings.width,
            height=settings.height,
        )
        for prompt in prompts
        for k in range(candidates)
    ]


def take(
    run: Run,
    model: "StableDiffusion",
    shots: Sequence[Shot],
    progress: engine.Progress,
    *,
    name: str,
    folder: Path | None = None,
) -> int:
    """Takes and commits the shots that are not in the run yet; `folder` holds the policy. Gives how many were taken."""
    settings = run.recipe.generate

    def work(part: engine.Slice[Shot]) -> None:
        rows: list[dict[str, Any]] = []
        for start in range(0, len(part.units), settings.batch_size):
            shots_now = part.units[start : start + settings.batch_size]
            rows += [
                _row(shot, picture, model) for shot, picture in zip(shots_now, sample(model, shots_now), strict=True)
            ]
        run.commit("images", rows, part.name, shots[0].policy.replace("/", "-"))

    with model.policy(folder):
        return engine.run(
            shots,
            key=lambda shot: shot.image_id,
            done=run.done("images"),
            size=settings.images_per_part,
            work=work,
            progress=progress,
            name=name,
        )


def sample(model: "StableDiffusion", shots: Sequence[Shot]) -> list["Image.Image"]:
    """The pictures of a batch; each prompt of it is encoded once."""
    prompts = list(dict.fromkeys(shot.prompt for shot in shots))
    encoded = model.encode_prompts(["", *prompts])
    where = {prompt: index + 1 for index, prompt in enumerate(prompts)}
    first = shots[0]
    return model.sample(
        encoded[[where[shot.prompt] for shot in shots]],
        encoded[:1],
        [shot.seed for shot in shots],
        steps=first.steps,
        guidance=first.guidance,
        width=first.width,
        height=first.height,
    )


def _row(shot: Shot, picture: "Image.Image", model: "StableDiffusion") -> dict[str, Any]:
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
