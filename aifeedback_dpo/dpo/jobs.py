"""Which policies there are to train, and which are done: planned without a model, and without torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aifeedback_dpo import config, models
from aifeedback_dpo.dpo import batches
from aifeedback_dpo.dpo.batches import Floats
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONSENSUS, CONTROL, HUMAN, content_id, rows_id
from aifeedback_dpo.settings.training import Train
from aifeedback_dpo.store import Run, read_inputs, read_policy

PACING: dict[str, Any] = {
    **dict.fromkeys(("micro_batch_size", "gradient_checkpointing", "compile", "channels_last"), True),
    **dict.fromkeys(("checkpoint_steps", "keep_checkpoints", "validation", "trackers"), True),
    "held_out": {"every"},
}
"""Settings that pace or watch the work, and do not make another policy."""
COLUMNS = ("pair_id", "prompt_id", "image_a", "image_b")


@dataclass(frozen=True, eq=False)
class Job:
    """A policy to train: a judge's view of the pairs and a seed. `inputs` is all that it follows from."""

    judge: str
    title: str
    seed: int
    p_a: Floats
    held_p_a: Floats
    inputs: dict[str, Any]
    folder: Path

    @property
    def policy(self) -> str:
        """What the policy is called in the run."""
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return f"{self.title}, seed {self.seed}"

    @property
    def made_from(self) -> str:
        """A hash of the inputs."""
        return content_id(self.inputs)

    @property
    def pairs(self) -> int:
        """How many pairs the judge decided."""
        return int(batches.decided(self.p_a).sum())

    @property
    def ties(self) -> int:
        return int((self.p_a == 0.5).sum())

    def said(self, visits: Sequence[batches.Visit]) -> Floats:
        """The judge's p_a of these."""
        return self.p_a[[row for row, _ in visits]]

    @property
    def done(self) -> bool:
        return (self.folder / "policy.json").exists()

    def checkpoint(self, step: int) -> Path:
        """Where the state after this step is kept while it trains."""
        return self.folder / "checkpoints" / f"step-{step:06d}.pt"

    def checkpoints(self) -> list[int]:
        """After which steps there is one."""
        names = [re.fullmatch(r"step-(\d+)\.pt", path.name) for path in self.folder.glob("checkpoints/step-*.pt")]
        return sorted(int(name[1]) for name in names if name)


@dataclass(frozen=True, eq=False)
class Plan:
    """The policies to train, finished ones included, and the pairs they all share; `held_out` are never trained on.

    LoRAs of one seed are trained `together`; where all weights are trained, each policy is alone.
    """

    pairs: pa.Table
    held_out: pa.Table
    jobs: list[Job]
    together: bool

    @property
    def heard(self) -> npt.NDArray[np.bool_]:
        """Of which pairs any of these judges has said something; nothing is read or computed of the others."""
        return _heard([job.p_a for job in self.jobs])

    @property
    def held_out_heard(self) -> npt.NDArray[np.bool_]:
        """The same for the pairs that are held out."""
        return _heard([job.held_p_a for job in self.jobs])

    def decided(self, members: Sequence[Job]) -> npt.NDArray[np.bool_]:
        """Of which pairs some judge took a side whose LoRA is trained with these, or was before a stop."""
        together = [job for job in self.jobs if job.seed == members[0].seed] if self.together else members
        taken: npt.NDArray[np.bool_] = np.any([batches.decided(job.p_a) for job in together], axis=0)
        return taken

    def judged(self) -> pa.Table:
        """All the pairs that training reads."""
        return pa.concat_tables([only(self.pairs, self.heard), only(self.held_out, self.held_out_heard)])


def plan(run: Run, judges: Sequence[str] = ()) -> Plan:
    """What is to be trained, without loading a model.

    Raises UserError for a judge without preferences, for a policy that was trained from something else, and for a model that
    is not the one that drew the pictures.
    """
    settings = run.recipe.train
    every = _to_learn_from(run)
    if not every.num_rows:
        raise UserError(f"{run.root} has no pairs yet; run `ddpo generate` or `ddpo import` first")
    kept_out = batches.hold_out(every.column("prompt_id"), settings.held_out.pairs, seed=run.recipe.seed)
    pairs, held_out = only(every, ~kept_out), only(every, kept_out)
    if not pairs.num_rows:
        raise UserError(
            f"train.held_out.pairs={settings.held_out.pairs} leaves none of the {every.num_rows} pairs to train on; take fewer"
        )
    identity = models.identify(run.recipe.model)
    models.unchanged(run, [identity])
    shared = {
        "train": settings.model_dump(mode="json", exclude={**PACING, "judges": True, "seeds": True, "name": True}),
        "model": {"revision": identity.revision, "dtype": run.recipe.model.dtype},
        "pairs": rows_id(pairs.column("pair_id")),
    }
    jobs = []
    for judge in dict.fromkeys(run.recipe.judge(name) for name in (judges or settings.judges)):
        preferences = run.read("preferences", ["pair_id", "p_a"], judge)
        p_a = batches.labels(pairs.column("pair_id"), preferences)
        if not batches.decided(p_a).any():
            what = "only ties" if preferences.num_rows else "no preferences"
            raise UserError(f"{run.root} has {what} of judge '{judge}'; {_next_step(run, judge)}")
        said = p_a if settings.labels == "soft" else np.sign(p_a - 0.5)
        policy = run.recipe.policy(judge)
        for seed in settings.seeds:
            job = Job(
                judge=judge,
                title=run.recipe.title(policy),
                seed=seed,
                p_a=p_a,
                held_p_a=batches.labels(held_out.column("pair_id"), preferences),
                inputs={**shared, "judge": judge, "seed": seed, "labels": rows_id(pairs.column("pair_id"), said)},
                folder=run.policy_folder(policy, seed),
            )
            if job.done:
                _refuse_other(job.folder, read_policy(job.folder)["inputs"], job.inputs)
            elif job.checkpoints():
                _refuse_other(job.folder, read_inputs(job.folder), job.inputs)
            jobs.append(job)
    _alike(run, jobs, shared)
    return Plan(pairs, held_out, jobs, together=settings.method == "lora")


def _to_learn_from(run: Run) -> pa.Table:
    """The pairs of prompts that are not held out: an imported set has pairs of those as well."""
    pairs, prompts = run.read("pairs", COLUMNS), run.read("prompts", ["prompt_id", "split"])
    held_out = prompts.filter(pc.equal(prompts.column("split"), "eval")).column("prompt_id")
    kept = pc.invert(pc.is_in(pairs.column("prompt_id"), value_set=held_out.combine_chunks()))
    return only(pairs, kept.to_numpy())


def check(settings: Train, *, processes: int, sharded: bool) -> None:
    """Raises UserError for settings that do not go with so many processes, or with weights that are sharded among them."""
    each = processes * (settings.micro_batch_size or 1)
    if settings.batch_size % each:
        micro = f" x train.micro_batch_size={settings.micro_batch_size}" if settings.micro_batch_size else ""
        among = f"{processes} processes{micro}; take a multiple of {each}"
        raise UserError(f"train.batch_size={settings.batch_size} does not divide among {among}")
    full = settings.method == "full"
    wrong = [
        *(["train.compile=true"] if settings.compile else []),
        *([f"train.optimizer={settings.optimizer}"] if full and settings.optimizer != "adamw" else []),
        *(["train.precision=float16"] if full and settings.precision == "float16" else []),
    ]
    if sharded and wrong:
        raise UserError(f"{wrong[0]} does not go with sharding; change it, or launch with --launcher ddp")


def only(table: pa.Table, wanted: npt.NDArray[np.bool_]) -> pa.Table:
    """These rows of it; the table itself, and no copy, where that is all of them."""
    return table if wanted.all() else table.filter(pa.array(wanted))


def _heard(said: Sequence[Floats]) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = np.any([~np.isnan(p_a) for p_a in said], axis=0)
    return there


def _alike(run: Run, jobs: Sequence[Job], shared: dict[str, Any]) -> None:
    """Raises UserError unless the run's other policies of the same train.name were trained in the same way."""
    variant = run.recipe.train.name or ""
    for policy, seeds in run.policies().items():
        for folder in (run.policy_folder(policy, seed) for seed in seeds):
            if policy.partition("+")[2] == variant and folder not in {job.folder for job in jobs}:
                found = read_policy(folder)["inputs"]
                _refuse_other(folder, {key: found[key] for key in shared}, shared)


def groups(planned: Plan, *, from_step: int | None = None) -> list[tuple[int, list[Job]]]:
    """What is left to train: policies that go through the same steps at once, and the step that they go on from.

    Those of one seed that are trained together go on from the last step that all of them have a checkpoint of; where they have
    none in common, from each one's own last. Raises UserError where `from_step` is not there, or all of them are finished.
    """
    made: list[tuple[int, list[Job]]] = []
    jobs = planned.jobs
    if from_step and all(job.done for job in jobs):
        raise UserError(
            f"--from-step {from_step}, but {jobs[0].name} is finished and keeps no checkpoints; delete {jobs[0].folder} to "
            "train it again, or take train.name=NAME"
        )
    for seed in dict.fromkeys(job.seed for job in jobs):
        begun: dict[int, list[Job]] = {}
        left = [job for job in jobs if job.seed == seed and not job.done]
        saved = [set(job.checkpoints()) for job in left if job.checkpoints()]
        common = set.intersection(*saved) if saved else set()
        for job in left:
            there = job.checkpoints()
            if from_step and from_step not in there:
                listed = f"there are {', '.join(map(str, there))}" if there else "there is none"
                raise UserError(
                    f"{job.folder} has no checkpoint after step {from_step}: {listed}. Leave --from-step out to take the last"
                )
            step = from_step or (max(common or there) if there else 0)
            begun.setdefault(step, []).append(job)
        for step, members in sorted(begun.items(), reverse=True):
            made += [(step, members)] if planned.together else [(step, [job]) for job in members]
    return made


def _refuse_other(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises UserError, naming the keys that differ, for a policy or a checkpoint that was made from something else."""
    if clash := config.different(found, wanted):
        listed = "; ".join(
            f"the run's {key} changed" if key in ("pairs", "labels") else f"{key}: {old!r} there, {new!r} asked for"
            for key, (old, new) in clash.items()
        )
        raise UserError(
            f"{folder} was trained otherwise ({listed}). Take these back, keep both with train.name=NAME, or "
            "delete it to start over"
        )


def _next_step(run: Run, judge: str) -> str:
    if run.parts("preferences", judge):
        return "it took no side on any of them, so nothing can be learnt from it: leave it out"
    if judge == HUMAN and run.recipe.label.raters is None:
        return "bring people's votes by `ddpo import` or `ddpo annotate`, or leave human out, as in train.judges=[ai,random]"
    if judge == CONSENSUS:
        return "run `ddpo label --judge consensus` with its scorers first"
    return f"run `ddpo label{'' if judge in (HUMAN, CONTROL) else f' --scorer {judge}'}` first"
