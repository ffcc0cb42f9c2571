"""What each judge makes of the pairs: from scores, from answers, from votes, or from what others make of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aifeedback_dpo import engine, preferences
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.lookup import Lookup, find
from aifeedback_dpo.pairs import Pairs
from aifeedback_dpo.preferences import Column
from aifeedback_dpo.records import CONSENSUS, HUMAN
from aifeedback_dpo.scorers import PairJudge, Scorer, asking, kept, scoring
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Judged:
    """What one judge made of the pairs."""

    judge: str
    prefers_a: int
    prefers_b: int
    ties: int
    missing: int
    rule: str
    why_missing: str | None = None


def by_scores(run: Run, name: str, scorer: Scorer, pairs: Pairs, looks: kept.Looks | None) -> Judged:
    """A scorer's preferences, by its slope: a number of the recipe, one fitted on people, or its own; or else by order."""
    values = kept.scores(run, name, scorer.recipe, looks)
    score_a, score_b = (_of(values, side) for side in (pairs.a, pairs.b))
    weights, tie_band = run.recipe.label.scorers[name], run.recipe.label.tie_band
    slope, source = scorer.preference.slope, scorer.preference.why
    if weights.slope == "human":
        slope, source = _fitted(run, name, score_a - score_b, pairs)
    elif weights.slope is not None:
        slope, source = weights.slope, "set by the recipe"
    p_a = preferences.from_scores(score_a, score_b, slope=slope, tie_band=tie_band, margin=weights.margin)
    how = preferences.rule(slope=slope, tie_band=tie_band, margin=weights.margin, source=source)
    return _commit(run, name, pairs, p_a, score_a - score_b, how)


def _of(values: Lookup[float], ids: NDArray[np.bytes_]) -> Column:
    """A number for each id, NaN where there is none."""
    at = find(values.ids, ids)
    numbers = np.append(np.asarray(values.values_in_order, np.float64), np.nan)
    return numbers[at]  # -1, which is not there, is the last


def _fitted(run: Run, name: str, difference: Column, pairs: Pairs) -> tuple[float, str]:
    try:
        prompts = [name.decode() for name in pairs.prompts]
        fit = preferences.fit_slope(difference, _column(run, HUMAN, pairs), prompts)
    except UserError as error:
        raise UserError(f"label.scorers.{name}.slope=human: {error}") from error
    return fit.slope, f"fitted on {fit.votes} {run.recipe.title(HUMAN)} votes, standard error {fit.error:.2g}"


def by_answers(run: Run, name: str, judge: PairJudge, pairs: Pairs) -> Judged:
    """A pairwise judge's preferences, by what it has answered."""
    answers = asking.answers(run, name, judge.recipe)
    choices = [np.nan if said.p_a is None else said.p_a for said in answers.values()]
    p_a = _of(Lookup(list(answers), np.array(choices, np.float64)), pairs.ids)
    return _commit(run, name, pairs, p_a, p_a - 0.5, "asked in both orders; a tie where they disagree")


def together(run: Run, members: Sequence[str], pairs: Pairs) -> Judged:
    """The consensus of several judges, by the recipe's rule."""
    rule, tie_band = run.recipe.label.consensus.rule, run.recipe.label.tie_band
    views = [_column(run, name, pairs) for name in members]
    p_a, margin = preferences.consensus(views, rule=rule, tie_band=tie_band)
    how = preferences.consensus_rule(members, rule=rule, tie_band=tie_band)
    judged = _commit(run, CONSENSUS, pairs, p_a, margin, how, votes=len(members), members=list(members))
    lacks = {name: int(np.isnan(view).sum()) for name, view in zip(members, views, strict=True)}
    most = max(lacks, key=lambda name: lacks[name])
    why = f"{most} has no preference for {lacks[most]} of the pairs" if lacks[most] else None
    return replace(judged, why_missing=why)


def _column(run: Run, judge: str, pairs: Pairs) -> Column:
    """A judge's committed p_a in the order of the pairs; NaN where it has none."""
    said = run.read("preferences", ["pair_id", "p_a"], judge)
    return _of(Lookup(said["pair_id"], said["p_a"].to_numpy()), pairs.ids)


def by_raters(
    run: Run, pairs: Pairs, prompts: Mapping[str, str], progress: engine.Progress
) -> tuple[Judged, list[scoring.Unreadable]]:
    """One vote a pair by the simulated raters, who see the picture and its prompt; and what they could not see."""
    from aifeedback_dpo.shapes import grammar, oracle, raters

    utilities: dict[str, float] = {}
    unseen: list[scoring.Unreadable] = []
    with progress.task("Simulated raters vote", len(prompts)) as bar:
        for image_id, data in run.images(list(prompts)):
            scene = grammar.parse(prompts[image_id])
            if scene is None:
                raise UserError(
                    f"label.raters=simulated judge the shapes grammar only; this prompt is not: {prompts[image_id]!r}"
                )
            try:
                utilities[image_id] = raters.utility(oracle.read(decode_image(data)), scene)
            except OSError as error:
                unseen.append(scoring.Unreadable(image_id, scoring.reason(error)))
            bar.advance(1)
    p_a = np.full(len(pairs), np.nan)
    annotators = []
    for at, pair in enumerate(pairs):
        seed = (run.recipe.seed, "vote", pair["pair_id"])
        annotators.append(raters.rater(*seed))
        if pair["image_a"] in utilities and pair["image_b"] in utilities:
            p_a[at] = raters.vote(utilities[pair["image_a"]], utilities[pair["image_b"]], *seed)
    how = "one simulated vote"
    return _commit(run, HUMAN, pairs, p_a, p_a - 0.5, how, annotators=annotators, simulated=True), unseen


def _commit(
    run: Run,
    judge: str,
    pairs: Pairs,
    p_a: Column,
    margin: Column,
    rule: str,
    *,
    votes: int = 1,
    annotators: Sequence[str] = (),
    **facts: Any,
) -> Judged:
    """Writes a judge's preferences, without the missing ones, and notes who made them how. Counts what was written."""
    p_a = p_a.astype(np.float32).astype(np.float64)
    there = ~np.isnan(p_a)
    count = int(there.sum())
    who = pa.array(annotators, pa.string()).filter(pa.array(there)) if annotators else pa.repeat(judge, count)
    rows = pa.table(
        {
            "pair_id": pa.array(pairs.ids[there], pa.binary()).cast(pa.string()),
            "judge": pa.repeat(judge, count),
            "p_a": pa.array(p_a[there], pa.float32()),
            "margin": pa.array(margin[there], pa.float32()),
            "annotator": who,
            "votes": pa.array(np.full(count, votes), pa.int32()),
            "seconds": pa.nulls(count, pa.float32()),
            "rule": pa.repeat(rule, count),
        }
    )
    run.commit("preferences", rows, "current", judge)
    run.record(f"label/{judge}", "done", rule=rule, pairs=len(rows), **facts)
    return Judged(
        judge,
        prefers_a=int((p_a > 0.5).sum()),
        prefers_b=int((p_a < 0.5).sum()),
        ties=int((p_a == 0.5).sum()),
        missing=len(pairs) - len(rows),
        rule=rule,
    )
