"""Latents once per image and embeddings once per prompt, whatever the epoch, the judge or the beta.

    cache/latents-<key>/  latents-<key>-flipped/  prompts-<key>/        part-*.safetensors

A key stands for everything that made the rows (the model's revision and dtype, the resolution) but not for which rows there
are: a stale one is never read, and a plan that grew computes what is new. Parts are committed as the tables' are.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from aifeedback_dpo import engine
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.dpo.shelf import Shelf, commit
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.lookup import find_sorted
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.models.family import Rows
from aifeedback_dpo.records import Ids, content_id, packed_ids
from aifeedback_dpo.store import Run

Numbers = Sequence[int] | NDArray[np.integer]
Sizes = tuple[int, int, int, int, int, int]

NO_CAPTION = b""  # an id that no prompt has, and the first of all in order


class Cache:
    """Rows of latents, and of what a denoiser is told, by number; numbers are found by id.

    Held in memory are 44 bytes an image and 36 a prompt; the rows stay on disk. Prompt row 0 is no caption, as guidance
    takes it: zeros in SDXL. Raises UserError for images of several sizes.
    """

    def __init__(
        self,
        image_ids: NDArray[np.bytes_],
        prompt_ids: NDArray[np.bytes_],
        *,
        latents: Shelf,
        flipped: Shelf | None,
        prompts: Shelf,
    ) -> None:
        for shelf in filter(None, (latents, flipped, prompts)):
            if lost := int(shelf.missing.sum()):
                raise DataError(f"{lost} rows are missing from {shelf.folder}; run `ddpo train` again")
        self._image_ids, self._prompt_ids = image_ids, prompt_ids
        self._latents, self._flipped, self._prompts = latents, flipped, prompts
        sizes = latents.read("sizes", np.arange(len(image_ids))).numpy()
        true = sizes[:, 0] << 32 | sizes[:, 1]  # height and width, from which the rest of a row follows
        _, first, size_of = np.unique(true, return_index=True, return_inverse=True)
        self._sizes, self._size_of = sizes[first], size_of.astype(np.int32)  # few, so they are held
        _check_frames({(height, width) for height, width in self._sizes[:, 4:].tolist()})
        c, h, w = latents.column("latents").shape
        self.shape: tuple[int, int, int] = (c, h, w)

    def images(self, ids: Ids) -> NDArray[np.int64]:
        """The rows of these images. Raises DataError for one that is in none of the pairs."""
        return _known(self._image_ids, ids, "image")

    def prompts(self, ids: Ids) -> NDArray[np.int64]:
        """The rows of these prompts, from 1. Raises DataError for one that is in none of the pairs."""
        return _known(self._prompt_ids, ids, "prompt")

    def latents(self, rows: Numbers, flipped: NDArray[np.bool_] | None = None) -> Float[Tensor, "n c h w"]:
        """float32; where `flipped`, of the picture mirrored left to right, which is not the mirrored latent."""
        if flipped is None or not np.any(flipped):
            return self._latents.read("latents", rows)
        assert self._flipped is not None, "prepared without train.flip"
        chosen, mirrored = np.asarray(rows), np.asarray(flipped)
        latents = torch.empty(len(chosen), *self.shape)
        latents[torch.from_numpy(mirrored)] = self._flipped.read("latents", chosen[mirrored])
        latents[torch.from_numpy(~mirrored)] = self._latents.read("latents", chosen[~mirrored])
        return latents

    def conditions(self, prompts: Numbers, images: Numbers) -> Rows:
        """What the denoiser is told: the tensors of these prompts, and `sizes` (n 6) of these images.

        A row of sizes is the picture's true height and width, the top and left of its crop, and its height and width here.
        """
        sizes = torch.from_numpy(self._sizes[self._size_of[np.asarray(images, np.int64)]])
        return {**{name: self._prompts.read(name, prompts) for name in self._prompts.names}, "sizes": sizes}


def prepare(
    run: Run,
    model: Diffuser,
    pairs: pa.Table,
    progress: engine.Progress,
    *,
    share: tuple[int, int] = (0, 1),
    ready: Callable[[], None] = lambda: None,
) -> Cache:
    """The cache of these pairs (prompt_id, image_a, image_b), computed where it is not on disk yet.

    Process i of n computes every n-th slice of the plan from the i-th, and calls `ready`, which waits for the others, when
    all of its own are committed. Raises DataError for an image that is not there or cannot be read, UserError for images of
    several sizes.
    """
    settings = run.recipe.train
    image_ids = np.unique(np.append(*(packed_ids(pc.unique(pairs[side])) for side in ("image_a", "image_b"))))
    prompt_ids = np.unique(np.append(packed_ids(pc.unique(pairs["prompt_id"])), NO_CAPTION))
    # latents too, which are always computed in float32, are of weights that were rounded to the model's dtype
    made_by = (model.identity.revision, str(model.dtype))
    latents = run.cache / f"latents-{content_id(*made_by, settings.resolution)}"
    flipped = latents.with_name(f"{latents.name}-flipped") if settings.flip else None
    prompts = run.cache / f"prompts-{content_id(*made_by)}"
    _encode(run, model, latents, image_ids, progress, share, flipped=False)
    if flipped:
        _encode(run, model, flipped, image_ids, progress, share, flipped=True)
    _read(run, model, prompts, prompt_ids, progress, share)
    ready()
    return Cache(
        image_ids,
        prompt_ids,
        latents=Shelf(latents, image_ids),
        flipped=Shelf(flipped, image_ids) if flipped else None,
        prompts=Shelf(prompts, prompt_ids),
    )


def frame(picture: Image.Image, resolution: int | None) -> tuple[Image.Image, Sizes]:
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


def _encode(
    run: Run,
    model: Diffuser,
    folder: Path,
    ids: NDArray[np.bytes_],
    progress: engine.Progress,
    share: tuple[int, int],
    *,
    flipped: bool,
) -> None:
    """Commits this process's share of the latents that are missing, with the pictures of one slice in memory."""
    missing = Shelf(folder, ids).missing
    if not missing.any():
        return
    left, _ = _left(run, ids, missing, run.read("images", ["image_id"]).column("image_id"), share, "images")
    if not left:
        return
    album = run.album()
    frames: set[tuple[int, int]] = set()
    resolution, at_once = run.recipe.train.resolution, run.recipe.generate.batch_size
    title = "Encoding mirrored latents" if flipped else "Encoding latents"
    with model.placed("vae"), ThreadPoolExecutor() as pool, progress.task(title, _count(left)) as bar:
        for part in left:
            wanted = [ids[place].decode() for place in part.at]
            drawn = pool.map(partial(_pixels, resolution=resolution, flipped=flipped), album.images(wanted))
            names, sizes, latents = list[str](), list[Sizes](), list[Tensor]()
            while batch := list(islice(drawn, at_once)):
                names += [name for name, _, _ in batch]
                sizes += [size for _, size, _ in batch]
                frames |= {(height, width) for _, (*_, height, width), _ in batch}
                _check_frames(frames)
                pixels = torch.stack([pixels for _, _, pixels in batch]).float() / 127.5 - 1
                latents.append(model.encode_images(pixels).cpu())
                bar.advance(len(batch))
            commit(run, folder, part.name, names, {"latents": torch.cat(latents), "sizes": torch.tensor(sizes)})


def _pixels(stored: tuple[str, bytes], *, resolution: int | None, flipped: bool) -> tuple[str, Sizes, Tensor]:
    """The framed picture (3 h w, uint8), mirrored left to right or not. Pillow lets other threads run while it decodes."""
    image_id, data = stored
    try:
        picture, sizes = frame(decode_image(data), resolution)
    except OSError as error:
        raise DataError(
            f"image {image_id} cannot be read ({error}); run `ddpo label` again, which leaves it out"
        ) from error
    pixels = np.asarray(picture).transpose(2, 0, 1)
    return image_id, sizes, torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1] if flipped else pixels))


def _read(
    run: Run,
    model: Diffuser,
    folder: Path,
    ids: NDArray[np.bytes_],
    progress: engine.Progress,
    share: tuple[int, int],
) -> None:
    """Commits this process's share of the prompt embeddings that are missing; no caption goes first."""
    missing = Shelf(folder, ids).missing
    if not missing.any():
        return
    nothing = pa.table({"prompt_id": [NO_CAPTION.decode()], "prompt": [""]})
    stored = pa.concat_tables([nothing, run.read("prompts", ["prompt_id", "prompt"])])
    left, row_of = _left(run, ids, missing, stored["prompt_id"], share, "prompts")
    if not left:
        return
    at_once = run.recipe.generate.batch_size
    with model.placed(*model.family.TEXT), progress.task("Encoding prompts", _count(left)) as bar:
        for part in left:
            told = [rank for rank in part.at if rank]
            found = [model.encode_negative()] if 0 in part.at else []
            for at in range(0, len(told), at_once):
                texts = stored["prompt"].take(row_of[told[at : at + at_once]]).to_pylist()
                found.append({name: rows.cpu() for name, rows in model.encode_prompts(texts).items()})
            rows = {name: torch.cat([some[name].cpu() for some in found]) for name in found[0]}
            commit(run, folder, part.name, [ids[rank].decode() for rank in part.at], rows)
            bar.advance(len(part.at))


def _left(
    run: Run,
    ids: NDArray[np.bytes_],
    missing: NDArray[np.bool_],
    stored: pa.ChunkedArray,
    share: tuple[int, int],
    what: str,
) -> tuple[list[engine.Slice], NDArray[np.intp]]:
    """What this process has to do, in slices of places in `ids`; and in which stored row each of the ids is.

    The plan is in stored order, which no order of the pairs changes, and so a slice of images lies in few parts of the run.
    Raises DataError for ids that are neither in the cache nor stored.
    """
    found = find_sorted(ids, stored)
    rows = np.flatnonzero(found >= 0)
    rows = rows[np.sort(np.unique(found[rows], return_index=True)[1])]  # once, were it there twice
    plan = found[rows]
    lost = missing.copy()
    lost[plan] = False
    if lost.any():
        first = ids[lost][0].decode()
        raise DataError(
            f"{lost.sum()} {what} of the pairs are not in the run (first: {first}); run `ddpo generate` again"
        )
    row_of = np.zeros(len(ids), np.intp)
    row_of[plan] = rows

    parts = engine.left(ids[plan], missing[plan], run.recipe.generate.images_per_part, share)
    return [replace(part, at=plan[part.at].tolist()) for part in parts], row_of


def _count(parts: Sequence[engine.Slice]) -> int:
    return sum(len(part.at) for part in parts)


def _known(known: NDArray[np.bytes_], ids: Ids, what: str) -> NDArray[np.int64]:
    rows = find_sorted(known, ids)
    if (rows < 0).any():
        stranger = packed_ids(ids)[rows < 0][0].decode()
        raise DataError(f"{what} {stranger} is in none of the pairs that the cache was prepared for")
    return rows


def _check_frames(frames: set[tuple[int, int]]) -> None:
    """Raises UserError for heights and widths that make no batch."""
    if len(frames) > 1:
        listed = ", ".join(sorted(f"{width}x{height}" for height, width in frames))
        raise UserError(
            f"the pairs' images have several sizes ({listed}); set train.resolution, as in "
            f"train.resolution={min(map(min, frames))}"
        )
