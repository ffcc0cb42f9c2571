"""Stage 1: prompts to pictures to pairs. Pairs are drawn before anyone has seen a score, so every judge gets the same."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import pyarrow as pa

from aifeedback_dpo import engine, models, prompts
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.models import sampling, shots
from aifeedback_dpo.models.shots import Shots
from aifeedback_dpo.records import IMPORTED, PAIRS, pair_id, prompt_id
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
    settings, wanted = run.recipe.generate, _wanted(run)
    drawers = settings.pool or (run.recipe.model,)
    images = wanted * settings.candidates
    mean = sum(_pixels(run.recipe, drawer) for drawer in drawers) / len(drawers)
    known, done, missing = dict[str, str](), 0, None
    try:
        known = {source.identity.name: source.identity.revision for source in sources_of(run)}
        if prompts.at_hand(run):  # where they are still on the hub, nothing has been drawn for them either
            done = int((~absent(shots_of(run).ids, run.ids("images"))).sum())
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


def generate(run: Run, progress: engine.Progress, place: engine.Place | None = None) -> Plan:
    """Commits the prompts, the pictures that are missing, and the pairs. Running it again does nothing twice.

    A shard does its share, and the one that finds all pictures there commits the pairs. Raises ModelMissing, before anything
    is written, where weights or prompts are not here or cannot be used; UserError for a model that is not what it was.
    """
    place = place or engine.Here()
    if prompts.at_hand(run) is None:
        progress.note(f"Reading prompts of {run.recipe.prompts.source}")
    check(run)
    every, sources = shots_of(run), sources_of(run)
    facts = {
        "models": {source.identity.name: source.identity.revision for source in sources},
        "seed": run.recipe.seed,
        "images": len(every),
    }
    asked = list(_asked(run, every, place))
    begun = False

    def begin() -> None:
        nonlocal begun
        if not begun:
            prompts.commit(run)
            run.record("generate", "running", **facts)
        begun = True

    for one in asked:
        gc.collect()  # a pipeline holds itself in a circle, and the next one wants its memory
        engine.run(replace(one, begun=begin), progress, place)
    begin()
    if not absent(every.ids, run.ids("images")).any():
        _commit_pairs(run, every)
        run.record("generate", "done", **facts)
    return plan(run)


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


def shots_of(run: Run) -> Shots:
    """Every candidate of every train prompt, in order."""
    sources, texts = sources_of(run), prompts.read(run).train
    return shots.plan(texts, sources, run_seed=run.recipe.seed, candidates=run.recipe.generate.candidates)


def _pixels(recipe: Recipe, drawer: Model) -> int:
    """Of one picture; without a size in the recipe, what Stable Diffusion 1 draws."""
    if drawer.id == "shapes":
        return 48 * 48
    own = drawer if isinstance(drawer, Drawer) else Drawer(id=drawer.id)
    return (own.width or recipe.generate.width or 512) * (own.height or recipe.generate.height or 512)


def _commit_pairs(run: Run, every: Shots) -> None:
    """`generate.pairs` of all candidates two by two, by a seeded draw; which of the two is `a` is a draw as well."""
    count, seed = _pairs_per_prompt(run), run.recipe.seed
    images = every.ids.reshape(len(every.prompts), -1)
    two_by_two = list(combinations(range(images.shape[1]), 2))
    chosen_by = f"seeded draw of {count} from {len(two_by_two)}"
    columns: dict[str, list[str]] = {name: [] for name in PAIRS.names}
    for text, row in zip(every.prompts, images, strict=True):
        names = [name.decode() for name in row]
        drawn = [(names[one], names[other]) for one, other in two_by_two]
        if count < len(drawn):
            drawn.sort(key=lambda pair: derive(seed, "pair", *pair))
        prompt = prompt_id(text)
        for first, second in drawn[:count]:
            a, b = (first, second) if uniform(seed, "side", first, second) < 0.5 else (second, first)
            for name, value in zip(PAIRS.names, (pair_id(a, b), prompt, a, b, chosen_by), strict=True):
                columns[name].append(value)
    table = pa.table(columns, schema=PAIRS)
    if absent(table["pair_id"], run.ids("pairs")).any():
        run.commit("pairs", table, "all")


def _pairs_per_prompt(run: Run) -> int:
    every = run.recipe.generate.candidates * (run.recipe.generate.candidates - 1) // 2
    return min(run.recipe.generate.pairs, every)
