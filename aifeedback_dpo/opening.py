"""Opening a run: its folder, and its recipe held to what has been made by it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aifeedback_dpo import config
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.settings import Recipe
from aifeedback_dpo.store import Run, saved_recipe

SECTIONS = {
    "generate": ("name", "seed", "model", "prompts", "generate"),
    "import": ("name", "seed", "prompts"),
    "label": ("label",),
}
CHOICES = ("label.ai", "label.tie_band", "label.consensus")
RULES = (".slope", ".margin")  # of a scorer: preferences follow from scores anew, and a policy knows its labels by hash
PACING = ("model.offload", "generate.batch_size", "label.batch_size")


def open_run(root: Path | None, recipe: str | None, overrides: Sequence[str] = ()) -> Run:
    """The run of a folder (default `runs/<recipe>`), held to the recipe it was made by.

    Without a recipe the run's own is used, or `shapes` for a new one. Raises UserError, naming the keys, when the recipe
    contradicts what has been made already; what nothing was made with may still change.
    """
    folder = root or Path("runs") / (config.load(recipe).name if recipe else "shapes")
    saved = saved_recipe(folder)
    if recipe is None and saved is not None:
        return held_to(folder, config.load(saved.model_dump(mode="json"), overrides))
    return held_to(folder, config.load(recipe or "shapes", overrides))


def held_to(folder: Path, wanted: Recipe) -> Run:
    """The run of a folder with this very recipe. Raises UserError as `open_run` does."""
    saved = saved_recipe(folder)
    if saved is None:
        return Run(folder, wanted)
    run = Run(folder, config.with_judges_of(saved, wanted))
    used = tuple(section for stage in run.made() for section in SECTIONS.get(stage, ()))
    clash = {
        key: values
        for key, values in config.differences(saved, _as_far_as_made(run, saved)).items()
        if key.startswith(used) and not key.startswith((*CHOICES, *PACING)) and not _is_rule(key)
    }
    if clash:
        listed = "; ".join(f"{key}: {old!r} in the run, {new!r} asked for" for key, (old, new) in clash.items())
        raise UserError(f"{folder} was made by another recipe ({listed}). Choose another --run, or leave these keys")
    return run


def _as_far_as_made(run: Run, saved: Recipe) -> Recipe:
    """The run's recipe, with the saved settings of those judges that have made nothing yet: they may still change."""
    wanted, known = run.recipe.label, saved.label
    made = [name for name in known.scorers if run.parts("scores", name) or run.parts("answers", name)]
    return _relabelled(run.recipe, scorers={**known.scorers, **{name: wanted.scorers[name] for name in made}})


def _is_rule(key: str) -> bool:
    return key.startswith("label.scorers.") and key.endswith(RULES)


def _relabelled(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"label": recipe.label.model_copy(update=changes)})
