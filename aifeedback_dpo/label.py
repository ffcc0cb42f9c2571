"""Stage 2: pictures to scores to preferences. Every judge, a scorer or a person, writes the same rows for the same pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aifeedback_dpo import engine, judges, preferences, scorers, votes
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.judges import Asked
from aifeedback_dpo.preferences import Column
from aifeedback_dpo.records import CONSENSUS, HUMAN
from aifeedback_dpo.scorers import PairJudge, Scorer, asking, presence, scoring
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run, decode_image

Pairs = Sequence[Mapping[str, str]]  # rows of the table `pairs`


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
    """The judges' rows, counted, and the pictures that could not be read."""

    judged: list[Judged] = field(default_factory=list)
    unreadable: list[scoring.Unreadable] = field(default_factory=list)


def joined(run: Run, names: Sequence[str], judge: Sequence[str] = ()) -> tuple[Run, Asked]:
    """The run with a recipe that knows all who are asked, and who they are. Writes nothing."""
    recipe, asked = judges.asked(run.recipe, names, judge)
    return replace(run, recipe=recipe), asked


def plan(run: Run, names: Sequence[str], judge: Sequence[str] = ()) -> Plan:
    """Counts, without loading a scorer."""
    run, asked = joined(run, names, judge)
    pairs = run.rows("pairs")
    images = {image for pair in pairs for image in (pair["image_a"], pair["image_b"])}
    known = {pair["pair_id"] for pair in pairs}
    return Plan(
        pairs=len(pairs),
        images=len(images),
        scored={name: len(images & run.done("scores", name)) for name in asked.scorers},
        answered={name: len(known & run.done("answers", name)) for name in asked.pairwise},
        judges=[
            *([HUMAN] if run.recipe.label.raters else []),
            *asked.scorers,
            *asked.pairwise,
            *([CONSENSUS] if asked.consensus else []),
        ],
    )


def label(run: Run, names: Sequence[str], progress: engine.Progress, judge: Sequence[str] = ()) -> Labels:
    """Scores what is not scored yet and writes each judge's preferences; in the embedded world the raters vote as well.

    All scorers are loaded before the first one is asked. Raises UserError for a judge nobody knows or a run without pairs.
    """
    opened = run
    run, asked = joined(run, names, judge)
    pairs = run.rows("pairs")
    if not pairs:
        raise UserError(f"{run.root} has no pairs yet; run `ddpo generate` or `ddpo import` first")
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    prompts = {pair[side]: text[pair["prompt_id"]] for pair in pairs for side in ("image_a", "image_b")}
    run.need(prompts)
    if run.parts("votes"):
        votes.need_people(run)
    _need_people(run, asked)
    loaded, judging = _load(run, asked, progress)
    for name, scorer in (loaded | judging).items():  # who joins is in the recipe once it has scored
        known = presence.revisions(name, _weights(run, name))
        opened.record(f"label/{name}", "running", scorer=scorer.recipe, weights=known, **_taken(opened, name, scorer))
    judged: list[Judged] = []

    def spent(name: str, seconds: float, pictures: int) -> None:
        opened.add(f"label/{name}", seconds=seconds, pictures=pictures)

    try:
        unreadable = scoring.score(run, loaded, prompts, progress, spent)
    except UserError:
        for name in loaded:
            opened.record(f"label/{name}", "failed")
        raise
    if run.recipe.label.raters == "simulated":  # before the scorers' preferences, which may be fitted on these
        voted, unseen = _vote(run, pairs, prompts, progress)
        judged.append(voted)
        unreadable += unseen
    judged += [_prefer(run, name, scorer, pairs) for name, scorer in loaded.items()]
    for name, answering in judging.items():
        unreadable += asking.ask(run, name, answering, pairs, prompts, progress, spent)
        judged.append(_answered(run, name, answering, pairs))
    if asked.consensus:
        judged.append(_consensus(run, asked.consensus, pairs))
    return Labels(judged, list({found.image_id: found for found in unreadable}.values()))


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
    presence.demand({name: _weights(run, name) for name in (*asked.scorers, *asked.pairwise)})
    loaded: dict[str, Scorer] = {}
    judging: dict[str, PairJudge] = {}
    for name in (*asked.scorers, *asked.pairwise):
        progress.note(f"Loading {name}")
        if name in asked.scorers:
            loaded[name] = scorers.load(name, _weights(run, name))
        else:
            judging[name] = scorers.load_judge(name, _weights(run, name))
    return loaded, judging


def _prefer(run: Run, name: str, scorer: Scorer, pairs: Pairs) -> Judged:
    """A scorer's preferences, by its slope: a number of the recipe, one fitted on people, or its own; or else by order."""
    values = scoring.scores(run, name, scorer.recipe)
    score_a, score_b = (np.array([values.get(pair[side], np.nan) for pair in pairs]) for side in ("image_a", "image_b"))
    weights, tie_band = _weights(run, name), run.recipe.label.tie_band
    slope, source = scorer.preference.slope, scorer.preference.why
    if weights.slope == "human":
        slope, source = _fitted(run, name, score_a - score_b, pairs)
    elif weights.slope is not None:
        slope, source = weights.slope, "set by the recipe"
    p_a = preferences.from_scores(score_a, score_b, slope=slope, tie_band=tie_band, margin=weights.margin)
    how = preferences.rule(slope=slope, tie_band=tie_band, margin=weights.margin, source=source)
    return _commit(run, name, pairs, p_a, score_a - score_b, how)


def _fitted(run: Run, name: str, difference: Column, pairs: Pairs) -> tuple[float, str]:
    try:
        fit = preferences.fit_slope(difference, _column(run, HUMAN, pairs), [pair["prompt_id"] for pair in pairs])
    except UserError as error:
        raise UserError(f"label.scorers.{name}.slope=human: {error}") from error
    return fit.slope, f"fitted on {fit.votes} {run.recipe.title(HUMAN)} votes, standard error {fit.error:.2g}"


def _answered(run: Run, name: str, judge: PairJudge, pairs: Pairs) -> Judged:
    answers = asking.answers(run, name, judge.recipe)
    told = [answers[pair["pair_id"]].p_a if pair["pair_id"] in answers else None for pair in pairs]
    p_a = np.array([np.nan if choice is None else choice for choice in told], dtype=np.float64)
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
    known = {row["pair_id"]: row["p_a"] for row in run.rows("preferences", ["pair_id", "p_a"], judge)}
    return np.array([known.get(pair["pair_id"], np.nan) for pair in pairs], dtype=np.float64)


def _vote(
    run: Run, pairs: Pairs, prompts: Mapping[str, str], progress: engine.Progress
) -> tuple[Judged, list[scoring.Unreadable]]:
    """One vote a pair by the simulated raters, who see the picture and its prompt; and what they could not see."""
    from aifeedback_dpo.shapes import grammar, oracle, raters

    utilities: dict[str, float] = {}
    unseen: list[scoring.Unreadable] = []
    with progress.task("Simulated raters vote", len(prompts)) as bar:
        for image_id, data in run.images(prompts.keys()):
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
    rows = [
        {
            "pair_id": pair["pair_id"],
            "judge": judge,
            "p_a": float(p_a[at]),
            "margin": float(margin[at]),
            "annotator": annotators[at] if annotators else judge,
            "votes": votes,
            "rule": rule,
        }
        for at, pair in enumerate(pairs)
        if not np.isnan(p_a[at])
    ]
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
