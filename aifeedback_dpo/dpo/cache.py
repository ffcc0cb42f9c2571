"""Latents once per image and embeddings once per prompt, whatever the epoch, the judge or the beta.

A cache file is named after everything that made it (model revision, dtype, size, ids), so a stale one is never read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from aifeedback_dpo import engine
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run, decode_image


@dataclass(frozen=True)
class Cache:
    """Rows of latents (n c h w) with their `sizes` (n 6), and of each prompt tensor (m ...), found by id.

    A row of `sizes` is the picture's true height and width, the top and left of its crop, and its height and width here.
    Prompt row 0 is no caption, as guidance takes it: zeros in SDXL.
    """

    latents: Tensor
    sizes: Tensor
    prompts: Rows
    image_rows: dict[str, int]
    prompt_rows: dict[str, int]

    def conditions(self, prompts: Sequence[int], images: Sequence[int]) -> Rows:
        """What the denoiser is told about these rows."""
        return {**{name: rows[list(prompts)] for name, rows in self.prompts.items()}, "sizes": self.sizes[list(images)]}


def prepare(run: Run, model: Diffuser, progress: engine.Progress) -> Cache:
    """The cache of every pair that anyone has judged, computed where it is not on disk yet.

    Raises DataError for an image that cannot be read although it was judged, UserError for images of several sizes.
    """
    judged = {row["pair_id"] for row in run.rows("preferences", ["pair_id"])}
    pairs = [pair for pair in run.rows("pairs") if pair["pair_id"] in judged]
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    prompts = {pair["prompt_id"]: text[pair["prompt_id"]] for pair in pairs}
    image_ids = sorted({pair[side] for pair in pairs for side in ("image_a", "image_b")})
    prompt_ids = sorted(prompts)
    run.need(image_ids)
    made_by = (model.identity.revision, str(model.dtype))
    encoded = _cached(
        run,
        f"latents-{content_id(*made_by, run.recipe.train.resolution, *image_ids)}",
        lambda: _encode(run, model, image_ids, progress),
    )
    texts = [prompts[prompt_id] for prompt_id in prompt_ids]
    read = _cached(run, f"prompts-{content_id(*made_by, *texts)}", lambda: _read(run, model, texts, progress))
    return Cache(
        encoded["latents"],
        encoded["sizes"],
        read,
        {image_id: row for row, image_id in enumerate(image_ids)},
        {prompt_id: row + 1 for row, prompt_id in enumerate(prompt_ids)},
    )


def frame(picture: Image.Image, resolution: int | None) -> tuple[Image.Image, tuple[int, int, int, int, int, int]]:
    """The picture with its shortest side at `resolution`, cropped to the centre square, and its row of `sizes`.

    Without a resolution it is as it was. SDXL is told of all this (Podell et al. 2023, sec. 2.2).
    """
    width, height = picture.size
    if resolution is None:
        return picture, (height, width, 0, 0, height, width)
    scale = resolution / min(width, height)
    wide, tall = (max(resolution, round(side * scale)) for side in (width, height))
    left, top = (wide - resolution) // 2, (tall - resolution) // 2
    if (wide, tall) != (width, height):
        picture = picture.resize((wide, tall), Image.Resampling.LANCZOS)
    cropped = picture.crop((left, top, left + resolution, top + resolution))
    return cropped, (height, width, top, left, resolution, resolution)


def _cached(run: Run, name: str, compute: Callable[[], Rows]) -> Rows:
    path = run.cache / f"{name}.safetensors"
    if not path.exists():
        rows = {key: value.contiguous() for key, value in compute().items()}
        run.write(path, lambda file: file.write(save(rows)))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path} is corrupted ({error}); delete it and run `ddpo train` again") from error


def _read(run: Run, model: Diffuser, texts: Sequence[str], progress: engine.Progress) -> Rows:
    size = run.recipe.generate.batch_size
    with model.placed(*model.family.TEXT), progress.task("Encoding prompts", len(texts)) as bar:
        found = [{name: rows.cpu() for name, rows in model.encode_negative().items()}]
        for at in range(0, len(texts), size):
            found.append({name: rows.cpu() for name, rows in model.encode_prompts(texts[at : at + size]).items()})
            bar.advance(len(texts[at : at + size]))
    return {name: torch.cat([rows[name] for rows in found]) for name in found[0]}


def _encode(run: Run, model: Diffuser, image_ids: Sequence[str], progress: engine.Progress) -> Rows:
    latents: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    waiting: list[tuple[str, Tensor]] = []
    resolution = run.recipe.train.resolution

    def flush() -> None:
        if waiting:
            encoded = model.encode_images(torch.stack([pixels for _, pixels in waiting])).cpu()
            latents.update(zip([image_id for image_id, _ in waiting], encoded, strict=True))
            waiting.clear()

    with model.placed("vae"), progress.task("Encoding latents", len(image_ids)) as bar:
        for image_id, data in run.images(image_ids):
            try:
                picture, sizes[image_id] = frame(decode_image(data), resolution)
            except OSError as error:
                raise DataError(
                    f"image {image_id} cannot be read ({error}); run `ddpo label` again, which leaves it out"
                ) from error
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1
            if waiting and pixels.shape != waiting[0][1].shape:
                shapes = sorted({f"{size[5]}x{size[4]}" for size in sizes.values()})
                raise UserError(
                    f"the pairs' images have several sizes ({', '.join(shapes)}); set train.resolution, as in "
                    f"train.resolution={min(min(size[4:]) for size in sizes.values())}"
                )
            waiting.append((image_id, pixels))
            if len(waiting) == run.recipe.generate.batch_size:
                flush()
            bar.advance(1)
        flush()
    return {
        "latents": torch.stack([latents[image_id] for image_id in image_ids]),
        "sizes": torch.tensor([sizes[image_id] for image_id in image_ids]),
    }
