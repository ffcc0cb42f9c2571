"""Paired pictures: each policy draws the same prompts from the same seeds by the same sampler, once and for all."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aifeedback_dpo import engine, models
from aifeedback_dpo.compare.policies import Entry, Policy
from aifeedback_dpo.compare.prompt_sets import PromptSet
from aifeedback_dpo.models import sampling
from aifeedback_dpo.models.shots import Shot
from aifeedback_dpo.records import BASE
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Series:
    """All that one policy at one training seed draws: the pictures to compare, and those that show its spread."""

    policy: Policy
    entry: Entry
    compared: dict[str, Sequence[Shot]]  # by prompt set
    spread: list[Sequence[Shot]]  # of each prompt

    @property
    def shots(self) -> list[Shot]:
        """Every picture once."""
        wanted = [shot for shots in self.compared.values() for shot in shots]
        wanted += [shot for shots in self.spread for shot in shots]
        return list({shot.image_id: shot for shot in wanted}.values())

    @property
    def title(self) -> str:
        return self.policy.name if self.policy.kind == BASE else f"{self.policy.name}/seed-{self.entry.seed}"


def plan(run: Run, policies: Sequence[Policy], sets: Sequence[PromptSet]) -> list[Series]:
    """What is to be drawn, drawn or not. The spread is measured on the first set, under the first training seed."""
    seed, settings = run.recipe.seed, run.recipe.compare
    found = []
    for policy in policies:
        for entry in policy.entries:
            prompts = list(sets[0].prompts[: settings.spread_prompts]) if entry is policy.entries[0] and sets else []
            each = [entry.shots([prompt], settings.spread_images, seed) for prompt in prompts]
            compared = {chosen.name: entry.shots(chosen.prompts, chosen.images, seed) for chosen in sets}
            found.append(Series(policy, entry, compared, each))
    return found


def first_seeds(series: Sequence[Series]) -> list[Series]:
    """Each policy at its first training seed, in order."""
    return list({one.policy.name: one for one in reversed(series)}.values())[::-1]


def draw(run: Run, series: Sequence[Series], progress: engine.Progress) -> None:
    """Draws what is missing; a model is loaded once for all that it draws, and not at all where nothing is."""
    done = run.done("images")
    left = [one for one in series if any(shot.image_id not in done for shot in one.shots)]
    for source, group in _by_model(left):
        progress.note(f"Loading {source.id}")
        model = models.load(source)
        for one in group:
            trained = one.policy.judge is not None
            name = f"Drawing {one.policy.title}" + (f", seed {one.entry.seed}" if trained else "")
            sampling.take(run, model, one.shots, progress, name=name, weights=one.entry.weights)
        del model
        gc.collect()  # a pipeline holds itself in a circle, and the next one wants its memory


def _by_model(series: Sequence[Series]) -> Iterator[tuple[Model, list[Series]]]:
    groups: dict[str, list[Series]] = {}
    for one in series:
        groups.setdefault(one.entry.source.identity.revision, []).append(one)
    for group in groups.values():
        yield group[0].entry.source.model, group
