"""The policies of a comparison: those that are named, those that stand beside them, and what each was trained on."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aifeedback_dpo import config, provenance
from aifeedback_dpo.compare.named import Kind, Named, control, known, trained_by
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.models import shots
from aifeedback_dpo.models.shots import Shot, Source
from aifeedback_dpo.records import BASE, CONSENSUS
from aifeedback_dpo.settings import Drawer
from aifeedback_dpo.store import Run, read_policy, saved_recipe

BETA = "half of it multiplies the difference of mean squared errors"
BETAS = {
    "sft": None,
    "mapo": "the weight of the ratio term",
}  # objectives without a reference: none, or one of their own


@dataclass(frozen=True)
class Entry:
    """A policy at one training seed: what draws, the weights that it puts on the model, and its policy.json, if it has one."""

    seed: int
    source: Source
    weights: Path | None = None
    described: dict[str, Any] | None = None

    def shots(self, prompts: Sequence[str], images: int, run_seed: int) -> Sequence[Shot]:
        """`images` pictures of each prompt, in order; their seeds are the same for every policy."""
        return shots.plan(prompts, [self.source], run_seed=run_seed, candidates=images)


@dataclass(frozen=True)
class Policy:
    """One policy, at each of its training seeds.

    `title` is its name as it is shown: simulated people are always called so, in whichever run they voted. `labellers` are
    whoever had a hand in its labels, None where nobody here can tell; `images_of` is the run whose pairs it learned from.
    """

    name: str
    title: str
    kind: Kind
    entries: tuple[Entry, ...]
    judge: str | None = None
    labellers: tuple[str, ...] | None = ()
    images_of: str | None = None
    where: str | None = None

    @property
    def seeds(self) -> list[int]:
        return [entry.seed for entry in self.entries]

    @property
    def variant(self) -> str:
        """Its train.name."""
        return self.name.rpartition("/")[2].partition("+")[2] if self.judge else ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "policy": self.name,
            "kind": self.kind,
            "judge": self.judge,
            "labellers": None if self.labellers is None else list(self.labellers),
            "images_of": self.images_of,
            "variant": self.variant,
            "seeds": self.seeds,
            "where": self.where,
            "training": _training(self.entries) if self.judge else None,
        }


def labellers(consensus_of: Iterable[str], judge: str) -> tuple[str, ...]:
    """A judge, and for a consensus its members: whoever had a hand in these labels."""
    return (judge, *(consensus_of if judge == CONSENSUS else ()))


def chosen(
    run: Run, named: Sequence[Named], beside: Sequence[Named], note: Callable[[str], None] | None = None
) -> list[Policy]:
    """The base, those that are named, those beside them, and their controls.

    One that is not named and out of date is left out, with a note. Raises UserError where one that is named is, or is not
    trained.
    """
    base = shots.source(run.recipe)
    trained, labels = run.policies(), functools.cache(run.labels)
    found = [Policy(BASE, "base model", "base", (Entry(0, base),))]
    for one in named:
        if one.kind == "run":
            if one.name not in trained:
                raise UserError(
                    f"{run.root} has no finished policy '{one.name}'; run `{trained_by(one.name)}` first. {known(run)}"
                )
            found.append(_of_run(run, one.name, base, labels))
        elif one.kind == "other run":
            found.append(_of_other_run(run, one, base))
        elif one.kind != "base":
            found.append(_of_nobody(run, one, base))
    further: list[Callable[[], Policy | None]] = []
    further += [functools.partial(_of_run, run, one.name, base, labels) for one in beside]
    further += [functools.partial(_control, run, policy, base, labels) for policy in found if policy.judge]
    for made in further:
        try:
            found += [policy] if (policy := made()) else []
        except UserError as error:
            if note:
                note(f"left out: {error}")
    return list({policy.name: policy for policy in found}.values())


def met(run: Run, found: Sequence[Policy], prompts: Sequence[str]) -> dict[str, list[str]]:
    """Those of these prompts that each policy of a run was trained on, of those that have met any; a run is read once."""
    told = {}
    learned: dict[Path, set[str]] = {}
    for policy in found:
        if policy.judge is None:
            continue
        root = run.root if policy.kind == "run" else Path(policy.where or "").resolve().parents[1]
        if root not in learned:
            rows = Run(root, run.recipe).rows("prompts", ["prompt", "split"])
            learned[root] = {row["prompt"] for row in rows if row["split"] == "train"}
        if known := [prompt for prompt in prompts if prompt in learned[root]]:
            told[policy.name] = known
    return told


def _control(run: Run, policy: Policy, base: Source, labels: Callable[[str], str]) -> Policy | None:
    """The control of a policy, if it was trained."""
    name = control(policy.name)
    if policy.kind == "run":
        return _of_run(run, name, base, labels) if name in run.policies() else None
    folder = Path(policy.where or "").resolve().parent / name.rpartition("/")[2]
    there = any(folder.glob("seed-*/policy.json"))
    return _of_other_run(run, Named("other run", name, str(folder)), base) if there else None


def differing_settings(one: Policy, other: Policy) -> dict[str, list[Any]]:
    """The settings of training in which two policies differ, as dotted keys with both values; nothing for one without any."""
    told = [policy.entries[0].described for policy in (one, other)]
    if None in told:
        return {}
    first, second = ({"train": described["inputs"]["train"]} for described in told if described)
    return {key: list(values) for key, values in config.different(first, second).items()}


def _of_run(run: Run, name: str, base: Source, labels: Callable[[str], str]) -> Policy:
    entries = []
    for seed in run.policies()[name]:
        folder = run.policy_folder(name, seed)
        described = read_policy(folder)
        if described["labels"] != labels(described["judge"]):
            raise UserError(
                f"{folder} was trained on other labels than the run holds now; delete it and train it again"
            )
        entries.append(_entry(folder, described, base, name))
    judge = str(entries[0].described["judge"]) if entries[0].described else ""
    hands = labellers(run.recipe.label.consensus.of, judge)
    return Policy(name, run.recipe.title(name), "run", tuple(entries), judge, hands, run.root.resolve().name)


def _of_other_run(run: Run, one: Named, base: Source) -> Policy:
    folder = Path(one.path or "")
    root = folder.resolve().parents[1]
    recipe = saved_recipe(root)
    if recipe is None:
        raise DataError(f"{root} has policies and no recipe.yaml, so nobody can say what they learned from")
    other = Run(root, recipe)
    seeds = sorted(other.policies()[folder.resolve().name])
    entries = []
    for seed in seeds:
        at = other.policy_folder(folder.resolve().name, seed)
        entries.append(_entry(at, read_policy(at), base, one.name))
    judge = str(entries[0].described["judge"]) if entries[0].described else ""
    hands = labellers(recipe.label.consensus.of, judge)
    title = f"{root.name}/{recipe.title(folder.resolve().name)}"
    pictures = root.name if root.name != run.root.resolve().name else f"{root.parent.name}/{root.name}"
    return Policy(one.name, title, "other run", tuple(entries), judge, hands, pictures, str(folder))


def _entry(folder: Path, described: dict[str, Any], base: Source, name: str) -> Entry:
    """Raises UserError for a policy that was trained on another base model, DataError where its weights are not its own."""
    trained_on = described["base"]["revision"]
    if trained_on != base.identity.revision:
        raise UserError(
            f"{folder} was trained on base model {trained_on[:12]}, this run's is {base.identity.revision[:12]}; train it again"
        )
    seed, weights = int(described["seed"]), provenance.weights_fingerprint(folder)
    if weights != described["weights"]:
        raise DataError(
            f"{folder} has other weights ({weights[:12]}) than those that were trained ({described['weights'][:12]}); put them "
            "back, or delete it and run `ddpo train` again"
        )
    source = replace(base, policy=f"{name}/seed-{seed}", policy_revision=weights)
    return Entry(seed, source, folder, described)


def _of_nobody(run: Run, one: Named, base: Source) -> Policy:
    """A LoRA or a pipeline from elsewhere: whose labels it learned from, and on which prompts, is not known here."""
    if one.kind == "lora":
        path = Path(one.path or "")
        source = replace(base, policy=one.name, policy_revision=provenance.file_hash(path.resolve())[:32])
        return Policy(one.name, one.name, "lora", (Entry(0, source, path),), None, None, None, one.path)
    drawer = Drawer(id=one.path or one.name, dtype=run.recipe.model.dtype, offload=run.recipe.model.offload)
    source = replace(shots.source(run.recipe, drawer), policy=one.name)
    return Policy(one.name, one.name, "model", (Entry(0, source),), None, None, None, one.path)


def _training(entries: Sequence[Entry]) -> dict[str, Any]:
    """How a policy was trained and, by training seed, how far it came and what was warned about.

    What beta means is said with it; it is None for an objective without one.
    """
    told: dict[str, Any] = {}
    for entry in entries:
        policy = entry.described
        assert policy is not None
        objective = policy["objective"]
        meaning = BETAS.get(objective, BETA)
        told = told or {
            **{key: policy[key] for key in ("objective", "method", "pairs", "ties_left_out")},
            **{key: policy["settings"][key] for key in ("learning_rate", "batch_size")},
            "beta": policy["beta"] if meaning else None,
            "beta_means": meaning,
            "beta_of_equation_14": None if objective in BETAS else policy["beta_of_equation_14"],
            "steps_asked": policy["settings"]["steps"],
            "steps": {},
            "ended_early": {},
            "warnings": {},
        }
        seed = str(entry.seed)
        told["steps"][seed] = policy["steps"]
        for key, said in (("ended_early", policy["ended_early"]), ("warnings", policy["warning"])):
            if said:
                told[key][seed] = said
    return told
