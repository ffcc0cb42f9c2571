"""Stage 1: prompts to pictures to pairs. Pairs are drawn before anyone has seen a score, so every judge gets the same."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from aifeedback_dpo import engine
from aifeedback_dpo.config import Prompts
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models import sampling
from aifeedback_dpo.records import pair_id, prompt_id
from aifeedback_dpo.seeds import derive, uniform
from aifeedback_dpo.store import Run
from aifeedback_dpo.weights import identify

BYTES_PER_PIXEL = 1.2


@dataclass(frozen=True)
class Plan:
    """What `ddpo generate` would do."""

    prompts: int
    images: int
    images_done: int
    pairs: int
    model: str
    revision: str
    disk_mb: float


def plan(run: Run) -> Plan:
    """Counts, without loading a model."""
    settings = run.recipe.generate
    shots = shots_of(run)
    done = run.done("images")
    known = identify(run.recipe.model, "pipeline")
    side = (settings.width or 512) * (settings.height or 512)
    pixels = side if run.recipe.model.id != "shapes" else 48 * 48
    return Plan(
        prompts=run.recipe.prompts.train,
        images=len(shots),
        images_done=sum(shot.image_id in done for shot in shots),
        pairs=run.recipe.prompts.train * _pairs_per_prompt(run),
        model=known.name,
        revision=known.revision,
        disk_mb=round(len(shots) * pixels * BYTES_PER_PIXEL / 1e6, 1),
    )


def generate(run: Run, progress: engine.Progress) -> Plan:
    """Commits the prompts, the pictures that are missing, and the pairs. Running it again does nothing twice."""
    from aifeedback_dpo.models import sd

    shots = shots_of(run)
    before = plan(run)
    facts = {"model": before.model, "revision": before.revision, "seed": run.recipe.seed, "images": before.images}
    _commit_prompts(run)
    run.record("generate", "running", **facts)
    if before.images_done < before.images:
        progress.note(f"Loading {before.model}")
        model = sd.load(run.recipe.model)
        sampling.take(run, model, shots, progress, name="Generating images")
    _commit_pairs(run, shots)
    run.record("generate", "done", **facts)
    return plan(run)


def shots_of(run: Run) -> list[sampling.Shot]:
    """Every candidate of every train prompt, in order."""
    known = identify(run.recipe.model, "pipeline")
    source = sampling.Source(known.name, known.revision, run.recipe.model.dtype)
    settings = run.recipe.generate
    prompts = read_prompts(run.recipe.prompts)["train"]
    return sampling.plan(prompts, source, settings, run_seed=run.recipe.seed, candidates=settings.candidates)


def read_prompts(settings: Prompts) -> dict[str, list[str]]:
    """The train and held-out prompts. Raises UserError where there are too few, naming how many there are."""
    if settings.source == "shapes":
        from aifeedback_dpo.shapes import grammar

        found = {"train": grammar.prompts("train"), "eval": grammar.prompts(settings.held_out)}
    elif settings.held_out == "tune":
        raise UserError(
            "prompts.held_out=tune goes with prompts.source=shapes; a file holds out its last prompts, as `eval`"
        )
    else:
        lines = _lines(Path(settings.source))
        if len(lines) < settings.train + settings.eval:
            raise UserError(
                f"{settings.source} has {len(lines)} different prompts; prompts.train + prompts.eval asks for "
                f"{settings.train + settings.eval}"
            )
        found = {"train": lines[: len(lines) - settings.eval], "eval": lines[len(lines) - settings.eval :]}
    for split, asked in (("train", settings.train), ("eval", settings.eval)):
        if len(found[split]) < asked:
            raise UserError(f"prompts.{split} is {asked}; {settings.source} has {len(found[split])}")
    return {"train": found["train"][: settings.train], "eval": found["eval"][: settings.eval]}


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"prompts.source: {path} cannot be read ({error.strerror}); give `shapes` or a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"prompts.source: {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return list(dict.fromkeys(" ".join(line.split()) for line in text.splitlines() if line.strip()))


def _commit_prompts(run: Run) -> None:
    """Raises UserError where the run holds other prompts already: a held-out one must never move over to training."""
    source = run.recipe.prompts.source
    there = {(row["prompt_id"], row["split"]) for row in run.rows("prompts")}
    wanted = {
        split: [
            {"prompt_id": prompt_id(text), "prompt": text, "split": split, "source": Path(source).name}
            for text in prompts
        ]
        for split, prompts in read_prompts(run.recipe.prompts).items()
    }
    keys = {(str(row["prompt_id"]), split) for split, rows in wanted.items() for row in rows}
    if moved := there - keys:
        raise UserError(
            f"{source} is not what {run.root} was made with: {len(moved)} prompts are gone or in another split. Put it "
            "back, or choose another --run"
        )
    for split, rows in wanted.items():
        if not keys <= there:
            run.commit("prompts", rows, split)


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
