"""Stage 4: the judges of a run against each other, policies against policies, and the report."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from aifeedback_dpo import engine, provenance
from aifeedback_dpo.compare import (
    cautions,
    costs,
    drawing,
    guards,
    headline,
    judging,
    method,
    metrics,
    policies,
    report,
    standings,
    suites,
    truth,
)
from aifeedback_dpo.compare.asked import Asked, Planned, prepare
from aifeedback_dpo.compare.policies import Policy
from aifeedback_dpo.compare.prompt_sets import PromptSet
from aifeedback_dpo.compare.standings import Scored
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import HUMAN
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run

SCHEMA = 2


def compare(run: Run, asked: Asked, progress: engine.Progress, *, out: Path | None = None) -> dict[str, Any]:
    """Draws and scores what is missing, writes the report into `out` (default: the run's), and gives its numbers."""
    where = out or run.report
    if where.exists() and not where.is_dir():
        raise UserError(f"--out {where} is a file; name a folder")
    planned = prepare(run, asked, progress)
    facts: dict[str, Any] = {
        "policies": planned.compared,
        "judges": planned.judges,
        "sets": [found.name for found in planned.sets],
    }
    run.record("compare", "running", **facts)
    drawing.draw(planned.run, planned.series, progress)
    result = _result(planned, progress)
    report.write(planned.run, result, where, progress)
    run.record("compare", "done", **facts, report=str(where))
    return result


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
    result["cautions"] = cautions.told(result)
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
        left_out: dict[str, int] = {}
        prompts = {image: shot.prompt for image, shot in shots.items()}
        measured = metrics.measure(run, prompts, progress, detected, left_out)
        scored = Scored(chosen, planned.series, measured, boot)
        primary = standings.primary_metric(scored, planned.compared)
        fought = standings.duels(scored, planned.compared, primary)
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
                "left_out": left_out,
                "outside_the_grammar": truth.strangers(run, chosen.prompts),
                "trained_on": {name: len(prompts) for name, prompts in planned.met[chosen.name].items()},
                "primary": primary,
                "metrics": [metric.to_dict() for metric in measured],
                "means": standings.means(scored),
                "duels": fought,
                "factors": standings.grid(scored, primary),
                "scorers_alone": standings.scorers_alone(fought, scored, primary),
                "guards": _guards(planned, chosen, progress, spread=at == 0),
                **_published(planned, chosen, scored),
                "gallery": _gallery(scored, settings.gallery),
            }
        )
    return found


def _guards(planned: Planned, chosen: PromptSet, progress: engine.Progress, *, spread: bool) -> list[dict[str, Any]]:
    """On each policy's first training seed."""
    first = drawing.first_seeds(planned.series)
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
    first = drawing.first_seeds(scored.series)
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
            "other_pictures": one.images_of != other.images_of,
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
