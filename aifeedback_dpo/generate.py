"""Stage 1: prompts to pictures to pairs. Pairs are drawn before anyone has seen a score, so every judge gets the same."""

import gc
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from aifeedback_dpo import engine, models, prompts
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.models import sampling
from aifeedback_dpo.records import IMPORTED, pair_id, prompt_id
from aifeedback_dpo.seeds import derive, uniform
from aifeedback_dpo.settings import Drawer, Model, Recipe
from aifeedback_dpo.store import Run

BYTES_PER_PIXEL = 1.2


@dataclass(frozen=True)
class Plan:
    """What `ddpo generate` would do. `revisions` has a model's name and exact revision; `missing` says why it is unknown."""

    prompts: int
    images: int
    images_done: int
    pairs: int
    revisions: dict[str, str]
    disk_mb: float
    missing: str | None = None


def plan(run: Run) -> Plan:
    """Counts, without loading a model; weights or prompts that are not here are told of in `missing`."""
    settings, wanted = run.recipe.generate, _wanted(run)
    drawers = settings.pool or (run.recipe.model,)
    images = wanted * settings.candidates
    mean = sum(_pixels(run.recipe, drawer) for drawer in drawers) / len(drawers)
    known, done, missing = dict[str, str](), 0, None
    try:
        known = {source.identity.name: source.identity.revision for source in sources_of(run)}
        if prompts.at_hand(run):  # where they are still on the hub, nothing has been drawn for them either
            there = run.done("images")
            done = sum(shot.image_id in there for shot in shots_of(run))
    except ModelMissing as error:
        missing = str(error)
    return Plan(
        prompts=wanted,
        images=images,
        images_done=done,
        pairs=wanted * _pairs_per_prompt(run),
        revisions=known,
        disk_mb=round(images * mean * BYTES_PER_PIXEL / 1e6, 1),
        missing=missing,
    )


def _wanted(run: Run) -> int:
    return len(prompts.read(run).train) if run.recipe.prompts.source == IMPORTED else run.recipe.prompts.train


def generate(run: Run, progress: engine.Progress) -> Plan:
    """Commits the prompts, the pictures that are missing, and the pairs. Running it again does nothing twice.

    Raises ModelMissing, before anything is written, where weights or prompts are not here or cannot be used.
    """
    sources = sources_of(run)
    if prompts.at_hand(run) is None:
        progress.note(f"Reading prompts of {run.recipe.prompts.source}")
    shots = shots_of(run)
    _check_raters(run)
    facts = {
        "models": {source.identity.name: source.identity.revision for source in sources},
        "seed": run.recipe.seed,
        "images": len(shots),
    }
    done = run.done("images")
    begun = False
    for at, source in enumerate(sources):
        own = [shot for k, shot in enumerate(shots) if k % run.recipe.generate.candidates % len(sources) == at]
        if any(shot.image_id not in done for shot in own):
            progress.note(f"Loading {source.identity.name}")
            model = models.load(source.model)
            if not begun:  # a model that cannot be loaded leaves no run that was made by it
                _begin(run, facts)
                begun = True
            title = "Generating images" if len(sources) == 1 else f"Generating images with {source.identity.name}"
            sampling.take(run, model, own, progress, name=title)
            del model
            gc.collect()  # a pipeline holds itself in a circle, and the next one wants its memory
    if not begun:
        _begin(run, facts)
    _commit_pairs(run, shots)
    run.record("generate", "done", **facts)
    return plan(run)


def _begin(run: Run, facts: dict[str, Any]) -> None:
    prompts.commit(run)
    run.record("generate", "running", **facts)


def _check_raters(run: Run) -> None:
    """Raises UserError, before anything is drawn, for prompts that the recipe's simulated raters cannot judge."""
    if run.recipe.label.raters != "simulated":
        return
    from aifeedback_dpo.shapes import grammar

    if strange := [text for text in prompts.read(run).train if grammar.parse(text) is None]:
        raise UserError(
            f"label.raters=simulated judge the shapes grammar only, and {strange[0]!r} is not of it; take label.raters=null"
        )


def sources_of(run: Run) -> list[sampling.Source]:
    """The models that draw: the pool, or the recipe's one."""
    return [sampling.source(run.recipe, drawer) for drawer in run.recipe.generate.pool or (run.recipe.model,)]


def shots_of(run: Run) -> list[sampling.Shot]:
    """Every candidate of every train prompt, in order."""
    sources, texts = sources_of(run), prompts.read(run).train
    return sampling.plan(texts, sources, run_seed=run.recipe.seed, candidates=run.recipe.generate.candidates)


def _pixels(recipe: Recipe, drawer: Model) -> int:
    """Of one picture; without a size in the recipe, what Stable Diffusion 1 draws."""
    if drawer.id == "shapes":
        return 48 * 48
    own = drawer if isinstance(drawer, Drawer) else Drawer(id=drawer.id)
    return (own.width or recipe.generate.width or 512) * (own.height or recipe.generate.height or 512)


def _commit_pairs(run: Run, shots: list[sampling.Shot]) -> None:
    """`generate.pairs` of all candidates two by two, by a seeded draw; which of the two is `a` is a draw as well."""
    by_prompt: dict[str, list[str]] = {}
    for shot in shots:
        by_prompt.setdefault(prompt_id(shot.prompt), []).append(shot.image_id)
    count = _pairs_per_prompt(run)
    rows = []
    for prompt, images in by_prompt.items():
        every = list(combinations(images, 2))
        drawn = sorted(every, key=lambda pair: derive(run.recipe.seed, "pair", *pair))[:count]
        for first, second in drawn:
            a, b = (first, second) if uniform(run.recipe.seed, "side", first, second) < 0.5 else (second, first)
            rows.append(
                {
                    "pair_id": pair_id(a, b),
                    "prompt_id": prompt,
                    "image_a": a,
                    "image_b": b,
                    "chosen_by": f"seeded draw of {count} from {len(every)}",
                }
            )
    done = run.done("pairs")
    if any(row["pair_id"] not in done for row in rows):
        run.commit("pairs", rows, "all")


def _pairs_per_prompt(run: Run) -> int:
    every = run.recipe.generate.candidates * (run.recipe.generate.candidates - 1) // 2
    return min(run.recipe.generate.pairs, every)
