"""How numbers on a suite were published, how they come about here, and where the two differ."""

from typing import Any

from aifeedback_dpo.compare.suites.known import KNOWN, Protocol
from aifeedback_dpo.compare.suites.suite import Suite
from aifeedback_dpo.settings import Recipe

SEEDS = "one for each prompt and picture, the same for all policies"
SETTINGS = ("scheduler", "steps", "guidance")


def protocol(suite: Suite, *, recipe: Recipe, images: int, limited: int | None = None) -> dict[str, Any]:
    """The published protocol of a suite, what was done `here`, and each difference as a sentence.

    `images` are the pictures of a prompt, `limited` is how many of its prompts were drawn, where not all. Other seeds are no
    difference: they are another draw of the same pictures. Of a file of your own nothing is published: its protocol is None
    throughout, and says so.
    """
    known, settings = KNOWN.get(suite.name), recipe.generate
    here = {
        "images_per_prompt": images,
        "seeds": SEEDS,
        "statistic": suite.statistic,
        "resolution": f"{settings.width}x{settings.height}" if settings.width and settings.height else None,
        "scheduler": settings.scheduler,
        "steps": settings.steps,
        "guidance": settings.guidance,
    }
    if known is None:
        told, differs = dict.fromkeys([*here, "note"]), [f"nothing is published on the prompts of {suite.source}"]
    else:
        wanted = known.protocol
        told = {"images_per_prompt": wanted.images} | {
            key: getattr(wanted, key) for key in ("seeds", "statistic", "resolution", *SETTINGS, "note")
        }
        drawn = len(suite.items) if limited is None else limited
        differs = [*_prompts(suite, drawn, known.prompts), *_drawing(wanted, here), *wanted.never_followed]
    return {"suite": suite.name, **told, "here": here, "followed": not differs, "differs": differs}


def _prompts(suite: Suite, drawn: int, published: int) -> list[str]:
    """Repetitions aside: they are drawn once, and the suite's notes tell how many there are."""
    differs = []
    if suite.read != published:
        differs.append(f"{suite.source} has {suite.read} prompts, not {published}")
    if drawn < suite.different:
        differs.append(f"{drawn} of its {suite.different} prompts were drawn")
    return differs


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
