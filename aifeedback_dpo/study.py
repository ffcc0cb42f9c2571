"""The 2 x 2: label source by image source. A run for each image source, each judge's policy on each, and one comparison.

    runs/human-vs-ai/            the study: its recipe, its report
    runs/human-vs-ai/own/        an ordinary run, of the first image source; its held-out prompts are everybody's
    runs/human-vs-ai/other/      another one: other pictures, the same prompts to train on, or those of an imported set

Later work confounds labels with the pictures that they were given to (RankDPO's table, arXiv:2410.18013: people labelled
Pick-a-Pic's pictures, scorers other ones). Here both vary alone. Every stage goes on where it was stopped, and so does the
study: it is its stages, in order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aifeedback_dpo import config, engine, generate, importing, judges, label, models, opening, prompts, votes
from aifeedback_dpo.compare import prompt_sets
from aifeedback_dpo.errors import DdpoError, ModelMissing, UserError
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN, IMPORTED
from aifeedback_dpo.scorers import presence
from aifeedback_dpo.settings import Recipe, ScorerWeights
from aifeedback_dpo.settings.comparison import ImageSource, ImportedSet, Study, Variant
from aifeedback_dpo.sources import Asked
from aifeedback_dpo.store import Run

LOOKED_AT = 1000
"""Rows of a set that are looked at before anything is made."""


@dataclass(frozen=True)
class Arm:
    """One image source: its run, and the judges that its policies learn from, by train.name ("" is the recipe's own).

    `without` are the judges that cannot be here yet, and why. The run's recipe has no study: it is a run like any other.
    """

    name: str
    source: ImageSource
    run: Run
    variants: Mapping[str, Variant]
    trained: dict[str, tuple[str, ...]]
    without: dict[str, str]

    def variant(self, name: str) -> Run:
        """The run with the settings of training that make this variant."""
        if not name:
            return self.run
        settings = {"train": {**self.variants[name].train, "name": name}}
        return replace(self.run, recipe=config.changed(self.run.recipe, settings))

    def policies(self) -> Iterator[tuple[str, int]]:
        """Every policy of it by name, with a training seed."""
        for variant, names in self.trained.items():
            recipe = self.variant(variant).recipe
            for name in names:
                yield from ((recipe.policy(name), seed) for seed in recipe.train.seeds)

    def finished(self) -> list[str]:
        """Those that are there at some training seed, in order."""
        there = self.run.policies()
        return [policy for policy in dict.fromkeys(policy for policy, _ in self.policies()) if policy in there]


@dataclass(frozen=True)
class Opened:
    """A study on disk."""

    root: Path
    recipe: Recipe
    arms: list[Arm]

    @property
    def report(self) -> Path:
        return self.root / "report"


def open_study(root: Path | None, recipe: str | None, overrides: list[str]) -> Opened:
    """The study of a folder (default `runs/<recipe>`).

    Raises UserError for a recipe without a study, for a judge that nobody knows, and where the recipe contradicts what has been
    made.
    """
    run = opening.open_run(
        root, recipe or (None if root and (root / "recipe.yaml").exists() else "human-vs-ai"), overrides
    )
    study = run.recipe.study
    if study is None:
        raise UserError(f"recipe {run.recipe.name} has no `study`; take --recipe human-vs-ai, or write one as it does")
    return Opened(run.root, run.recipe, [_arm(run, study, name) for name in study.images])


def _arm(run: Run, study: Study, name: str) -> Arm:
    source = study.images[name]
    settings: dict[str, Any] = {**source.settings, "study": None}
    if source.imported or source.prompts_of:
        settings["prompts"] = {**settings.get("prompts", {}), "source": IMPORTED}
    try:
        recipe = config.changed(run.recipe, settings)
        arm = Arm(name, source, opening.held_to(run.root / name, recipe), study.variants, {}, {})
        wanted = {"": recipe.train.judges, **{variant: chosen.judges for variant, chosen in study.variants.items()}}
        trained = {variant: tuple(dict.fromkeys(map(recipe.judge, names))) for variant, names in wanted.items()}
        for variant in trained:
            arm.variant(variant)
    except UserError as error:
        raise UserError(f"study.images.{name}: {error}") from error
    without = {}
    if any(HUMAN in names for names in trained.values()) and not _have_people(arm):
        without[HUMAN] = f"nobody has voted on these pictures: `ddpo annotate --run {arm.run.root}` asks people"
        trained = {variant: tuple(judge for judge in names if judge != HUMAN) for variant, names in trained.items()}
    return replace(arm, trained={variant: names for variant, names in trained.items() if names}, without=without)


def _have_people(arm: Arm) -> bool:
    """Whether human preferences are there, or will be once the pictures are."""
    settings = arm.run.recipe.label
    return settings.raters is not None or arm.source.imported is not None or bool(arm.run.parts("preferences", HUMAN))


def plan(study: Opened) -> list[dict[str, Any]]:
    """What is to be done for each image source, stage by stage, and how much of it is; loads no model and writes nothing."""
    rows = []
    for arm in study.arms:
        run = arm.run
        pairs = len(run.done("pairs"))
        if arm.source.imported:
            rows.append(_row(arm, "import", arm.source.imported.path, pairs, None))
        elif _waits(arm):
            rows.append(_row(arm, "generate", f"the prompts of {arm.source.prompts_of}, once they are there", 0, None))
        else:
            drawn = generate.plan(run)
            rows.append(_row(arm, "generate", f"{drawn.prompts} prompts", drawn.images_done, drawn.images))
        judged = dict.fromkeys(judge for names in arm.trained.values() for judge in names)
        said = {judge: run.read("preferences", ["pair_id"], judge).num_rows for judge in judged}
        rows += [_row(arm, "label", judge, count, pairs or None) for judge, count in said.items()]
        for variant in arm.trained:
            jobs = [(policy, seed) for policy, seed in arm.policies() if policy.partition("+")[2] == variant]
            done = sum((run.policy_folder(policy, seed) / "policy.json").exists() for policy, seed in jobs)
            titles = ", ".join(dict.fromkeys(run.recipe.title(policy) for policy, _ in jobs))
            rows.append(_row(arm, "train", titles, done, len(jobs)))
        rows += [_row(arm, "left out", f"{judge}: {why}", 0, 0) for judge, why in arm.without.items()]
    wanted = _wanted(study)
    made = Run(study.root, study.recipe).manifest()["made_by"].get("study", {})
    whole = made.get("status") == "done" and made["policies"] == wanted
    told = {"images": "", "stage": "compare", "what": f"{len(wanted)} policies with the base model"}
    return [*rows, {**told, "done": int(whole), "of": 1}]


def _row(arm: Arm, stage: str, what: str, done: int, of: int | None) -> dict[str, Any]:
    return {"images": arm.name, "stage": stage, "what": what, "done": done, "of": of}


def missing(study: Opened) -> list[str]:
    """Weights that are not on this machine, told without asking the hub: what to run, or to mend, each once."""
    found: list[str | None] = []
    for arm in study.arms:
        found += [_absent(arm)]
        for name, weights in _judges(arm).items():
            found += [f"{name}: {step}" for step in presence.missing(name, weights)]
    return list(dict.fromkeys(filter(None, found)))


def _absent(arm: Arm) -> str | None:
    try:
        models.identify(arm.run.recipe.model)
        generate.sources_of(arm.run)
    except ModelMissing as error:
        return str(error)
    return None


def check(study: Opened) -> None:
    """Raises what would be raised after hours otherwise.

    ModelMissing for weights, of models that draw or are trained and of all scorers that label or judge; UserError for prompts
    that are too few, and for a set that cannot be read or has nothing to use.
    """
    for arm in study.arms:
        models.identify(arm.run.recipe.model)
        generate.sources_of(arm.run)
        presence.demand(_judges(arm))
    for arm in study.arms:
        if arm.source.imported:
            _look(arm.run, arm.source.imported)
        elif not _waits(arm):
            prompts.at_hand(arm.run)


def _judges(arm: Arm) -> Mapping[str, ScorerWeights]:
    """All scorers, those that only judge policies as well."""
    return judges.asked(arm.run.recipe, _scorers(arm), _consensus(arm))[0].label.scorers


def _waits(arm: Arm) -> bool:
    """Whether its prompts are another source's and not there yet."""
    return arm.source.prompts_of is not None and not arm.run.parts("prompts")


def make(study: Opened, progress: engine.Progress) -> list[str]:
    """All stages but the comparison, of what is not made yet; gives what to say of policies that had to be stopped."""
    from aifeedback_dpo.dpo import train

    failures = []
    whole = Run(study.root, study.recipe)
    with whole.alone("ddpo study"):
        whole.record("study", "running", images=[arm.name for arm in study.arms])
        for arm in study.arms:
            progress.note(f"{arm.name}: {arm.source.about or 'pictures'}")
            if arm.source.imported:
                _import(arm.run, arm.source.imported, progress)
            else:
                _take_prompts(study, arm)
                generate.generate(arm.run, progress)
            if arm is study.arms[0]:
                prompt_sets.held_out(arm.run)  # raises where there are none to compare on, before anything is trained
            label.label(arm.run, _scorers(arm), progress, _consensus(arm))
            for variant, names in arm.trained.items():
                try:
                    train.train(arm.variant(variant), names, progress)
                except DdpoError as error:
                    if type(error) is not DdpoError:  # a stopped policy keeps nobody else from being trained
                        raise
                    failures.append(f"{arm.name}: {error}")
            for judge, why in arm.without.items():
                progress.note(f"{arm.name}: no policy learns from {judge}; {why}, and the same command goes on")
    return failures


def _take_prompts(study: Opened, arm: Arm) -> None:
    """Puts another source's prompts into a run, once for all and split as they are there."""
    if _waits(arm):
        origin = next(other for other in study.arms if other.name == arm.source.prompts_of)
        arm.run.commit("prompts", origin.run.read("prompts"), "all")


def _scorers(arm: Arm) -> list[str]:
    """The scorers whose preferences are trained on."""
    named = dict.fromkeys(judge for names in arm.trained.values() for judge in names)
    return [judge for judge in named if judge not in (HUMAN, CONSENSUS, CONTROL)]


def _consensus(arm: Arm) -> list[str]:
    return [CONSENSUS] if any(CONSENSUS in names for names in arm.trained.values()) else []


def _look(run: Run, wanted: ImportedSet) -> None:
    """Raises UserError where an import would fail at its start or bring nothing."""
    votes.need_people(run)
    if not _is_imported(run, wanted):
        found = _prepared(run, wanted)
        importing.check(found, importing.survey(found, LOOKED_AT))


def _prepared(run: Run, wanted: ImportedSet) -> importing.Import:
    asked = Asked(wanted.path, wanted.split)
    return importing.prepare(run, wanted.format, asked, ties=not wanted.skip_ties, limit=wanted.limit)


def _is_imported(run: Run, wanted: ImportedSet) -> bool:
    """Whether all the rows asked for were read; of a whole set only reading on can tell."""
    made = [entry for work, entry in run.manifest()["made_by"].items() if work.startswith("import/")]
    read = [entry.get("rows", 0) for entry in made if entry["status"] == "done"]
    return wanted.limit is not None and any(rows >= wanted.limit for rows in read)


def _import(run: Run, wanted: ImportedSet, progress: engine.Progress) -> None:
    if not _is_imported(run, wanted):  # where it is, nothing is asked of the hub again
        importing.take(run, _prepared(run, wanted), progress)


def compared(study: Opened) -> list[str]:
    """What `ddpo compare` is asked for in the first run: the base, its policies, and those of the others by path.

    Raises UserError where not one policy is there.
    """
    first, *others = study.arms
    names = first.finished()
    for arm in others:
        names += [str(arm.run.root / "policies" / policy) for policy in arm.finished()]
    if not names:
        raise UserError(f"{study.root} has no finished policy, so there is nothing to compare")
    return [BASE, *names]


def finish(study: Opened) -> None:
    """Notes that the study has its report, of all the policies it can have now."""
    whole = Run(study.root, study.recipe)
    whole.record("study", "done", images=[arm.name for arm in study.arms], policies=_wanted(study))


def _wanted(study: Opened) -> list[str]:
    return list(dict.fromkeys(f"{arm.name}/{policy}" for arm in study.arms for policy, _ in arm.policies()))
