"""Stage 1: prompts to pictures to pairs. Pairs are drawn before anyone has seen a score, so every judge gets the same."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pyarrow as pa

from aifeedback_dpo import engine, models, prompts
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.models import sampling, shots
from aifeedback_dpo.models.shots import Shots
from aifeedback_dpo.records import IMPORTED, PAIRS, content_id, pair_id, prompt_id, rows_id
from aifeedback_dpo.seeds import derive, uniform
from aifeedback_dpo.settings import Drawer, Model, Recipe
from aifeedback_dpo.store import Run

BYTES_PER_PIXEL = 1.2


@dataclass(frozen=True)
class Plan:
    """What `ddpo generate` would do, or has done.

    `revisions` has a model's name and exact revision; `missing` says why it is unknown.
    """

    prompts: int
    images: int
    images_done: int
    pairs: int
    revisions: dict[str, str]
    disk_mb: float
    missing: str | None = None


def plan(run: Run) -> Plan:
    """Counts, without loading a model; weights or prompts that are not here are told of in `missing`."""
    try:
        sources = sources_of(run)
        found = prompts.at_hand(run)
        if found is None:  # where they are still on the hub, nothing has been drawn for them either
            return _plan(run, _wanted(run), sources, 0)
        every = shots_of(run, found)
    except ModelMissing as error:
        return replace(_plan(run, _wanted(run), [], 0), missing=str(error))
    return _plan(run, len(every.prompts), sources, _there(run, every))


def _plan(run: Run, wanted: int, sources: Sequence[shots.Source], done: int) -> Plan:
    settings = run.recipe.generate
    drawers = settings.pool or (run.recipe.model,)
    images = wanted * settings.candidates
    mean = sum(_pixels(run.recipe, drawer) for drawer in drawers) / len(drawers)
    return Plan(
        prompts=wanted,
        images=images,
        images_done=done,
        pairs=wanted * _pairs_per_prompt(run),
        revisions={source.identity.name: source.identity.revision for source in sources},
        disk_mb=round(images * mean * BYTES_PER_PIXEL / 1e6, 1),
    )


def _wanted(run: Run) -> int:
    return len(prompts.read(run).train) if run.recipe.prompts.source == IMPORTED else run.recipe.prompts.train


def _there(run: Run, every: Shots) -> int:
    """How many of these pictures are in the run."""
    return int((~absent(every.ids, run.ids("images"))).sum())


def generate(run: Run, progress: engine.Progress, place: engine.Place | None = None) -> Plan:
    """Commits the prompts, the pictures that are missing, and the pairs. Running it again does nothing twice.

    A shard does its share, and the one that finds all pictures there commits the pairs. Raises ModelMissing, before anything
    is written, where weights or prompts are not here or cannot be used; UserError for a model that is not what it was.
    """
    place = place or engine.Here()
    sources = sources_of(run)
    if prompts.at_hand(run) is None:
        progress.note(f"Reading prompts of {run.recipe.prompts.source}")
    check(run)
    found = prompts.read(run)
    every = shots_of(run, found)
    facts: dict[str, Any] = {
        "models": {source.identity.name: source.identity.revision for source in sources},
        "seed": run.recipe.seed,
        "images": len(every),
    }
    asked = list(_asked(run, every, place))
    begun = False

    def begin() -> None:
        nonlocal begun
        if not begun:
            prompts.commit(run, found)
            run.record("generate", "running", **facts)
        begun = True

    for one in asked:
        gc.collect()  # a pipeline holds itself in a circle, and the next one wants its memory
        engine.run(replace(one, begun=begin), progress, place)
    begin()
    done = len(every) if place.whole and not asked else _there(run, every)
    if done == len(every):
        run.record("generate", "done", **facts, pairs_from=_commit_pairs(run, every))
    return _plan(run, len(every.prompts), sources, done)


def _asked(run: Run, every: Shots, place: engine.Place) -> Iterator[engine.Asked[engine.Finding]]:
    """What each source has to draw. Raises ModelMissing, UserError for a model that cannot be used."""
    for number, source in enumerate(every.sources):
        own = every.drawn_by(number)
        several = f" with {source.identity.name}" if len(every.sources) > 1 else ""
        job = sampling.Drawing(run, own, source.model, f"Generating images{several}")
        if own and (found := sampling.asked(job, place.shard)).parts:
            models.check(source.model)
            yield found


def check(run: Run) -> None:
    """Raises what keeps `generate` from drawing, as far as can be told without a model: ModelMissing, UserError."""
    models.unchanged(run, [source.identity for source in sources_of(run)])
    _check_raters(run)


def _check_raters(run: Run) -> None:
    """Raises UserError, before anything is drawn, for prompts that the recipe's simulated raters cannot judge."""
    if run.recipe.label.raters != "simulated":
        return
    from aifeedback_dpo.shapes import grammar

    if strange := [text for text in prompts.read(run).train if grammar.parse(text) is None]:
        raise UserError(
            f"label.raters=simulated judge the shapes grammar only, and {strange[0]!r} is not of it; take label.raters=null"
        )


def sources_of(run: Run) -> list[shots.Source]:
    """The models that draw: the pool, or the recipe's one."""
    return [shots.source(run.recipe, drawer) for drawer in run.recipe.generate.pool or (run.recipe.model,)]


def shots_of(run: Run, found: prompts.Prompts) -> Shots:
    """Every candidate of every train prompt, in order."""
    return shots.plan(found.train, sources_of(run), run_seed=run.recipe.seed, candidates=run.recipe.generate.candidates)


def _pixels(recipe: Recipe, drawer: Model) -> int:
    """Of one picture; without a size in the recipe, what Stable Diffusion 1 draws."""
    if drawer.id == "shapes":
        return 48 * 48
    own = drawer if isinstance(drawer, Drawer) else Drawer(id=drawer.id)
    return (own.width or recipe.generate.width or 512) * (own.height or recipe.generate.height or 512)


def _commit_pairs(run: Run, every: Shots) -> str:
    """`generate.pairs` of all candidates two by two, by a seeded draw; which of the two is `a` is a draw as well.

    Gives a hash of what they follow from, which the manifest keeps: those that are there are not drawn again.
    """
    count, seed = _pairs_per_prompt(run), run.recipe.seed
    pairs_from = content_id("pairs", rows_id(every.ids), count, seed)
    if run.has("pairs", "all") and run.manifest()["made_by"].get("generate", {}).get("pairs_from") == pairs_from:
        return pairs_from
    images = every.ids.reshape(len(every.prompts), -1)
    two_by_two = list(combinations(range(images.shape[1]), 2))
    columns: dict[str, list[str]] = {name: [] for name in ("pair_id", "prompt_id", "image_a", "image_b")}
    for text, row in zip(every.prompts, images, strict=True):
        names = [name.decode() for name in row]
        drawn = [(names[one], names[other]) for one, other in two_by_two]
        if count < len(drawn):
            drawn.sort(key=lambda pair: derive(seed, "pair", *pair))
        prompt = prompt_id(text)
        for first, second in drawn[:count]:
            a, b = (first, second) if uniform(seed, "side", first, second) < 0.5 else (second, first)
            for column, value in zip(columns.values(), (pair_id(a, b), prompt, a, b), strict=True):
                column.append(value)
    chosen_by = pa.repeat(f"seeded draw of {count} from {len(two_by_two)}", len(columns["pair_id"]))
    run.commit("pairs", pa.table({**columns, "chosen_by": chosen_by}, schema=PAIRS), "all")
    return pairs_from


def _pairs_per_prompt(run: Run) -> int:
    every = run.recipe.generate.candidates * (run.recipe.generate.candidates - 1) // 2
    return min(run.recipe.generate.pairs, every)
