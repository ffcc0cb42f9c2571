"""Committed pictures in, committed scores out: what `label` and `compare` both do. A score is computed once, ever."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from aifeedback_dpo import engine
from aifeedback_dpo.scorers import Scorer
from aifeedback_dpo.store import Run, decode_image


@dataclass(frozen=True)
class Unreadable:
    """A picture that would not open, by id, and why."""

    image_id: str
    reason: str


def reason(error: OSError) -> str:
    """Why a picture would not open, short."""
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


def score(
    run: Run, name: str, scorer: Scorer, prompts: Mapping[str, str], progress: engine.Progress
) -> list[Unreadable]:
    """Scores the pictures (image id -> prompt) that this scorer, with these very weights, has not scored yet.

    A picture that cannot be read is left unscored and given back.
    """
    unreadable: list[Unreadable] = []

    def work(part: engine.Slice[str]) -> None:
        images: dict[str, Image.Image] = {}
        for image_id, data in run.images(part.units):
            try:
                images[image_id] = decode_image(data)
            except OSError as error:
                unreadable.append(Unreadable(image_id, reason(error)))
        rows = []
        readable = [image_id for image_id in part.units if image_id in images]
        size = run.recipe.label.batch_size
        for start in range(0, len(readable), size):
            batch = readable[start : start + size]
            numbers = scorer.score([images[image_id] for image_id in batch], [prompts[image_id] for image_id in batch])
            rows += [
                {"image_id": image_id, "scorer": name, "recipe": scorer.recipe, "score": float(number)}
                for image_id, number in zip(batch, numbers, strict=True)
            ]
        if rows:
            run.commit("scores", rows, f"{scorer.recipe[:8]}-{part.name}", name)

    engine.run(
        list(prompts),
        key=str,
        done=set(scores(run, name, scorer.recipe)),
        size=run.recipe.label.images_per_part,
        work=work,
        progress=progress,
        name=f"Scoring with {name}",
    )
    return unreadable


def scores(run: Run, name: str, recipe: str) -> dict[str, float]:
    """Image id -> score, of this scorer with this recipe.

    Pictures of one prompt with the very same pixels have one score, the first's: in another batch a network may round its
    last digit otherwise, and a tie would become a win.
    """
    rows = run.rows("scores", ["image_id", "recipe", "score"], name)
    found = {row["image_id"]: row["score"] for row in rows if row["recipe"] == recipe}
    first: dict[tuple[str, str], float] = {}
    for row in run.rows("images", ["image_id", "prompt_id", "pixel_sha256"]):
        if row["image_id"] in found:
            seen = first.setdefault((row["prompt_id"], row["pixel_sha256"]), found[row["image_id"]])
            found[row["image_id"]] = seen
    return found
