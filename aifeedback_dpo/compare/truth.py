"""What is true of a picture in the embedded world, where an oracle reads it back. Each picture is read once, ever."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from aifeedback_dpo import engine, provenance, shapes
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run

TRUTHS = {
    "utility": "what the simulated raters want, before their noise",
    "correct": "the prompt is followed to the letter",
    "appeal": "size, colour and ground, blind to the prompt",
}


def measure(run: Run, prompts: Mapping[str, str], progress: engine.Progress) -> dict[str, tuple[str, dict[str, float]]]:
    """Truth -> what it is, and a number for each image id (`prompts`: image id -> prompt).

    Nothing unless raters are simulated and every prompt is of the grammar. Raises DataError for a picture that cannot be read.
    """
    if run.recipe.label.raters != "simulated" or not all(map(grammar.parse, set(prompts.values()))):
        return {}
    path = run.cache / "measured" / f"oracle-{_version()}.json"
    readings = _kept(path)
    left = {image_id: prompt for image_id, prompt in prompts.items() if image_id not in readings}
    if left:
        readings |= _read(run, left, progress)
        run.write_text(path, json.dumps(readings))
    return {name: (about, {image: readings[image][name] for image in prompts}) for name, about in TRUTHS.items()}


def _kept(path: Path) -> dict[str, dict[str, float]]:
    """What was read before; a file that is broken is made anew."""
    try:
        found: dict[str, dict[str, float]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def strangers(run: Run, prompts: Sequence[str]) -> int:
    """How many of these prompts the oracle cannot read, in a run that has one."""
    return sum(grammar.parse(prompt) is None for prompt in prompts) if run.recipe.label.raters == "simulated" else 0


def broken(image_id: str) -> DataError:
    """What to do about a picture that cannot be read."""
    return DataError(f"image {image_id} cannot be read; delete its part under images/ and run `ddpo compare` again")


def _read(run: Run, prompts: Mapping[str, str], progress: engine.Progress) -> dict[str, dict[str, float]]:
    from aifeedback_dpo.shapes import oracle, raters

    found = {}
    with progress.task("Reading with the oracle", len(prompts)) as bar:
        for image_id, data in run.images(prompts):
            scene = grammar.parse(prompts[image_id])
            assert scene is not None
            try:
                reading = oracle.read(decode_image(data))
            except OSError as error:
                raise broken(image_id) from error
            found[image_id] = {
                "utility": raters.utility(reading, scene),
                "correct": float(reading.correct(scene)),
                "appeal": reading.appeal,
            }
            bar.advance(1)
    return found


def _version() -> str:
    """A hash of the code that reads and weighs."""
    folder = Path(shapes.__file__).parent
    return content_id(
        *(provenance.file_hash(folder / f"{name}.py") for name in ("oracle", "raters", "renderer", "grammar"))
    )[:12]
