"""How numbers on a suite were published, how they come about here, and where the two differ."""

from dataclasses import asdict
from typing import Any

from aifeedback_dpo.compare.suites.known import KNOWN, Protocol
from aifeedback_dpo.compare.suites.suite import Suite
from aifeedback_dpo.settings import Recipe

SEEDS = "one for each prompt and picture, the same for all policies"
SETTINGS = ("scheduler", "steps", "guidance")


def protocol(suite: Suite, *, recipe: Recipe, images: int, limited: bool) -> dict[str, Any] | None:
    """The published protocol of a suite, what was done `here`, and each difference as a sentence; None for a file of your own.

    `images` are the pictures of a prompt, `limited` says that not all of its prompts were drawn. Other seeds are no
    difference: they are another draw of the same pictures.
    """
    if suite.name not in KNOWN:
        return None
    known, settings = KNOWN[suite.name], recipe.generate
    wanted = known.protocol
    size = f"{settings.width}x{settings.height}" if settings.width and settings.height else None
    here = {
        "images_per_prompt": images,
        "seeds": SEEDS,
        "statistic": suite.statistic,
        "resolution": size,
        "scheduler": settings.scheduler,
        "steps": settings.steps,
        "guidance": settings.guidance,
    }
    differs = [*_prompts(suite, known.prompts, limited=limited), *_drawing(wanted, here), *wanted.never_followed]
    told = asdict(wanted)
    return {
        "suite": suite.name,
        "images_per_prompt": told["images"],
        **{key: told[key] for key in ("seeds", "statistic", "resolution", *SETTINGS, "note")},
        "here": here,
        "followed": not differs,
        "differs": differs,
    }


def _prompts(suite: Suite, published: int | None, *, limited: bool) -> list[str]:
    if limited:
        return [f"{len(suite.items)} of its prompts were drawn, not all"]
    if suite.name == "coco":
        # captions that two pictures share are drawn once, which leaves a few hundred fewer
        return [f"{suite.read} captions, not {published}"] if suite.read != published else []
    return [f"{suite.source} has {suite.read} prompts, not {published}"] if suite.read != published else []


def _drawing(wanted: Protocol, here: dict[str, Any]) -> list[str]:
    """The settings that were published and are others here; a setting that is left to the model's folder is told as such."""
    differs = []
    if here["images_per_prompt"] != wanted.images:
        differs.append(f"{_count(here['images_per_prompt'])} a prompt, not {wanted.images}")
    for name in SETTINGS:
        published, used = getattr(wanted, name), here[name]
        if published is not None and used != published:
            shown = "the model's own" if used is None else used
            differs.append(f"{name} {shown}, not {published}")
    return differs


def _count(images: int) -> str:
    return f"{images} picture{'s' if images != 1 else ''}"
