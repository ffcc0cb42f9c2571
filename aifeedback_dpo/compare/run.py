"""Stage 4: the judges of a run against each other, policies against policies, and the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from aifeedback_dpo import engine, judges, provenance, scorers
from aifeedback_dpo.compare import (
    costs,
    drawing,
    guards,
    headline,
    judging,
    method,
    metrics,
    named,
    policies,
    prompt_sets,
    report,
    standings,
    suites,
)
from aifeedback_dpo.compare.drawing import Series
from aifeedback_dpo.compare.policies import Policy
from aifeedback_dpo.compare.prompt_sets import PromptSet
from aifeedback_dpo.compare.standings import Scored
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, HUMAN
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run

SCHEMA = 2
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
    _refuse_met(run, found, sets)
    for prompts in sets:
        guards.check(run.recipe.compare, prompts.suite.reference if prompts.suite else None)
    compared = [one.name for one in meant]
    if compared == [BASE]:
        raise UserError(
            "the base model stands beside whatever is compared; name a policy as well, as in `ddpo compare base human`"
        )
    if meant:
        standings.sides(found, compared)
    return Planned(run, compared, chosen, found, sets, drawing.plan(run, found, sets))


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


def compare(run: Run, asked: Asked, progress: engine.Progress, *, out: Path | None = None) -> dict[str, Any]:
    """Draws and scores what is missing, writes the report into `out` (default: the run's), and gives its numbers."""
    planned = prepare(run, asked, progress)
    run, where = planned.run, out or run.report
    facts = {"policies": planned.compared, "judges": planned.judges, "sets": [found.name for found in planned.sets]}
    run.record("compare", "running", **facts)
    drawing.draw(run, planned.series, progress)
    result = _result(planned, progress)
    report.write(run, result, where, progress)
    run.record("compare", "done", **facts, report=str(where))
    return result


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
    if len(meant) < len(set(names)) and len(meant) < 2:
        raise UserError(f"{' and '.join(names)} are one policy; name two different ones")
    others = [] if names else named.resolve(run, list(run.policies()))
    return meant, [one for one in others if one not in meant]


def _refuse_met(run: Run, found: Sequence[Policy], sets: Sequence[PromptSet]) -> None:
    """Raises UserError for a policy of another run that has learned from the prompts that this run holds out."""
    for policy in found:
        for chosen in sets:
            if chosen.name == prompt_sets.HELD_OUT and (met := policies.met(run, policy, chosen.prompts)):
                raise UserError(
                    f"{policy.where or policy.name} was trained on {len(met)} of the {len(chosen.prompts)} held-out prompts of "
                    f"{run.root} (first: {met[0]!r}); compare on prompts that neither has met, with --suite FILE"
                )


def _sets(run: Run, asked: Asked) -> list[PromptSet]:
    if not asked.suites:
        return [prompt_sets.held_out(run)]
    found = []
    for spec in asked.suites:
        if spec == prompt_sets.HELD_OUT:
            found.append(prompt_sets.held_out(run))
            continue
        suite = suites.load(spec)
        fewer = suites.limited(suite, asked.limit) if asked.limit else suite
        found.append(prompt_sets.of_suite(fewer, limited=len(fewer.items) < len(suite.items)))
    return found


def _result(planned: Planned, progress: engine.Progress) -> dict[str, Any]:
    run = planned.run
    settings = run.recipe.compare
    told = [policy.to_dict() for policy in planned.policies]
    hands = {judge for row in told for judge in row["labellers"] or ()}
    titles = {judge: run.recipe.title(judge) for judge in sorted({*planned.judges, *hands})}
    result: dict[str, Any] = {
        "schema_version": SCHEMA,
        "run": run.root.resolve().name,
        "recipe": run.recipe.name,
        "made": provenance.now(),
        **provenance.versions(),
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "titles": titles | {policy.name: policy.title for policy in planned.policies},
        "simulated": [HUMAN] if run.recipe.label.raters else [],
        "compared": planned.compared,
        "policies": told,
        "sets": _measured(planned, progress),
        "differ_in": _differ(planned),
        "judges": judging.judges(run, planned.judges, progress) if planned.judges else None,
        "costs": costs.costs(run, _folders(planned.policies), planned.judges),
    }
    result["headline"] = headline.sentences(result)
    result["cautions"] = headline.cautions(result)
    result["method"] = method.paragraph(result, json.loads(run.recipe.model_dump_json()))
    return result


def _measured(planned: Planned, progress: engine.Progress) -> list[dict[str, Any]]:
    """The numbers of each prompt set."""
    run, found = planned.run, []
    settings = run.recipe.compare
    boot = {
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "seed": derive(run.recipe.seed, "bootstrap"),
    }
    for at, chosen in enumerate(planned.sets):
        shots = {shot.image_id: shot for one in planned.series for shot in one.compared[chosen.name]}
        detected = None
        if chosen.suite is not None and chosen.suite.detects:
            items = {item.prompt: item for item in chosen.suite.items}
            detected = {image: items[shot.prompt] for image, shot in shots.items()}
        measured = metrics.measure(run, {image: shot.prompt for image, shot in shots.items()}, progress, detected)
        scored = Scored(chosen, planned.series, measured, boot)
        fought = standings.duels(scored, planned.compared)
        primary = standings.primary_metric(scored, planned.compared)
        found.append(
            {
                "set": chosen.name,
                "about": chosen.about,
                "source": chosen.source,
                "prompts": len(chosen.prompts),
                "images_per_prompt": chosen.images,
                "statistic": chosen.statistic,
                "categories": chosen.categories,
                "notes": list(chosen.suite.notes) if chosen.suite else [],
                "trained_on": {
                    policy.name: len(met)
                    for policy in planned.policies
                    if (met := policies.met(run, policy, chosen.prompts))
                },
                "primary": primary,
                "metrics": [metric.to_dict() for metric in measured],
                "means": standings.means(scored),
                "duels": fought,
                "factors": standings.grid(scored, primary),
                "scorers_alone": standings.scorers_alone(fought, scored, planned.compared),
                "guards": _guards(planned, chosen, progress, spread=at == 0),
                **_published(planned, chosen, scored),
                "gallery": _gallery(scored, settings.gallery),
            }
        )
    return found


def _guards(planned: Planned, chosen: PromptSet, progress: engine.Progress, *, spread: bool) -> list[dict[str, Any]]:
    """On each policy's first training seed."""
    first = list({one.policy.name: one for one in reversed(planned.series)}.values())[::-1]
    pictures = {one.policy.name: [shot.image_id for shot in one.compared[chosen.name]] for one in first}
    several = (
        {one.policy.name: [[shot.image_id for shot in shots] for shots in one.spread] for one in first}
        if spread
        else {}
    )
    reference = chosen.suite.reference if chosen.suite else None
    own = planned.run.recipe.compare.reference
    paired = None
    if chosen.suite and reference:
        real = {item.prompt: reference / item.data["image"] for item in chosen.suite.items if "image" in item.data}
        paired = {prompt: real[prompt] for prompt in chosen.prompts if prompt in real} or None
    folder = reference or (Path(own) if own else None)
    return guards.measure(planned.run, pictures, several, progress, reference=folder, paired=paired)


def _published(planned: Planned, chosen: PromptSet, scored: Scored) -> dict[str, Any]:
    """A suite's protocol, what differs from it here, and what others have published under it."""
    if chosen.suite is None:
        return {"protocol": None, "published": []}
    drawn = len(chosen.prompts) if chosen.limited else None
    how = suites.protocol(chosen.suite, recipe=planned.run.recipe, images=chosen.images, limited=drawn)
    names = [metric.name for metric in scored.metrics]
    return {"protocol": how, "published": suites.published(chosen.suite, names, how["differs"])}


def _gallery(scored: Scored, count: int) -> list[dict[str, Any]]:
    """The first prompts, not a choice; each policy at its first training seed and its first picture."""
    first = list({one.policy.name: one for one in reversed(scored.series)}.values())[::-1]
    rows = []
    for at, prompt in enumerate(scored.prompts.prompts[:count]):
        images = []
        for one in first:
            image = one.compared[scored.prompts.name][at * scored.prompts.images].image_id
            images.append(
                {
                    "policy": one.policy.name,
                    "image": image,
                    "scores": {metric.name: metric.values[image] for metric in scored.metrics},
                }
            )
        rows.append({"prompt": prompt, "category": (scored.prompts.category or {}).get(prompt), "images": images})
    return rows


def _differ(planned: Planned) -> list[dict[str, Any]]:
    """In which settings of training those compared differ, two by two."""
    there = {policy.name: policy for policy in planned.policies}
    chosen = [there[name] for name in planned.compared if there[name].judge]
    return [
        {
            "policy": other.name,
            "against": one.name,
            "same_judge": one.judge == other.judge,
            "settings": policies.differing_settings(one, other),
        }
        for one, other in combinations(chosen, 2)
    ]


def _folders(found: Sequence[Policy]) -> list[dict[str, Any]]:
    return [
        {
            "policy": policy.name,
            "judge": policy.judge,
            "folders": [entry.weights for entry in policy.entries if entry.weights],
        }
        for policy in found
        if policy.judge
    ]
