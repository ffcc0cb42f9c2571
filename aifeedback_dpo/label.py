"""Stage 2: pictures to scores to preferences. Every judge, a scorer or a person, writes the same rows for the same pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aifeedback_dpo import engine, judges, preferences, scorers, votes, workers
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.judges import Asked
from aifeedback_dpo.lookup import Lookup, absent, find
from aifeedback_dpo.pairs import Pairs
from aifeedback_dpo.preferences import Column
from aifeedback_dpo.records import CONSENSUS, HUMAN, packed_ids
from aifeedback_dpo.scorers import PairJudge, Scorer, asking, presence, scoring
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run, decode_image


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


@dataclass(frozen=True)
class Plan:
    """What `ddpo label` would do: images to score and already scored, by scorer; pairs to judge, and already asked about."""

    pairs: int
    images: int
    scored: dict[str, int]
    answered: dict[str, int]
    judges: list[str]


@dataclass(frozen=True)
class Labels:
    """The judges' rows, counted, and the pictures that could not be read.

    `left` is what other shards have still to do, in pictures and pairs to look at; until it is nothing nobody is judged.
    """

    judged: list[Judged] = field(default_factory=list)
    unreadable: list[scoring.Unreadable] = field(default_factory=list)
    left: int = 0


def joined(run: Run, names: Sequence[str], judge: Sequence[str] = ()) -> tuple[Run, Asked]:
    """The run with a recipe that knows all who are asked, and who they are. Writes nothing."""
    recipe, asked = judges.asked(run.recipe, names, judge)
    return replace(run, recipe=recipe), asked


def plan(run: Run, names: Sequence[str], judge: Sequence[str] = ()) -> Plan:
    """Counts, without loading a scorer."""
    run, asked = joined(run, names, judge)
    pairs = Pairs.read(run)
    return Plan(
        pairs=len(pairs),
        images=len(pairs.images),
        scored={name: int((~absent(pairs.images, run.ids("scores", name))).sum()) for name in asked.scorers},
        answered={name: int((~absent(pairs.ids, run.ids("answers", name))).sum()) for name in asked.pairwise},
        judges=[
            *([HUMAN] if run.recipe.label.raters else []),
            *asked.scorers,
            *asked.pairwise,
            *([CONSENSUS] if asked.consensus else []),
        ],
    )


def label(
    run: Run,
    names: Sequence[str],
    progress: engine.Progress,
    judge: Sequence[str] = (),
    place: engine.Place | None = None,
) -> Labels:
    """Scores what is not scored yet and writes each judge's preferences; in the embedded world the raters vote as well.

    All scorers are loaded before the first one is asked. A shard scores its share, and the one that finds everything scored
    writes the preferences. Raises UserError for a judge nobody knows or a run without pairs.
    """
    opened, place = run, place or engine.Here()
    run, asked, pairs = check(run, names, judge)
    prompts = pairs.captions(run)
    loaded, judging = _load(run, asked, progress)
    for name, scorer in (loaded | judging).items():  # who joins is in the recipe once it has scored
        known = presence.revisions(name, _weights(run, name))
        opened.record(f"label/{name}", "running", scorer=scorer.recipe, weights=known, **_taken(opened, name, scorer))
    scored = scoring.Scoring(
        opened,
        {name: _weights(run, name) for name in loaded},
        {name: scorer.recipe for name, scorer in loaded.items()},
        prompts,
        counted=True,
        loaded=loaded,
    )
    interviews = [
        asking.Asking(opened, name, _weights(run, name), judge.recipe, pairs, prompts, loaded=judge)
        for name, judge in judging.items()
    ]
    try:
        unreadable = engine.run(scoring.asked(scored, place.shard), progress, place) if loaded else []
        for interview in interviews:
            unreadable += engine.run(asking.asked(interview, place.shard), progress, place)
    except UserError:
        for name in (*loaded, *judging):
            opened.record(f"label/{name}", "failed")
        raise
    if not place.whole and (left := _left(run, scored, interviews, pairs)):
        return Labels([], _once(unreadable), left)
    if not place.whole:
        unreadable = [*_told_elsewhere(run, scored), *unreadable]
    scoring.warn(scored, progress)
    judged: list[Judged] = []
    if run.recipe.label.raters == "simulated":  # before the scorers' preferences, which may be fitted on these
        voted, unseen = _vote(run, pairs, prompts, progress)
        judged.append(voted)
        unreadable += unseen
    looks = scoring.Looks.read(run) if loaded else None
    judged += [_prefer(run, name, scorer, pairs, looks) for name, scorer in loaded.items()]
    judged += [_answered(run, name, answering, pairs) for name, answering in judging.items()]
    if asked.consensus:
        judged.append(_consensus(run, asked.consensus, pairs))
    return Labels(judged, _once(unreadable))


def check(run: Run, names: Sequence[str], judge: Sequence[str] = ()) -> tuple[Run, Asked, Pairs]:
    """What is to be judged by whom. Raises what keeps `label` from it, as far as can be told without a scorer."""
    run, asked = joined(run, names, judge)
    pairs = Pairs.read(run)
    if not len(pairs):
        raise UserError(f"{run.root} has no pairs yet; run `ddpo generate` or `ddpo import` first")
    run.need(pairs.images)
    if run.parts("votes"):
        votes.need_people(run)
    _need_people(run, asked)
    presence.demand({name: _weights(run, name) for name in (*asked.scorers, *asked.pairwise)})
    return run, asked, pairs


def _once(unreadable: Sequence[scoring.Unreadable]) -> list[scoring.Unreadable]:
    return list({found.image_id: found for found in unreadable}.values())


def _left(run: Run, scored: scoring.Scoring, interviews: Sequence[asking.Asking], pairs: Pairs) -> int:
    """What is still to be looked at, but for the pictures that a shard has found to be unreadable."""
    lost = packed_ids(sorted(workers.told(workers.read(run), scored.command)))
    readable = absent(pairs.images, lost)
    left = [
        absent(pairs.images, scoring.scored(run, name, recipe)) & readable for name, recipe in scored.recipes.items()
    ]
    both = absent(pairs.a, lost) & absent(pairs.b, lost)
    left += [absent(pairs.ids, asking.answered(run, one.name, one.recipe)) & both for one in interviews]
    return int(sum(some.sum() for some in left))


def _told_elsewhere(run: Run, scored: scoring.Scoring) -> list[scoring.Unreadable]:
    """The pictures that other shares could not read, and that have no score since."""
    lost = packed_ids(sorted(workers.told(workers.read(run), scored.command)))
    for name, recipe in scored.recipes.items():
        lost = lost[absent(lost, scoring.scored(run, name, recipe))]
    return [scoring.Unreadable(image_id.decode(), "says another share") for image_id in lost]


def _taken(run: Run, name: str, scorer: Scorer | PairJudge) -> dict[str, float]:
    """What this very scorer has taken in this run before; another one's time, such as with other weights, is not its own."""
    entry = run.manifest()["made_by"].get(f"label/{name}", {})
    same = entry.get("scorer") == scorer.recipe
    return {key: entry.get(key, 0) if same else 0 for key in ("seconds", "pictures")}


def _need_people(run: Run, asked: Asked) -> None:
    """Raises UserError, before anything is loaded, where people's votes are needed and there are none."""
    if run.recipe.label.raters or run.parts("preferences", HUMAN):
        return
    wanted = [f"label.scorers.{name}.slope=human" for name in asked.scorers if _weights(run, name).slope == "human"]
    wanted += ["label.consensus.of"] if HUMAN in asked.consensus else []
    if wanted:
        raise UserError(f"{wanted[0]} needs preferences of judge '{HUMAN}', and {run.root} has none; leave it out")


def _load(run: Run, asked: Asked, progress: engine.Progress) -> tuple[dict[str, Scorer], dict[str, PairJudge]]:
    """All of them, so that weights that are missing are told before anything is written."""
    loaded: dict[str, Scorer] = {}
    judging: dict[str, PairJudge] = {}
    for name in (*asked.scorers, *asked.pairwise):
        progress.note(f"Loading {name}")
        if name in asked.scorers:
            loaded[name] = scorers.load(name, _weights(run, name))
        else:
            judging[name] = scorers.load_judge(name, _weights(run, name))
    return loaded, judging


def _prefer(run: Run, name: str, scorer: Scorer, pairs: Pairs, looks: scoring.Looks | None) -> Judged:
    """A scorer's preferences, by its slope: a number of the recipe, one fitted on people, or its own; or else by order."""
    values = scoring.scores(run, name, scorer.recipe, looks)
    score_a, score_b = (_of(values, side) for side in (pairs.a, pairs.b))
    weights, tie_band = _weights(run, name), run.recipe.label.tie_band
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


def _answered(run: Run, name: str, judge: PairJudge, pairs: Pairs) -> Judged:
    answers = asking.answers(run, name, judge.recipe)
    choices = [np.nan if said.p_a is None else said.p_a for said in answers.values()]
    p_a = _of(Lookup(list(answers), np.array(choices, np.float64)), pairs.ids)
    return _commit(run, name, pairs, p_a, p_a - 0.5, "asked in both orders; a tie where they disagree")


def _consensus(run: Run, members: Sequence[str], pairs: Pairs) -> Judged:
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


def _vote(
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
    **facts: object,
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


def _weights(run: Run, name: str) -> ScorerWeights:
    return run.recipe.label.scorers[name]
