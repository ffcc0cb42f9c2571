"""Latents once per image and embeddings once per prompt, whatever the epoch, the judge or the beta.

A cache file is named after everything that made it (model revision, dtype, ids), so a stale one is never read.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from aifeedback_dpo import engine
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.models.sd import StableDiffusion
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run

BATCH = 32


@dataclass(frozen=True)
class Cache:
    """Rows of latents (n c h w) and embeddings (m t d), found by id; embedding row 0 is the empty caption."""

    latents: Tensor
    embeddings: Tensor
    image_rows: dict[str, int]
    prompt_rows: dict[str, int]


def prepare(
    run: Run, model: StableDiffusion, images: Sequence[str], prompts: dict[str, str], progress: engine.Progress
) -> Cache:
    """The cache of these images (ids) and prompts (id -> text), computed where it is not on disk yet."""
    image_ids, prompt_ids = sorted(set(images)), sorted(prompts)
    made_by = (model.located.revision, str(model.dtype))
    latents = _cached(
        run, f"latents-{content_id(*made_by, *image_ids)}", lambda: _encode(run, model, image_ids, progress)
    )
    texts = ["", *(prompts[prompt_id] for prompt_id in prompt_ids)]
    embeddings = _cached(
        run,
        f"prompts-{content_id(*made_by, *texts)}",
        lambda: torch.cat([model.encode_prompts(texts[at : at + BATCH]).cpu() for at in range(0, len(texts), BATCH)]),
    )
    return Cache(
        latents,
        embeddings,
        {image_id: row for row, image_id in enumerate(image_ids)},
        {prompt_id: row + 1 for row, prompt_id in enumerate(prompt_ids)},
    )


def _cached(run: Run, name: str, compute: Callable[[], Tensor]) -> Tensor:
    path = run.cache / f"{name}.safetensors"
    if not path.exists():
        rows = compute()
        run.write(path, lambda file: file.write(save({"rows": rows.contiguous()})))
    try:
        return load_file(path)["rows"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path} is corrupted ({error}); delete it and run `ddpo train` again") from error


def _encode(run: Run, model: StableDiffusion, image_ids: Sequence[str], progress: engine.Progress) -> Tensor:
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Tensor]] = []

    def flush() -> None:
        if waiting:
            encoded = model.encode_images(torch.stack([pixels for _, pixels in waiting])).cpu()
            found.update(zip([image_id for image_id, _ in waiting], encoded, strict=True))
            waiting.clear()

    with progress.task("Encoding latents", len(image_ids)) as bar:
        for image_id, data in run.images(image_ids):
            with Image.open(io.BytesIO(data)) as image:
                pixels = torch.from_numpy(np.array(image.convert("RGB")))
            waiting.append((image_id, pixels.permute(2, 0, 1).float() / 127.5 - 1))
            if len(waiting) == BATCH:
                flush()
            bar.advance(1)
        flush()
    return torch.stack([found[image_id] for image_id in image_ids])
