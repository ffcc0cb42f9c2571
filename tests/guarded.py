"""Flat pictures that policies drew, for guards to measure, and what is found in the rows that they give."""

from collections.abc import Sequence

from PIL import Image

from aifeedback_dpo import records
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.store import Run

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PROMPTS = 8
Colour = tuple[int, int, int]


def drawn(run: Run, policy: str, pictures: Sequence[Sequence[Colour]]) -> list[list[str]]:
    """Flat pictures, several of each prompt, as ids."""
    rows, ids = [], []
    for at, of_prompt in enumerate(pictures):
        ids.append([records.content_id(policy, at, number) for number in range(len(of_prompt))])
        for image_id, colour in zip(ids[-1], of_prompt, strict=True):
            stored = {"bytes": encode_image(Image.new("RGB", (4, 4), colour)), "path": "x"}
            row = dict.fromkeys(records.IMAGES.names) | {"image_id": image_id, "image": stored}
            rows.append(row | {"prompt_id": records.prompt_id(f"prompt {at}")})
    run.commit("images", rows, policy)
    return ids


def found(rows: list[dict], guard: str, against: str | None, policy: str = "ai") -> dict:
    (row,) = (row for row in rows if (row["policy"], row["guard"], row["against"]) == (policy, guard, against))
    return row


def firsts(ids: Sequence[Sequence[str]]) -> list[str]:
    return [of_prompt[0] for of_prompt in ids]


def scorers_of(run: Run, *names: str) -> Run:
    label = run.recipe.label
    kept = label.model_copy(update={"scorers": {name: label.scorers[name] for name in names}})
    return Run(run.root, run.recipe.model_copy(update={"label": kept}))
