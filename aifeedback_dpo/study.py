"""The 2 x 2: label source by image source. A run for each image source, each judge's policy on each, and one comparison.

    runs/human-vs-ai/            the study: its recipe, its report
    runs/human-vs-ai/own/        an ordinary run, of the first image source; its held-out prompts are everybody's
    runs/human-vs-ai/other/      another one: other pictures, the same prompts to train on, or those of an imported set

Later work confounds labels with the pictures that they were given to (RankDPO's table, arXiv:2410.18013: people labelled
Pick-a-Pic's pictures, scorers other ones). Here both vary alone. Every stage goes on where it was stopped, and so does the
study: it is its stages, in order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aifeedback_dpo import config, engine, generate, importing, judges, label, opening
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import BASE, CONSENSUS, CONTROL, HUMAN, IMPORTED
from aifeedback_dpo.scorers import presence
from aifeedback_dpo.settings import Recipe
from aifeedback_dpo.settings.comparison import ImageSource, ImportedSet, Study
from aifeedback_dpo.sources import Asked
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Arm:
    """One image source: its run, and the judges that its policies learn from, by train.name ("" is the recipe's own).

    `without` are the judges that cannot be here yet, and why.
    """

    name: str
    source: ImageSource
    run: Run
    trained: dict[str, tuple[str, ...]]
    without: dict[str, str]

    def variant(self, name: str) -> Run:
        """The run with the settings of training that make this variant."""
        if not name:
            return self.run
        settings = {"train": {**_study(self.run.recipe).variants[name].train, "name": name}}
        return replace(self.run, recipe=config.changed(self.run.recipe, settings))

    def policies(self) -> Iterator[tuple[str, int]]:
        """Every policy of it by name, with a training seed."""
        for variant, names in self.trained.items():
            recipe = self.variant(variant).recipe
            for name in names:
                yield from ((recipe.policy(name), seed) for seed in recipe.train.seeds)


@dataclass(frozen=True)
class Opened:
    """A study on disk."""

    root: Path
    recipe: Recipe
    arms: list[Arm]


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
    settings: dict[str, Any] = dict(source.settings)
    if source.imported:
        settings["prompts"] = {**settings.get("prompts", {}), "source": IMPORTED}
    if source.prompts_of:
        settings["prompts"] = {**settings.get("prompts", {}), **_prompts_of(run.root, source.prompts_of)}
    try:
        recipe = config.changed(run.recipe, settings)
        arm = Arm(name, source, opening.held_to(run.root / name, recipe), {}, {})
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


def _prompts_of(root: Path, name: str) -> dict[str, Any]:
    """The prompts of another source as a file of the study, the held-out ones last; without it, where it will be."""
    path = root / f"{name}-prompts.jsonl"
    if not path.exists():
        return {"source": str(path), "column": "prompt"}
    splits = [json.loads(line)["split"] for line in path.read_text(encoding="utf-8").splitlines()]
    counts = {split: splits.count(split) for split in ("train", "eval")}
    return {"source": str(path), "column": "prompt", **counts}


def _keep_prompts(study: Opened, arm: Arm) -> None:
    """Writes the file of `_prompts_of`, once for all."""
    path = study.root / f"{arm.name}-prompts.jsonl"
    asked = any(source.prompts_of == arm.name for source in _study(study.recipe).images.values())
    if asked and not path.exists():
        rows = arm.run.rows("prompts", ["prompt", "split"])
        ordered = sorted(rows, key=lambda row: row["split"] == "eval")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered)
        arm.run.write_text(path, text)


def _study(recipe: Recipe) -> Study:
    assert recipe.study is not None
    return recipe.study


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
        elif arm.source.prompts_of and not Path(run.recipe.prompts.source).exists():
            rows.append(_row(arm, "generate", f"the prompts of {arm.source.prompts_of}, once they are there", 0, None))
        else:
            drawn = generate.plan(run)
            rows.append(_row(arm, "generate", f"{drawn.prompts} prompts", drawn.images_done, drawn.images))
        judged = dict.fromkeys(judge for names in arm.trained.values() for judge in names)
        said = {judge: run.read("preferences", ["pair_id"], judge).num_rows for judge in judged}
        rows += [_row(arm, "label", judge, count, pairs or None) for judge, count in said.items()]
        for variant in arm.trained:
            wanted = [(policy, seed) for policy, seed in arm.policies() if policy.partition("+")[2] == variant]
            done = sum((run.policy_folder(policy, seed) / "policy.json").exists() for policy, seed in wanted)
            titles = ", ".join(dict.fromkeys(run.recipe.title(policy) for policy, _ in wanted))
            rows.append(_row(arm, "train", titles, done, len(wanted)))
        rows += [_row(arm, "left out", f"{judge}: {why}", 0, 0) for judge, why in arm.without.items()]
    return rows


def _row(arm: Arm, stage: str, what: str, done: int, of: int | None) -> dict[str, Any]:
    return {"images": arm.name, "stage": stage, "what": what, "done": done, "of": of}


def check(study: Opened) -> None:
    """Raises ModelMissing, before hours are spent, where weights of a scorer can be had nowhere."""
    for arm in study.arms:
        asked = judges.asked(arm.run.recipe, _scorers(arm), _consensus(arm))[0].label.scorers
        presence.demand(asked)


def make(study: Opened, progress: engine.Progress) -> None:
    """All stages but the comparison, of what is not made yet."""
    from aifeedback_dpo.dpo import train

    Run(study.root, study.recipe).record("study", "running", images=[arm.name for arm in study.arms])
    for name in _study(study.recipe).images:
        arm = _arm(
            Run(study.root, study.recipe), _study(study.recipe), name
        )  # which may have had to wait for another's prompts
        progress.note(f"{name}: {arm.source.about or 'pictures'}")
        if arm.source.imported:
            _import(arm.run, arm.source.imported, progress)
        else:
            generate.generate(arm.run, progress)
        _keep_prompts(study, arm)
        label.label(arm.run, _scorers(arm), progress, _consensus(arm))
        for variant, names in arm.trained.items():
            train.train(arm.variant(variant), names, progress)
        for judge, why in arm.without.items():
            progress.note(f"{name}: no policy learns from {judge}; {why}, and the same command goes on")


def _scorers(arm: Arm) -> list[str]:
    """The scorers whose preferences are trained on."""
    named = dict.fromkeys(judge for names in arm.trained.values() for judge in names)
    return [judge for judge in named if judge not in (HUMAN, CONSENSUS, CONTROL)]


def _consensus(arm: Arm) -> list[str]:
    return [CONSENSUS] if any(CONSENSUS in names for names in arm.trained.values()) else []


def _import(run: Run, wanted: ImportedSet, progress: engine.Progress) -> None:
    found = importing.prepare(
        run, wanted.format, Asked(wanted.path, wanted.split), ties=not wanted.skip_ties, limit=wanted.limit
    )
    importing.check(found, importing.survey(found, None if wanted.limit is None else min(wanted.limit, 1000)))
    importing.take(run, found, progress)


def compared(study: Opened) -> list[str]:
    """What `ddpo compare` is asked for in the first run: the base, its policies, and those of the others by path."""
    first, *others = study.arms
    names = [BASE, *dict.fromkeys(policy for policy, _ in first.policies())]
    for arm in others:
        names += dict.fromkeys(str(arm.run.root / "policies" / policy) for policy, _ in arm.policies())
    return names


def finish(study: Opened) -> None:
    """Notes that the study has its report."""
    Run(study.root, study.recipe).record(
        "study", "done", images=[arm.name for arm in study.arms], policies=compared(study)
    )
