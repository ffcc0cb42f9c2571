"""GenEval on pictures of a run: which of them show what their prompts ask for. A picture is looked at once, ever.

    cache/geneval-<recipe>/part-*.jsonl        a verdict a line, with the reasons against it

The recipe is a hash of the detector, of the CLIP that names colours, and of the rules; it is known without loading either.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from aifeedback_dpo import engine, weights
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.compare import geneval, truth
from aifeedback_dpo.compare.suites import Item
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.records import content_id, packed_ids
from aifeedback_dpo.settings import Weights
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.compare.detectors import Detector
    from aifeedback_dpo.scorers.towers import Towers

VERSION = 1  # of the arithmetic here, in `geneval`, `detectors` and `colours`
DETECTOR = "facebook/mask2former-swin-small-coco-instance"  # the backbone of the original's detector
CLIP = "openai/clip-vit-large-patch14"  # the original's weights
PICTURES_A_PART = 64


def measure(run: Run, wanted: Mapping[str, Item], progress: engine.Progress) -> dict[str, float]:
    """Image id -> 1.0 where the picture shows all that is asked for, else 0.0: GenEval's correctness of an image.

    What has been looked at before, for the same question by the same detector, is not looked at again, and where that is
    everything nothing is loaded. Raises UserError for an item without GenEval's `include`, DataError for a picture that
    cannot be read, ModelMissing where the detector or the CLIP cannot be had.
    """
    for item in wanted.values():
        if wrong := geneval.understood(item.data):
            raise UserError(
                f"GenEval cannot check the prompt {item.prompt!r}: its row has {wrong}; such prompts need the `include` of "
                "GenEval's evaluation_metadata.jsonl"
            )
    recipe = _recipe(run)
    folder = run.cache / f"geneval-{recipe}"
    units = {f"{image_id}-{content_id(_asked(item))}": image_id for image_id, item in wanted.items()}
    known = {row["unit"]: bool(row["correct"]) for row in _rows(run, recipe)}
    done = units.keys() & known.keys()
    if len(done) < len(units):
        run.need([units[unit] for unit in units if unit not in done])
        detector, towers = _load(run, progress)
        album = run.album()
        with progress.task("Looking for what the prompts ask for", len(units), len(done)) as bar:
            names, missing = packed_ids(list(units)), np.array([unit not in done for unit in units])
            for part in engine.left(names, missing, PICTURES_A_PART):
                images = {unit: units[unit] for unit in part.of(list(units))}
                rows = list(_look(dict(album.images(set(images.values()))), images, wanted, detector, towers))
                text = "".join(json.dumps(row) + "\n" for row in rows)
                run.write_text(folder / f"part-{part.name}.jsonl", text)
                known |= {row["unit"]: row["correct"] for row in rows}
                bar.advance(len(rows))
    return {image_id: float(known[unit]) for unit, image_id in units.items()}


def about(run: Run) -> str:
    """What the number is, which detector gave it, and how that differs from the original."""
    chosen = run.recipe.compare.detector or DETECTOR
    told = (
        "the picture shows every object, count, colour and place that its prompt asks for, by GenEval's rules "
        f"(arXiv:2310.11513), as {chosen} of transformers sees it; the original has mmdetection's Mask2Former (Swin-S), "
        "trained apart, and nobody has compared the two on the same pictures, so set no score beside published ones"
    )
    if here := weights.here(Weights(id=chosen), "detector"):
        from aifeedback_dpo.compare import detectors

        if detectors.kind(here) == "owlv2":
            told += (
                "; OWLv2 gives boxes without masks, so colours are read from the whole box, and its thresholds are those of "
                "transformers, not GenEval's"
            )
    return told


def _recipe(run: Run) -> str:
    found = [weights.identify(chosen, part) for chosen, part in _weights(run)]
    return content_id("geneval", VERSION, *(one.revision for one in found))


def _weights(run: Run) -> list[tuple[Weights, str]]:
    settings = run.recipe.compare
    return [(Weights(id=settings.detector or DETECTOR), "detector"), (Weights(id=settings.colours or CLIP), "clip")]


def _load(run: Run, progress: engine.Progress) -> "tuple[Detector, Towers]":
    from aifeedback_dpo.compare import detectors
    from aifeedback_dpo.scorers import towers

    (detector, part), (clip, clip_part) = _weights(run)
    progress.note(f"Loading {detector.id}, which finds objects, and {clip.id}, which names colours")
    return detectors.load(weights.locate(detector, part)), towers.load(clip, clip_part)


def _look(
    encoded: Mapping[str, bytes],
    units: Mapping[str, str],
    wanted: Mapping[str, Item],
    detector: "Detector",
    towers: "Towers",
) -> Iterator[dict[str, Any]]:
    """A verdict for each of these pictures, in the order of the plan."""
    from aifeedback_dpo.compare import colours, detectors

    rules = detectors.RULES[detector.kind]
    for unit, image_id in units.items():
        item = wanted[image_id]
        asked = _asked(item)
        try:
            picture = decode_image(encoded[image_id])
        except OSError as error:
            raise truth.broken(image_id) from error
        classes = [entry["class"] for entry in (*asked["include"], *asked["exclude"])]
        objects = geneval.kept(detector.detect(picture, classes), item.category or "", rules)
        found = geneval.verdict(objects, asked, colours.Naming(towers, picture), rules)
        yield {"unit": unit, "image_id": image_id, **asdict(found)}


def _asked(item: Item) -> dict[str, Any]:
    """What decides a verdict besides the picture; a task matters to the thresholds."""
    return {"include": item.data["include"], "exclude": item.data.get("exclude") or [], "task": item.category}


def _rows(run: Run, recipe: str) -> Iterator[dict[str, Any]]:
    for path in sorted((run.cache / f"geneval-{recipe}").glob("part-*.jsonl")):
        try:
            yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is corrupted ({error}); delete it and run `ddpo compare` again") from error
