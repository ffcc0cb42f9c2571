"""Stage 2: pictures to scores to preferences. Every judge, a scorer or a person, writes the same rows for the same pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aifeedback_dpo import engine, judged, judges, scorers, votes, workers
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.judged import Judged
from aifeedback_dpo.judges import Asked
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.pairs import Pairs
from aifeedback_dpo.records import CONSENSUS, HUMAN, packed_ids
from aifeedback_dpo.scorers import PairJudge, Scorer, asking, kept, presence, scoring
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run


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
        opened.record(f"label/{name}", "running", counted_by="scorer", scorer=scorer.recipe, weights=known)
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
        seen = engine.run(scoring.asked(scored, place.shard), progress, place) if loaded else []
        for interview in interviews:
            told = [one.image_id for one in seen]
            seen += engine.run(replace(asking.asked(interview, place.shard), told=told), progress, place)
    except UserError:
        for name in (*loaded, *judging):
            opened.record(f"label/{name}", "failed")
        raise
    if not place.whole and (left := _left(run, scored, interviews, pairs)):
        return Labels([], _once(seen), left)
    unreadable = _unreadable(run, scored, interviews, pairs)
    scoring.warn(scored, progress)
    found: list[Judged] = []
    if run.recipe.label.raters == "simulated":  # before the scorers' preferences, which may be fitted on these
        voted, unseen = judged.by_raters(run, pairs, prompts, progress)
        found.append(voted)
        unreadable = _once([*unreadable, *unseen])
    looks = kept.Looks.read(run) if loaded else None
    found += [judged.by_scores(run, name, scorer, pairs, looks) for name, scorer in loaded.items()]
    found += [judged.by_answers(run, name, answering, pairs) for name, answering in judging.items()]
    if asked.consensus:
        found.append(judged.together(run, asked.consensus, pairs))
    return Labels(found, unreadable)


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
    left = [absent(pairs.images, kept.scored(run, name, recipe)) & readable for name, recipe in scored.recipes.items()]
    both = absent(pairs.a, lost) & absent(pairs.b, lost)
    left += [absent(pairs.ids, asking.answered(run, one.name, one.recipe)) & both for one in interviews]
    return int(sum(some.sum() for some in left))


def _unreadable(
    run: Run, scored: scoring.Scoring, interviews: Sequence[asking.Asking], pairs: Pairs
) -> list[scoring.Unreadable]:
    """The pictures that nobody, in no share, could look at: of those left when all is done, the ones that do not open."""
    left = [pairs.images[absent(pairs.images, kept.scored(run, *one))] for one in scored.recipes.items()]
    for one in interviews:
        silent = absent(pairs.ids, asking.answered(run, one.name, one.recipe))
        left += [pairs.a[silent], pairs.b[silent]]
    found = []
    for image_id, data in run.images({name.decode() for some in left for name in some}):
        try:
            decode_image(data)
        except OSError as error:
            found.append(scoring.Unreadable(image_id, scoring.reason(error)))
    return found


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


def _weights(run: Run, name: str) -> ScorerWeights:
    return run.recipe.label.scorers[name]
