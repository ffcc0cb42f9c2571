"""The policies of a comparison: which are meant, which stand beside them, and what each was trained on."""

import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aifeedback_dpo import config, provenance
from aifeedback_dpo.compare import headline
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.models import sampling
from aifeedback_dpo.models.sampling import Shot
from aifeedback_dpo.records import BASE, CONSENSUS
from aifeedback_dpo.store import Run, read_policy

BETA = "half of it multiplies the difference of mean squared errors"
BETAS = {
    "sft": None,
    "mapo": "the weight of the ratio term",
}  # objectives without a reference: none, or one of their own


@dataclass(frozen=True)
class Entry:
    """A policy of the comparison at one training seed: its shots on the held-out prompts, in prompt order.

    `described` is its policy.json, empty for the base.
    """

    name: str
    seed: int
    folder: Path | None
    shots: list[Shot]
    described: dict[str, Any]

    @property
    def judge(self) -> str | None:
        """Whose labels it was trained on."""
        return self.described.get("judge")


def two_policies(run: Run, names: Sequence[str]) -> tuple[str, str]:
    """The policies meant, trained or not. Raises UserError unless there are exactly two different ones."""
    chosen = [_named(run, name) for name in names]
    if len(set(chosen)) != 2 or len(chosen) != 2:
        raise UserError(
            "`ddpo compare` takes two different judges, or policies by name, as in `ddpo compare human vs ai` or `ddpo compare "
            f"human vs human+sft`; got {' '.join(names) or 'none'}"
        )
    return chosen[0], chosen[1]


def judge_of(run: Run, policy: str) -> str:
    """Whose labels a policy was trained on, or would be."""
    seeds = run.policies().get(policy)
    return str(read_policy(run.policy_folder(policy, seeds[0]))["judge"]) if seeds else policy.partition("+")[0]


def labellers(run: Run, judges: Iterable[str | None]) -> set[str]:
    """The judges, and for a consensus its members: whoever had a hand in these labels."""
    found = {judge for judge in judges if judge}
    return found | set(run.recipe.label.consensus.of if CONSENSUS in found else ())


def entries(
    run: Run, prompts: Sequence[str], first: str, second: str, note: Callable[[str], None] | None = None
) -> list[Entry]:
    """The base, the two policies at every training seed, their random controls, and whoever else was trained.

    A policy of somebody else that is out of date is left out, with a note. Raises UserError where one of the two is, or is
    not trained.
    """
    trained = run.policies()
    for name in (first, second):
        if name not in trained:
            raise UserError(
                f"{run.root} has no finished policy '{name}'; run `{_trained_by(name)}` first. {_known(run)}"
            )
    base, labels = sampling.source(run.recipe), functools.cache(run.labels)
    order = [first, second, headline.control(first), headline.control(second), *trained]
    found = [Entry(BASE, 0, None, sampling.plan(prompts, [base], run_seed=run.recipe.seed, candidates=1), {})]
    for name in dict.fromkeys(name for name in order if name in trained):
        for seed in trained[name]:
            folder = run.policy_folder(name, seed)
            described = read_policy(folder)
            try:
                _refuse_outdated(folder, described, labels(described["judge"]), base.identity.revision)
            except UserError as error:
                if name in (first, second):
                    raise
                if note:
                    note(f"{run.recipe.title(name)} is left out: {error}")
                continue
            weights = provenance.weights_fingerprint(folder)
            source = replace(base, policy=f"{name}/seed-{seed}", policy_revision=weights)
            shots = sampling.plan(prompts, [source], run_seed=run.recipe.seed, candidates=1)
            found.append(Entry(name, seed, folder, shots, described))
    return found


def training(found: Sequence[Entry]) -> dict[str, Any]:
    """How each policy was trained and, by training seed, how far it came and what was warned about.

    What beta means is said with it; it is None for an objective without one.
    """
    told: dict[str, Any] = {}
    for entry in found:
        if not entry.folder:
            continue
        policy, seed = entry.described, str(entry.seed)
        objective = policy["objective"]
        meaning = BETAS.get(objective, BETA)
        row = {key: policy[key] for key in ("judge", "objective", "method", "pairs", "ties_left_out")} | {
            "beta": policy["beta"] if meaning else None,
            "beta_means": meaning,
            "beta_of_equation_14": None if objective in BETAS else policy["beta_of_equation_14"],
            "steps_asked": policy["settings"]["steps"],
            "steps": {},
            "ended_early": {},
            "warnings": {},
        }
        row = told.setdefault(entry.name, row)
        row["steps"][seed] = policy["steps"]
        for key, said in (("ended_early", policy["ended_early"]), ("warnings", policy["warning"])):
            if said:
                row[key][seed] = said
    return told


def differing_settings(found: Sequence[Entry], first: str, second: str) -> dict[str, list[Any]]:
    """The settings of training in which two policies differ, as dotted keys with both values."""
    one, other = (
        next({"train": entry.described["inputs"]["train"]} for entry in found if entry.name == name)
        for name in (first, second)
    )
    return {key: list(values) for key, values in config.different(one, other).items()}


def _named(run: Run, name: str) -> str:
    """The policy that a name stands for: `ai+sft` is `pickscore+sft` where the recipe's `ai` is pickscore.

    Raises UserError, with the policies there are, for a judge nobody knows and for a policy of another train.name that
    nobody trained. What a known judge lacks, labels or a policy, is told where it is missed.
    """
    trained = run.policies()
    if name in trained:
        return name
    judge, plus, variant = name.partition("+")
    try:
        policy = f"{run.recipe.judge(judge)}{plus}{variant}"
    except UserError as error:
        raise UserError(f"{error}. {_known(run)}") from error
    if plus and policy not in trained:
        near = difflib.get_close_matches(policy, trained, n=1)
        hint = f", did you mean '{near[0]}'?" if near else "."
        raise UserError(f"no finished policy '{policy}'{hint} `{_trained_by(policy)}` makes it. {_known(run)}")
    return policy


def _known(run: Run) -> str:
    return f"Trained here: {', '.join(run.policies()) or 'none'}"


def _trained_by(policy: str) -> str:
    judge, _, variant = policy.partition("+")
    return f"ddpo train --judge {judge}" + (f" train.name={variant}" if variant else "")


def _refuse_outdated(folder: Path, policy: dict[str, Any], labels: str, base: str) -> None:
    """Raises UserError for a policy that was trained on another base model, or on other labels than its judge's now."""
    trained_on = policy["base"]["revision"]
    if policy["labels"] != labels:
        raise UserError(f"{folder} was trained on other labels than the run holds now; delete it and train it again")
    if trained_on != base:
        raise UserError(
            f"{folder} was trained on base model {trained_on[:12]}, this run's is {base[:12]}; train it again"
        )
