"""What is measured on each held-out picture: every scorer of the run and, in the embedded world, the oracle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aifeedback_dpo import engine, scorers
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.records import CONTROL
from aifeedback_dpo.scorers import scoring
from aifeedback_dpo.store import Run, decode_image


@dataclass(frozen=True)
class Metric:
    """A number for each image id. `truth` marks the oracle's; a simulated vote is a noisy draw of its utility."""

    name: str
    about: str
    truth: bool
    values: dict[str, float]


def measure(run: Run, prompts: Mapping[str, str], progress: engine.Progress) -> list[Metric]:
    """All metrics of these pictures (image id -> prompt), truth first. Raises DataError where a picture cannot be read.

    A judge of pairs gives no number for a picture and is no metric; nor is a scorer that has none for some of them.
    """
    found = _oracle(run, prompts, progress) if run.recipe.label.raters == "simulated" else []
    loaded = {
        name: scorers.load(name, weights)
        for name, weights in run.recipe.label.scorers.items()
        if name != CONTROL and not scorers.is_pairwise(name, weights)
    }
    unreadable = scoring.score(run, loaded, prompts, progress)
    if unreadable:
        raise _broken(unreadable[0].image_id)
    for name, scorer in loaded.items():
        known = scoring.scores(run, name, scorer.recipe)
        values = {image_id: known[image_id] for image_id in prompts}
        if missing := sum(map(math.isnan, values.values())):
            progress.note(f"{name} is left out: it has no score for {missing} of {len(values)} held-out pictures")
            continue
        about = "P(preferred) is its sigmoid" if scorer.preference.slope else "only its order means anything"
        found.append(Metric(name, about, False, values))
    return found


def _broken(image_id: str) -> DataError:
    return DataError(
        f"held-out image {image_id} cannot be read; delete its part under images/ and run `ddpo compare` again"
    )


def _oracle(run: Run, prompts: Mapping[str, str], progress: engine.Progress) -> list[Metric]:
    from aifeedback_dpo.shapes import grammar, oracle, raters

    utility, correct, appeal = dict[str, float](), dict[str, float](), dict[str, float]()
    with progress.task("Reading with the oracle", len(prompts)) as bar:
        for image_id, data in run.images(prompts):
            scene = grammar.parse(prompts[image_id])
            if scene is None:
                raise DataError(f"the oracle reads the shapes grammar only; this prompt is not: {prompts[image_id]!r}")
            try:
                reading = oracle.read(decode_image(data))
            except OSError as error:
                raise _broken(image_id) from error
            utility[image_id] = raters.utility(reading, scene)
            correct[image_id] = float(reading.correct(scene))
            appeal[image_id] = reading.appeal
            bar.advance(1)
    return [
        Metric("utility", "what the simulated raters want, before their noise", True, utility),
        Metric("correct", "the prompt is followed to the letter", True, correct),
        Metric("appeal", "size, colour and ground, blind to the prompt", True, appeal),
    ]
