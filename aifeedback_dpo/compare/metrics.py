"""What is measured on each held-out picture: every scorer of the recipe and, in the embedded world, the oracle."""

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
    """All metrics of these pictures (image id -> prompt), truth first. Raises DataError where a picture cannot be read."""
    found = _oracle(run, prompts, progress) if run.recipe.label.raters == "simulated" else []
    for name, weights in run.recipe.label.scorers.items():
        if name == CONTROL:
            continue
        scorer = scorers.load(name, weights)
        unreadable = scoring.score(run, name, scorer, prompts, progress)
        if unreadable:
            raise _broken(unreadable[0].image_id)
        values = scoring.scores(run, name, scorer.recipe)
        about = "P(preferred) is its sigmoid" if scorer.slope else "only its order means anything"
        found.append(Metric(name, about, False, {image_id: values[image_id] for image_id in prompts}))
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
