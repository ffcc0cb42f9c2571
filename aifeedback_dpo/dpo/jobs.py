"""Which policies there are to train, and which are done: planned without a model, and without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aifeedback_dpo.dpo import batches
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONTROL, HUMAN, content_id
from aifeedback_dpo.store import Run, read_policy
from aifeedback_dpo.weights import locate


@dataclass(frozen=True)
class Job:
    """A policy to train: a judge's decided pairs and a seed."""

    judge: str
    seed: int
    pairs: list[Pair]
    visited: list[str]
    ties: int
    made_from: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.judge}, seed {self.seed}"

    @property
    def done(self) -> bool:
        return (self.folder / "policy.json").exists()


def plan(run: Run, judges: Sequence[str] = ()) -> list[Job]:
    """The policies to train, finished ones included, without loading a model.

    Raises UserError for a judge without preferences, and for a policy that was trained from something else.
    """
    settings = run.recipe.train
    pairs = run.rows("pairs")
    revision = locate(run.recipe.model, "pipeline").revision
    how = settings.model_dump(mode="json", exclude={"judges", "seeds"})
    jobs = []
    for judge in dict.fromkeys(run.recipe.judge(name) for name in (judges or settings.judges)):
        preferences = run.rows("preferences", ["pair_id", "p_a"], judge)
        decided = batches.decided(pairs, preferences)
        if not decided:
            what = "no preferences" if not preferences else "only ties"
            scorer = "" if judge in (HUMAN, CONTROL) else f" --scorer {judge}"
            after = f"run `ddpo label{scorer}` first"
            if judge == HUMAN and run.recipe.label.raters is None:
                after = "this recipe has no raters: leave human out, as in train.judges=[ai,random]"
            raise UserError(f"{run.root} has {what} of judge '{judge}'; {after}")
        for seed in settings.seeds:
            made_from = content_id(how, judge, seed, revision, [(pair.pair_id, pair.winner) for pair in decided])
            job = Job(judge, seed, decided, len(preferences) - len(decided), made_from, run.policy_folder(judge, seed))
            if job.done and read_policy(job.folder)["made_from"] != made_from:
                raise UserError(f"{job.folder} was trained from other preferences, settings or base model; delete it, or choose another --run")
            jobs.append(job)
    return jobs
