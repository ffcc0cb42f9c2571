"""Stage 2: pictures to scores to preferences. Every judge, a scorer or a person, writes the same rows for the same pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aifeedback_dpo import engine, preferences, scorers
from aifeedback_dpo.config import ScorerWeights
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import CONTROL, HUMAN
from aifeedback_dpo.scorers import scoring
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


@dataclass(frozen=True)
class Plan:
    """What `ddpo label` would do: images to score and already scored, by scorer, and the pairs to judge."""

    pairs: int
    images: int
    scored: dict[str, int]
    judges: list[str]


@dataclass(frozen=True)
class Labels:
    """The judges' rows, counted, and the pictures that could not be read."""

    judged: list[Judged] = field(default_factory=list)
    unreadable: list[scoring.Unreadable] = field(default_factory=list)


def judges_of(run: Run, names: Sequence[str]) -> list[str]:
    """The scorers asked for (the recipe's `ai` by default), checked, and the random control."""
    asked = [run.recipe.label.ai if name == "ai" else name for name in names] or [run.recipe.label.ai]
    for name in (*asked, *run.recipe.label.scorers):
        scorers.check(name)
    return list(dict.fromkeys([*asked, CONTROL]))


def plan(run: Run, names: Sequence[str]) -> Plan:
    """Counts, without loading a scorer."""
    judges = judges_of(run, names)
    pairs = run.rows("pairs")
    images = {image for pair in pairs for image in (pair["image_a"], pair["image_b"])}
    scored = {name: len(images & run.done("scores", name)) for name in judges}
    return Plan(len(pairs), len(images), scored, [*judges, *([HUMAN] if run.recipe.label.raters else [])])


def label(run: Run, names: Sequence[str], progress: engine.Progress) -> Labels:
    """Scores what is not scored yet and writes each judge's preferences; in the embedded world the raters vote as well.

    Raises UserError for a scorer nobody knows or a run without pairs.
    """
    judges = judges_of(run, names)
    pairs = run.rows("pairs")
    if not pairs:
        raise UserError(f"{run.root} has no pairs yet; run `ddpo generate` first")
    text = {row["prompt_id"]: row["prompt"] for row in run.rows("prompts")}
    prompts = {pair[side]: text[pair["prompt_id"]] for pair in pairs for side in ("image_a", "image_b")}
    run.need(prompts)
    result = Labels()
    broken: dict[str, scoring.Unreadable] = {}
    for name in judges:
        weights = run.recipe.label.scorers.get(name) or (ScorerWeights(id="none") if name == CONTROL else None)
        if weights is None:
            raise UserError(
                f"label.scorers.{name} is not in the recipe; add its weights, as in label.scorers.{name}.id=FOLDER"
            )
        progress.note(f"Loading {name}")
        scorer = scorers.load(name, weights)
        run.record(f"label/{name}", "running", scorer=scorer.recipe, weights=weights.id)
        broken |= {found.image_id: found for found in scoring.score(run, name, scorer, prompts, progress)}
        values = scoring.scores(run, name, scorer.recipe)
        score_a, score_b = (
            np.array([values.get(pair[side], np.nan) for pair in pairs]) for side in ("image_a", "image_b")
        )
        slope, tie_band = weights.slope or scorer.slope, run.recipe.label.tie_band
        p_a = preferences.from_scores(score_a, score_b, slope=slope, tie_band=tie_band)
        how = preferences.rule(slope=slope, tie_band=tie_band)
        rows = [
            _row(pair, name, float(p), margin=float(margin), annotator=name, rule=how)
            for pair, p, margin in zip(pairs, p_a, score_a - score_b, strict=True)
            if not np.isnan(p)
        ]
        result.judged.append(_commit(run, name, rows, len(pairs), how))
        run.record(f"label/{name}", "done", rule=how, pairs=len(rows))
    if run.recipe.label.raters == "simulated":
        judged, unseen = _vote(run, pairs, prompts, progress)
        result.judged.append(judged)
        broken |= {found.image_id: found for found in unseen}
    result.unreadable.extend(broken.values())
    return result


def _vote(
    run: Run, pairs: list[dict[str, str]], prompts: dict[str, str], progress: engine.Progress
) -> tuple[Judged, list[scoring.Unreadable]]:
    """One vote a pair by the simulated raters, who see the picture and its prompt; and what they could not see."""
    from aifeedback_dpo.shapes import grammar, oracle, raters

    utilities: dict[str, float] = {}
    unseen: list[scoring.Unreadable] = []
    with progress.task("Simulated raters vote", len(prompts)) as bar:
        for image_id, data in run.images(prompts):
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
    rows = []
    for pair in pairs:
        if pair["image_a"] in utilities and pair["image_b"] in utilities:
            seed = (run.recipe.seed, "vote", pair["pair_id"])
            p_a = raters.vote(utilities[pair["image_a"]], utilities[pair["image_b"]], *seed)
            rows.append(
                _row(pair, HUMAN, p_a, margin=p_a - 0.5, annotator=raters.rater(*seed), rule="one simulated vote")
            )
    judged = _commit(run, HUMAN, rows, len(pairs), "one simulated vote")
    run.record(f"label/{HUMAN}", "done", simulated=True, pairs=len(rows))
    return judged, unseen


def _row(
    pair: dict[str, str], judge: str, p_a: float, *, margin: float, annotator: str, rule: str
) -> dict[str, object]:
    return {
        "pair_id": pair["pair_id"],
        "judge": judge,
        "p_a": p_a,
        "margin": margin,
        "annotator": annotator,
        "votes": 1,
        "rule": rule,
    }


def _commit(run: Run, judge: str, rows: list[dict[str, object]], pairs: int, rule: str) -> Judged:
    run.commit("preferences", rows, "current", judge)
    p_a = np.array([row["p_a"] for row in rows], dtype=np.float64)
    wins, losses = int((p_a > 0.5).sum()), int((p_a < 0.5).sum())
    return Judged(judge, wins, losses, len(rows) - wins - losses, pairs - len(rows), rule)
