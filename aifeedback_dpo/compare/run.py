"""Two judges of a run, compared: their labels on the same pairs, and the policies trained on them on held-out prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aifeedback_dpo import engine, models, provenance, scorers
from aifeedback_dpo.compare import agreement, headline, metrics, report, winrate
from aifeedback_dpo.compare.bootstrap import crossed
from aifeedback_dpo.compare.metrics import Metric
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models import sampling
from aifeedback_dpo.models.sampling import Shot
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run, read_policy


@dataclass(frozen=True)
class Entry:
    """A policy of the comparison at one training seed: its shots on the held-out prompts, in prompt order."""

    name: str
    seed: int
    folder: Path | None
    shots: list[Shot]


def two_judges(run: Run, names: Sequence[str]) -> tuple[str, str]:
    """The judges meant. Raises UserError unless there are exactly two different ones."""
    judges = [run.recipe.judge(name) for name in names]
    if len(set(judges)) != 2 or len(judges) != 2:
        raise UserError(
            f"`ddpo compare` takes two different judges, as in `ddpo compare human vs ai`; got {' '.join(names)}"
        )
    return judges[0], judges[1]


def plan(run: Run, first: str, second: str) -> dict[str, Any]:
    """What would be drawn, without loading a model."""
    entries = _entries(run, first, second)
    shots = [shot for entry in entries for shot in entry.shots]
    done = run.done("images")
    return {
        "run": str(run.root),
        "policies": [f"{entry.name}/seed-{entry.seed}" if entry.folder else BASE for entry in entries],
        "prompts": len(_prompts(run)),
        "images": len(shots),
        "images_to_draw": sum(shot.image_id not in done for shot in shots),
    }


def compare(run: Run, first: str, second: str, progress: engine.Progress) -> dict[str, Any]:
    """Draws and scores what is missing, writes the report, and gives its numbers.

    Raises UserError when a judge has no preferences or no policy here.
    """
    for name, weights in run.recipe.label.scorers.items():
        scorers.check(weights.uses or name)
    agreed, disputed = _labels(run, first, second)
    entries = _entries(run, first, second, progress.note)
    sides = _sides(entries, first, second)
    prompts = _prompts(run)
    run.record("compare", "running", judges=[first, second])
    _draw(run, entries, progress)
    wanted = {shot.image_id: shot.prompt for entry in entries for shot in entry.shots}
    measured = metrics.measure(run, wanted, progress)
    result = {
        "run": run.root.name,
        "judges": [first, second],
        "labellers": sorted(_labellers(run, first, second)),
        "simulated": [HUMAN] if run.recipe.label.raters else [],
        "labels": agreed.to_dict(),
        "prompts": len(prompts),
        "held_out": run.recipe.prompts.held_out,
        "confidence": run.recipe.compare.confidence,
        "metrics": [{"name": metric.name, "about": metric.about, "truth": metric.truth} for metric in measured],
        "policies": _means(run, entries, measured),
        "duels": _duels(run, entries, measured, sides),
        "training": _training(entries),
        **provenance.versions(),
    }
    result["headline"] = headline.sentences(result)
    report.write(run, result, report.pictures(run, entries, measured, disputed))
    run.record("compare", "done", judges=[first, second])
    return result


def _labels(run: Run, first: str, second: str) -> tuple[agreement.Agreement, list[report.Disputed]]:
    tables = {}
    for judge in (first, second):
        tables[judge] = {row["pair_id"]: row for row in run.rows("preferences", ["pair_id", "p_a", "margin"], judge)}
        if not tables[judge]:
            how = "" if judge in (HUMAN, CONTROL) else " --judge" if judge == CONSENSUS else " --scorer"
            command = f"ddpo label{how} {judge}" if how else "ddpo label"
            raise UserError(f"{run.root} has no preferences of judge '{judge}'; run `{command}` first")
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
        raise UserError(f"{run.root} has no prompts yet; run `ddpo generate` first")
    held_out = [row["prompt"] for row in rows if row["split"] == "eval"]
    if not held_out:
        raise UserError(f"{run.root} has no held-out prompts; run `ddpo generate` again")
    return held_out


def _entries(run: Run, first: str, second: str, note: Callable[[str], None] | None = None) -> list[Entry]:
    """The base, the two judges' policies at every training seed, the random control, and whoever else was trained.

    A policy of somebody else that is out of date is left out, with a note.
    """
    trained = run.policies()
    for judge in (first, second):
        if judge not in trained:
            raise UserError(f"{run.root} has no policy trained on '{judge}'; run `ddpo train --judge {judge}` first")
    base, prompts = sampling.source(run.recipe), _prompts(run)
    chosen: list[tuple[str, int, Path | None]] = [(BASE, 0, None)]
    others = [judge for judge in trained if judge not in (first, second, CONTROL)]
    for judge in [first, second, *([CONTROL] if CONTROL in trained else []), *others]:
        if judge not in {name for name, _, _ in chosen}:
            chosen += [(judge, seed, run.policy_folder(judge, seed)) for seed in trained[judge]]
    entries = []
    for name, seed, folder in chosen:
        try:
            revision = _revision(run, name, folder, base.identity.revision) if folder else ""
        except UserError as error:
            if name in (first, second):
                raise
            if note:
                note(f"{name} is left out: {error}")
            continue
        source = replace(base, policy=f"{name}/seed-{seed}" if folder else BASE, policy_revision=revision)
        shots = sampling.plan(prompts, [source], run_seed=run.recipe.seed, candidates=1)
        entries.append(Entry(name, seed, folder, shots))
    return entries


def _revision(run: Run, judge: str, folder: Path, base: str) -> str:
    """A hash of the policy's weights. Raises UserError where it was trained on another base model or on other labels."""
    policy = read_policy(folder)
    trained_on = policy["base"]["revision"]
    if policy["labels"] != run.labels(judge):
        raise UserError(f"{folder} was trained on other labels than the run holds now; delete it and train it again")
    if trained_on != base:
        raise UserError(
            f"{folder} was trained on base model {trained_on[:12]}, this run's is {base[:12]}; train it again"
        )
    return provenance.weights_fingerprint(folder)


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
    """Each policy against the base, the two judges' against each other, and each of them against the control: who, and at
    which training seeds."""
    names = list(dict.fromkeys(entry.name for entry in entries))
    sides = [(name, BASE) for name in names if name != BASE]
    sides += [(second, first)] + [(name, CONTROL) for name in (first, second) if CONTROL in names and name != CONTROL]
    return {side: _seeds(entries, *side) for side in sides}


def _duels(
    run: Run, entries: Sequence[Entry], measured: Sequence[Metric], sides: dict[tuple[str, str], list[int]]
) -> list[dict[str, Any]]:
    prompts = [shot.prompt for shot in entries[0].shots]
    rows = []
    for (ours, theirs), seeds in sides.items():
        for metric in measured:
            columns = [_columns(entries, metric, name, seeds) for name in (ours, theirs)]
            fought = winrate.duel(columns[0], columns[1], prompts, **_bootstrap(run))
            side = {"policy": ours, "against": theirs, "metric": metric.name, "seeds": seeds}
            rows.append(side | {"in_loop": metric.name in _labellers(run, ours, theirs)} | fought.to_dict())
    return rows


def _labellers(run: Run, *judges: str) -> set[str]:
    """The judges, and for a consensus its members: whoever had a hand in the labels of these policies."""
    return {*judges, *(run.recipe.label.consensus.of if CONSENSUS in judges else ())}


def _bootstrap(run: Run) -> dict[str, Any]:
    settings = run.recipe.compare
    return {
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "seed": derive(run.recipe.seed, "bootstrap"),
    }


def _training(entries: Sequence[Entry]) -> dict[str, Any]:
    """How each policy was trained, and what was warned about at which training seed."""
    keys = ("method", "pairs", "ties_left_out", "beta", "beta_of_equation_14")
    told: dict[str, Any] = {}
    for entry in entries:
        if entry.folder:
            policy = read_policy(entry.folder)
            row = told.setdefault(entry.name, {key: policy[key] for key in keys} | {"warnings": {}})
            if policy["warning"]:
                row["warnings"][str(entry.seed)] = policy["warning"]
    return told
