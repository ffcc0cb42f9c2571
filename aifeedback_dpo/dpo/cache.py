"""Latents once per image and embeddings once per prompt, whatever the epoch, the judge or the beta.

A cache file is named after everything that made it (model revision, dtype, ids), so a stale one is never read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from aifeedback_dpo import engine
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.models.sd import StableDiffusion
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run, decode_image


@dataclass(frozen=True)
class Cache:
    """Rows of latents (n c h w) and embeddings (m t d), found by id; embedding row 0 is the empty caption."""

    latents: Tensor
    embeddings: Tensor
    image_rows: dict[str, int]
    prompt_rows: dict[str, int]


def prepare(run: Run, model: StableDiffusion, progress: engine.Progress) -> Cache:
    """The cache of every pair that anyone has judged, computed where it is not on disk yet.

    Raises DataError for an image that cannot be read although it was judged.
    """
    judged = {row["pair_id"] for row in run.rows("preferences", ["pair_id"])}
    pairs = [pair for pair in run.rows("pairs") if pair["pair_id"] in judged]
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    prompts = {pair["prompt_id"]: text[pair["prompt_id"]] for pair in pairs}
    image_ids = sorted({pair[side] for pair in pairs for side in ("image_a", "image_b")})
    prompt_ids = sorted(prompts)
    run.need(image_ids)
    size = run.recipe.generate.batch_size
    made_by = (model.located.revision, str(model.dtype))
    latents = _cached(
        run, f"latents-{content_id(*made_by, *image_ids)}", lambda: _encode(run, model, image_ids, progress)
    )
    texts = ["", *(prompts[prompt_id] for prompt_id in prompt_ids)]
    embeddings = _cached(
        run,
        f"prompts-{content_id(*made_by, *texts)}",
        lambda: torch.cat([model.encode_prompts(texts[at : at + size]).cpu() for at in range(0, len(texts), size)]),
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
            try:
                pixels = torch.from_numpy(np.array(decode_image(data)))
            except OSError as error:
                raise DataError(
                    f"image {image_id} cannot be read ({error}); run `ddpo label` again, which leaves it out"
                ) from error
            waiting.append((image_id, pixels.permute(2, 0, 1).float() / 127.5 - 1))
            if len(waiting) == run.recipe.generate.batch_size:
                flush()
            bar.advance(1)
        flush()
    return torch.stack([found[image_id] for image_id in image_ids])
