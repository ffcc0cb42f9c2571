"""Which policies there are to train, and which are done: planned without a model, and without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aifeedback_dpo import models
from aifeedback_dpo.dpo import batches
from aifeedback_dpo.dpo.batches import Pair
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONSENSUS, CONTROL, HUMAN, content_id
from aifeedback_dpo.store import Run, read_policy

PACING = ("micro_batch_size", "gradient_checkpointing", "checkpoint_steps")


@dataclass(frozen=True)
class Job:
    """A policy to train: a judge's decided pairs and a seed. `visited` are all pairs of the run, whoever decided them."""

    judge: str
    title: str
    seed: int
    pairs: list[Pair]
    visited: list[str]
    ties: int
    made_from: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.title}, seed {self.seed}"

    @property
    def done(self) -> bool:
        return (self.folder / "policy.json").exists()

    def schedule(self, *, size: int, steps: int, seed: int) -> Iterator[list[tuple[Pair, int]]]:
        """`steps` batches of this judge's decided pairs, each with its visit; a batch may be smaller than `size`, or empty."""
        decided = {pair.pair_id: pair for pair in self.pairs}
        for visits in batches.schedule(self.visited, size=size, steps=steps, seed=seed):
            yield [(decided[pair_id], visit) for pair_id, visit in visits if pair_id in decided]


def plan(run: Run, judges: Sequence[str] = ()) -> list[Job]:
    """The policies to train, finished ones included, without loading a model.

    Raises UserError for a judge without preferences, and for a policy that was trained from something else.
    """
    settings = run.recipe.train
    pairs = run.rows("pairs")
    if not pairs:
        raise UserError(f"{run.root} has no pairs yet; run `ddpo generate` first")
    visited = [pair["pair_id"] for pair in pairs]
    revision = models.identify(run.recipe.model).revision
    how = settings.model_dump(mode="json", exclude={"judges", "seeds", *PACING})
    jobs = []
    for judge in dict.fromkeys(run.recipe.judge(name) for name in (judges or settings.judges)):
        preferences = run.rows("preferences", ["pair_id", "p_a"], judge)
        decided = batches.decided(pairs, preferences)
        if not decided:
            what = "no preferences" if not preferences else "only ties"
            raise UserError(f"{run.root} has {what} of judge '{judge}'; {_next_step(run, judge)}")
        winners = [(pair.pair_id, pair.winner) for pair in decided]
        for seed in settings.seeds:
            job = Job(
                judge=judge,
                title=run.recipe.title(judge),
                seed=seed,
                pairs=decided,
                visited=visited,
                ties=len(preferences) - len(decided),
                made_from=content_id(how, judge, seed, revision, sorted(visited), winners),
                folder=run.policy_folder(judge, seed),
            )
            if job.done and read_policy(job.folder)["made_from"] != job.made_from:
                raise UserError(
                    f"{job.folder} was trained from other preferences, settings or base model; delete it, or choose "
                    "another --run"
                )
            jobs.append(job)
    return jobs


def _next_step(run: Run, judge: str) -> str:
    if run.parts("preferences", judge):
        return "it took no side on any of them, so nothing can be learnt from it: leave it out"
    if judge == HUMAN and run.recipe.label.raters is None:
        return "this recipe has no raters: leave human out, as in train.judges=[ai,random]"
    if judge == CONSENSUS:
        return "run `ddpo label --judge consensus` with its scorers first"
    return f"run `ddpo label{'' if judge in (HUMAN, CONTROL) else f' --scorer {judge}'}` first"
