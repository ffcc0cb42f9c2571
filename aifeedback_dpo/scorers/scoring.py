"""Committed pictures in, committed scores out: what `label` and `compare` both do. A score is computed once, ever."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aifeedback_dpo import engine
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers import Scorer
from aifeedback_dpo.store import Run, decode_image

Spent = Callable[[str, float, int], None]
"""Told after each part: a scorer's name, its seconds, and for how many pictures. What has not been committed is not told."""
clock = perf_counter


@dataclass(frozen=True)
class Unreadable:
    """A picture that would not open, by id, and why."""

    image_id: str
    reason: str


def reason(error: OSError) -> str:
    """Why a picture would not open, short."""
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


def nobody(name: str, seconds: float, pictures: int) -> None:
    """Keeps no time."""


def score(
    run: Run,
    loaded: Mapping[str, Scorer],
    prompts: Mapping[str, str],
    progress: engine.Progress,
    spent: Spent = nobody,
) -> list[Unreadable]:
    """Scores the pictures (image id -> prompt) that these scorers, by name, with these very weights, have not scored yet.

    One pass: a picture is decoded once for all scorers, and what they share (resized pixels, a tower) is computed once.
    Each commits parts of its own. A picture that cannot be read is left unscored and given back. A scorer's time is that of
    its own `score`, in which the first of those that share a tower pays for it, and an equal share of opening pictures.
    """
    if not loaded:
        return []
    unreadable: dict[str, Unreadable] = {}
    done = {name: set(scores(run, name, scorer.recipe)) & prompts.keys() for name, scorer in loaded.items()}
    task = f"Scoring with {', '.join(loaded)}"
    album = run.album()
    with progress.task(task, len(prompts) * len(loaded), sum(map(len, done.values()))) as bar:
        for part in engine.cut(list(prompts), run.recipe.label.images_per_part, str):
            left = {name: engine.rest(part, done[name], str) for name in loaded}
            ready = {name: stretch for name, stretch in left.items() if stretch is not None}
            if not ready:
                continue
            encoded = dict(album.images({image_id for stretch in ready.values() for image_id in stretch.units}))
            # scorers that lack the same pictures look at them together, which after a kill may not be all of them
            for names in _alike(ready):
                stretch = ready[names[0]]
                asked, seconds = {name: loaded[name] for name in names}, dict.fromkeys(names, 0.0)
                found = _score(run, asked, stretch.units, encoded, prompts, unreadable, seconds)
                for name in names:
                    if found[name]:
                        rows = [_row(name, loaded[name], *pair, prompts[pair[0]]) for pair in found[name].items()]
                        run.commit("scores", rows, f"{loaded[name].recipe[:8]}-{stretch.name}", name)
                        spent(name, seconds[name], len(rows))
                    bar.advance(len(stretch.units))
    _warn(run, loaded, prompts, progress)
    return list(unreadable.values())


def scores(run: Run, name: str, recipe: str) -> dict[str, float]:
    """Image id -> score, of this scorer with this recipe; NaN where it has none to give.

    Pictures of one prompt with the very same pixels have one score, the first's: in another batch a network may round its
    last digit otherwise, and a tie would become a win.
    """
    rows = run.rows("scores", ["image_id", "recipe", "score"], name)
    found = {
        row["image_id"]: float("nan") if row["score"] is None else row["score"]
        for row in rows
        if row["recipe"] == recipe
    }
    first: dict[tuple[str, str], float] = {}
    for row in run.rows("images", ["image_id", "prompt_id", "pixel_sha256"]):
        if row["image_id"] in found:
            seen = first.setdefault((row["prompt_id"], row["pixel_sha256"]), found[row["image_id"]])
            found[row["image_id"]] = seen
    return found


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


def _alike(left: Mapping[str, engine.Slice[str]]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name, stretch in left.items():
        groups.setdefault(stretch.name, []).append(name)
    return list(groups.values())


def _score(
    run: Run,
    loaded: Mapping[str, Scorer],
    image_ids: Sequence[str],
    encoded: Mapping[str, bytes],
    prompts: Mapping[str, str],
    unreadable: dict[str, Unreadable],
    seconds: dict[str, float],
) -> dict[str, dict[str, float]]:
    """Scorer -> image id -> number, batch by batch; notes the pictures that would not open, and adds to the seconds."""
    from aifeedback_dpo.scorers.pixels import Pictures

    found: dict[str, dict[str, float]] = {name: {} for name in loaded}
    size = run.recipe.label.batch_size
    for start in range(0, len(image_ids), size):
        images: dict[str, Image.Image] = {}
        began = clock()
        for image_id in image_ids[start : start + size]:
            try:
                images[image_id] = decode_image(encoded[image_id])
            except OSError as error:
                unreadable[image_id] = Unreadable(image_id, reason(error))
        if not images:
            continue
        pictures, texts = Pictures.of(list(images.values())), [prompts[image_id] for image_id in images]
        opening = (clock() - began) / len(loaded)
        for name, scorer in loaded.items():
            began = clock()
            numbers = checked(name, scorer.score(pictures, texts), len(images))
            seconds[name] += clock() - began + opening
            found[name] |= dict(zip(images, map(float, numbers), strict=True))
    return found


def _row(name: str, scorer: Scorer, image_id: str, number: float, prompt: str) -> dict[str, object]:
    return {
        "image_id": image_id,
        "scorer": name,
        "recipe": scorer.recipe,
        "score": None if np.isnan(number) else number,
        "truncated": prompt in scorer.truncated,
    }


def truncated(run: Run, name: str, recipe: str, prompts: Mapping[str, str]) -> int:
    """How many of these prompts (image id -> prompt) were cut when they were scored, in this command or before."""
    rows = run.rows("scores", ["image_id", "recipe", "truncated"], name)
    cut = (row["image_id"] for row in rows if row["truncated"] and row["recipe"] == recipe)
    return len({prompts[image_id] for image_id in cut if image_id in prompts})


def _warn(run: Run, loaded: Mapping[str, Scorer], prompts: Mapping[str, str], progress: engine.Progress) -> None:
    texts = len(set(prompts.values()))
    for name, scorer in loaded.items():
        if cut := truncated(run, name, scorer.recipe, prompts):
            progress.note(f"{name}: {cut} of {texts} prompts are longer than it reads and were cut")
