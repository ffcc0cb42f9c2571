"""What one `ddpo compare` asks for, found out before a model is loaded or a picture drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aifeedback_dpo import engine, judges, scorers
from aifeedback_dpo.compare import drawing, guards, judging, named, policies, prompt_sets, standings, suites
from aifeedback_dpo.compare.drawing import Series
from aifeedback_dpo.compare.policies import Policy
from aifeedback_dpo.compare.prompt_sets import PromptSet
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, HUMAN
from aifeedback_dpo.store import Run

DEFAULT = (HUMAN, "ai")


@dataclass(frozen=True)
class Asked:
    """What one command asks for: policies by name, judges by name, suites, further scorers; nothing is the run's own.

    `limit` is how many prompts of each suite are taken.
    """

    names: Sequence[str] = ()
    judges: Sequence[str] = ()
    suites: Sequence[str] = ()
    scorers: Sequence[str] = ()
    limit: int | None = None


@dataclass(frozen=True)
class Planned:
    """What is compared, before anything is drawn."""

    run: Run
    compared: list[str]
    judges: list[str]
    policies: list[Policy]
    sets: list[PromptSet]
    met: dict[str, dict[str, list[str]]]  # by prompt set and policy, the prompts that it was trained on
    series: list[Series]


def prepare(run: Run, asked: Asked, progress: engine.Progress | None = None) -> Planned:
    """Finds out what is meant, without loading a model.

    Raises UserError for a name that stands for nothing, and for a run that has neither policies nor preferences; ModelMissing.
    """
    for name, weights in run.recipe.label.scorers.items():
        scorers.check(weights.uses or name)
    if asked.scorers:
        run = replace(run, recipe=judges.asked(run.recipe, list(asked.scorers), [])[0])
    known = judging.known(run)
    chosen = _judges(run, asked.judges, known)
    meant, beside = _meant(run, asked, known)
    sets = _sets(run, asked) if meant else []
    found = policies.chosen(run, meant, beside, progress.note if progress else None) if meant else []
    met = _met(run, found, sets)
    for prompts in sets:
        guards.check(run.recipe.compare, prompts.suite.reference if prompts.suite else None)
    compared = [one.name for one in meant]
    if compared == [BASE]:
        raise UserError(
            "the base model stands beside whatever is compared; name a policy as well, as in `ddpo compare base human`"
        )
    if meant:
        standings.sides(found, compared)
    return Planned(run, compared, chosen, found, sets, met, drawing.plan(run, found, sets))


def plan(run: Run, asked: Asked) -> dict[str, Any]:
    """What would be drawn, without loading a model."""
    planned = prepare(run, asked)
    done = run.done("images")
    shots = {shot.image_id for one in planned.series for shot in one.shots}
    return {
        "run": str(run.root),
        "compared": planned.compared,
        "policies": [one.title for one in planned.series],
        "judges": planned.judges,
        "sets": {found.name: len(found.prompts) for found in planned.sets},
        "images": len(shots),
        "images_to_draw": len(shots - done),
    }


def _judges(run: Run, asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """The judges to be compared. Raises UserError for one without preferences, with the command that makes them."""
    if not asked:
        return list(known)
    chosen = list(dict.fromkeys(run.recipe.judge(name) for name in asked))
    for name in chosen:
        if name not in known:
            how = "" if name == HUMAN else f" --scorer {name}"
            raise UserError(
                f"{run.root} has no preferences of judge '{name}'; run `ddpo label{how}` first. There are: "
                f"{', '.join(known) or 'none'}"
            )
    return chosen


def _meant(run: Run, asked: Asked, known: Sequence[str]) -> tuple[list[named.Named], list[named.Named]]:
    """The policies to be compared and, where none are named, whoever else was trained, to stand beside the question's two.

    Judges alone are compared where they are asked for, or where nothing has been trained yet.
    """
    names = [name for name in asked.names if name != "vs"]
    if not names and (asked.judges or (known and not run.policies())):
        return [], []
    meant = named.resolve(run, names or list(DEFAULT))
    if len(meant) < len(names) and len(meant) < 2:
        raise UserError(f"{' and '.join(names)} are one policy; name two different ones")
    others = [] if names else named.resolve(run, list(run.policies()))
    return meant, [one for one in others if one not in meant]


def _met(run: Run, found: Sequence[Policy], sets: Sequence[PromptSet]) -> dict[str, dict[str, list[str]]]:
    """By prompt set and policy, the prompts that it was trained on.

    Raises UserError for a policy of another run that has learned from the prompts that this run holds out.
    """
    told = {chosen.name: policies.met(run, found, chosen.prompts) for chosen in sets}
    for name, known in told.get(prompt_sets.HELD_OUT, {}).items():
        where = next(policy.where or policy.name for policy in found if policy.name == name)
        count = next(len(chosen.prompts) for chosen in sets if chosen.name == prompt_sets.HELD_OUT)
        raise UserError(
            f"{where} was trained on {len(known)} of the {count} held-out prompts of {run.root} (first: {known[0]!r}); compare "
            "on prompts that neither has met, with --suite FILE"
        )
    return told


def _sets(run: Run, asked: Asked) -> list[PromptSet]:
    if asked.limit and not asked.suites:
        raise UserError(f"--limit {asked.limit} takes prompts of a suite; name one with --suite, or leave it out")
    if not asked.suites:
        return [prompt_sets.held_out(run)]
    found: list[PromptSet] = []
    for spec in asked.suites:
        if spec == prompt_sets.HELD_OUT:
            found.append(prompt_sets.held_out(run))
            continue
        suite = suites.load(spec)
        fewer = suites.limited(suite, asked.limit) if asked.limit else suite
        found.append(prompt_sets.of_suite(fewer, limited=len(fewer.items) < len(suite.items)))
    names = [chosen.name for chosen in found]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise UserError(f"two prompt sets are called '{twice[0]}'; name each once, and give files names of their own")
    return found
