"""The prompts that policies are compared on: the run's held-out ones, or those of a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import IMPORTED
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.compare.suites import Suite

HELD_OUT = "held-out"


@dataclass(frozen=True)
class PromptSet:
    """Different prompts, in order, and how many pictures each gets; `category` has those that belong to one."""

    name: str
    about: str
    source: str
    prompts: Sequence[str]
    images: int
    statistic: str = "mean"
    category: Mapping[str, str] | None = None
    suite: "Suite | None" = None
    limited: bool = False

    @property
    def categories(self) -> list[str]:
        """In order of first appearance; one alone would say what the whole says."""
        found = list(dict.fromkeys((self.category or {}).values()))
        return found if len(found) > 1 else []


def held_out(run: Run) -> PromptSet:
    """The prompts that nobody trains on. Raises UserError where there are none."""
    rows = run.rows("prompts")
    if not rows:
        raise UserError(f"{run.root} has no prompts yet; run `ddpo generate` or `ddpo import` first")
    chosen = [row for row in rows if row["split"] == "eval"]
    if not chosen:
        way = (
            "of ten imported prompts about one is held out: import more"
            if run.recipe.prompts.source == IMPORTED
            else "run `ddpo generate` again"
        )
        raise UserError(f"{run.root} has no held-out prompts; {way}")
    prompts = [row["prompt"] for row in chosen]
    scenes = {prompt: scene for prompt in prompts if (scene := grammar.parse(prompt)) is not None}
    split = f", split {run.recipe.prompts.held_out}" if run.recipe.prompts.source == "shapes" else ""
    return PromptSet(
        name=HELD_OUT,
        about=f"the run's held-out prompts, on which nobody trains{split}",
        source=chosen[0]["source"],
        prompts=prompts,
        images=run.recipe.compare.images,
        category={prompt: scene.category for prompt, scene in scenes.items()} if len(scenes) == len(prompts) else None,
    )


def of_suite(suite: "Suite", *, limited: bool = False) -> PromptSet:
    """A suite's prompts, with as many pictures each as its protocol asks; `limited` says that not all of them are there."""
    return PromptSet(
        name=suite.name,
        about=suite.about,
        source=suite.source,
        prompts=[item.prompt for item in suite.items],
        images=suite.images,
        statistic=suite.statistic,
        category={item.prompt: item.category for item in suite.items if item.category} or None,
        suite=suite,
        limited=limited,
    )
