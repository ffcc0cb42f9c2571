"""Two policies of a run, compared on held-out prompts, and the labels they learned from on the same pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aifeedback_dpo import engine, models, provenance, scorers
from aifeedback_dpo.compare import agreement, headline, metrics, policies, report, winrate
from aifeedback_dpo.compare.bootstrap import crossed
from aifeedback_dpo.compare.metrics import Metric
from aifeedback_dpo.compare.policies import Entry
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models import sampling
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN, IMPORTED
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run


def plan(run: Run, first: str, second: str) -> dict[str, Any]:
    """What would be drawn, without loading a model."""
    prompts = _prompts(run)
    entries = policies.entries(run, prompts, first, second)
    shots = [shot for entry in entries for shot in entry.shots]
    done = run.done("images")
    return {
        "run": str(run.root),
        "policies": [f"{entry.name}/seed-{entry.seed}" if entry.folder else BASE for entry in entries],
        "prompts": len(prompts),
        "images": len(shots),
        "images_to_draw": sum(shot.image_id not in done for shot in shots),
    }


def compare(run: Run, first: str, second: str, progress: engine.Progress) -> dict[str, Any]:
    """Draws and scores what is missing, writes the report, and gives its numbers; `first` and `second` are policies.

    Raises UserError when one of them, or the labels of its judge, are not here.
    """
    for name, weights in run.recipe.label.scorers.items():
        scorers.check(weights.uses or name)
    judges = [policies.judge_of(run, name) for name in (first, second)]
    agreed, disputed = _labels(run, judges)
    prompts = _prompts(run)
    entries = policies.entries(run, prompts, first, second, progress.note)
    sides = _sides(entries, first, second)
    run.record("compare", "running", judges=judges, policies=[first, second])
    _draw(run, entries, progress)
    wanted = {shot.image_id: shot.prompt for entry in entries for shot in entry.shots}
    measured = metrics.measure(run, wanted, progress)
    result = {
        "run": run.root.name,
        "compared": [first, second],
        "judges": judges,
        "labellers": sorted(policies.labellers(run, judges)),
        "simulated": [HUMAN] if run.recipe.label.raters else [],
        "labels": agreed.to_dict() if agreed else None,
        "differ_in": policies.differing_settings(entries, first, second),
        "prompts": len(prompts),
        "held_out": run.recipe.prompts.held_out,
        "confidence": run.recipe.compare.confidence,
        "metrics": [{"name": metric.name, "about": metric.about, "truth": metric.truth} for metric in measured],
        "policies": _means(run, entries, measured),
        "duels": _duels(run, entries, measured, sides),
        "training": policies.training(entries),
        **provenance.versions(),
    }
    result["headline"] = headline.sentences(result)
    report.write(run, result, report.pictures(run, entries, measured, disputed))
    run.record("compare", "done", judges=judges, policies=[first, second])
    return result


def _labels(run: Run, judges: Sequence[str]) -> tuple[agreement.Agreement | None, list[report.Disputed]]:
    """How far the two judges agree, and pairs on which they do not; nothing to say where both are one."""
    tables = {}
    for judge in judges:
        tables[judge] = {row["pair_id"]: row for row in run.rows("preferences", ["pair_id", "p_a", "margin"], judge)}
        if not tables[judge]:
            how = "" if judge in (HUMAN, CONTROL) else " --judge" if judge == CONSENSUS else " --scorer"
            command = f"ddpo label{how} {judge}" if how else "ddpo label"
            raise UserError(f"{run.root} has no preferences of judge '{judge}'; run `{command}` first")
    first, second = judges
    if first == second:
        return None, []
    if not tables[first].keys() & tables[second].keys():
        raise UserError(f"{first} and {second} judged no pair in common; run `ddpo label` again")
    both = [
        pair for pair in run.rows("pairs") if pair["pair_id"] in tables[first] and pair["pair_id"] in tables[second]
    ]
    ours, theirs = (np.array([tables[judge][pair["pair_id"]]["p_a"] for pair in both]) for judge in (first, second))
    margin = np.array([tables[second][pair["pair_id"]]["margin"] for pair in both])
    settings = run.recipe.compare
    agreed = agreement.agreement(
        ours,
        theirs,
        margin,
        [pair["prompt_id"] for pair in both],
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=derive(run.recipe.seed, "bootstrap"),
    )
    opposed = [at for at in range(len(both)) if (ours[at] - 0.5) * (theirs[at] - 0.5) < 0]
    opposed.sort(key=lambda at: (-abs(ours[at] - 0.5) - abs(theirs[at] - 0.5), -abs(margin[at])))
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    disputed = [
        report.Disputed(
            text[both[at]["prompt_id"]], both[at]["image_a"], both[at]["image_b"], float(ours[at]), float(theirs[at])
        )
        for at in opposed[: settings.gallery]
    ]
    return agreed, disputed


def _prompts(run: Run) -> list[str]:
    rows = run.rows("prompts")
    if not rows:
        raise UserError(f"{run.root} has no prompts yet; run `ddpo generate` or `ddpo import` first")
    held_out = [row["prompt"] for row in rows if row["split"] == "eval"]
    if not held_out:
        is_imported = run.recipe.prompts.source == IMPORTED
        way = (
            "of ten imported prompts about one is held out: import more" if is_imported else "run `ddpo generate` again"
        )
        raise UserError(f"{run.root} has no held-out prompts; {way}")
    return held_out


def _draw(run: Run, entries: Sequence[Entry], progress: engine.Progress) -> None:
    done = run.done("images")
    left = [entry for entry in entries if any(shot.image_id not in done for shot in entry.shots)]
    if not left:
        return
    progress.note(f"Loading {run.recipe.model.id}")
    model = models.load(run.recipe.model)
    for entry in left:
        title = f"{run.recipe.title(entry.name)}, seed {entry.seed}" if entry.folder else BASE
        sampling.take(run, model, entry.shots, progress, name=f"Drawing held-out prompts: {title}", folder=entry.folder)


def _columns(
    entries: Sequence[Entry], metric: Metric, name: str, seeds: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(training seeds, prompts); the base has one row, whatever the seeds."""
    chosen = [entry for entry in entries if entry.name == name and (name == BASE or entry.seed in seeds)]
    return np.array([[metric.values[shot.image_id] for shot in entry.shots] for entry in chosen])


def _seeds(entries: Sequence[Entry], *names: str) -> list[int]:
    """The training seeds that all of these policies have. Raises UserError where there is none."""
    found = [{entry.seed for entry in entries if entry.name == name} for name in names if name != BASE]
    common = sorted(set.intersection(*found))
    if not common:
        raise UserError(f"{' and '.join(names)} have no training seed in common; train both with the same train.seeds")
    return common


def _means(run: Run, entries: Sequence[Entry], measured: Sequence[Metric]) -> list[dict[str, Any]]:
    rows = []
    prompts = [shot.prompt for shot in entries[0].shots]
    for name in dict.fromkeys(entry.name for entry in entries):
        seeds = [entry.seed for entry in entries if entry.name == name]
        values = {
            metric.name: crossed(_columns(entries, metric, name, seeds), prompts, **_bootstrap(run)).to_dict()
            for metric in measured
        }
        rows.append({"policy": name, "seeds": seeds, "means": values})
    return rows


def _sides(entries: Sequence[Entry], first: str, second: str) -> dict[tuple[str, str], list[int]]:
    """Each policy against the base, the two against each other, and each of them against its control: who, and at which
    training seeds."""
    names = list(dict.fromkeys(entry.name for entry in entries))
    sides = [(name, BASE) for name in names if name != BASE]
    controls = [(name, headline.control(name)) for name in (first, second)]
    sides += [(second, first)] + [(name, control) for name, control in controls if control in names and name != control]
    return {side: _seeds(entries, *side) for side in sides}


def _duels(
    run: Run, entries: Sequence[Entry], measured: Sequence[Metric], sides: dict[tuple[str, str], list[int]]
) -> list[dict[str, Any]]:
    prompts = [shot.prompt for shot in entries[0].shots]
    judges = {entry.name: entry.judge for entry in entries}
    rows = []
    for (ours, theirs), seeds in sides.items():
        labelled = policies.labellers(run, (judges[ours], judges[theirs]))
        for metric in measured:
            columns = [_columns(entries, metric, name, seeds) for name in (ours, theirs)]
            fought = winrate.duel(columns[0], columns[1], prompts, **_bootstrap(run))
            side = {"policy": ours, "against": theirs, "metric": metric.name, "seeds": seeds}
            rows.append(side | {"in_loop": metric.name in labelled} | fought.to_dict())
    return rows


def _bootstrap(run: Run) -> dict[str, Any]:
    settings = run.recipe.compare
    return {
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "seed": derive(run.recipe.seed, "bootstrap"),
    }
