"""What is measured on each picture: every scorer of the run, GenEval's detector and, in the embedded world, the oracle."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifeedback_dpo import engine, scorers
from aifeedback_dpo.compare import truth
from aifeedback_dpo.records import CONTROL
from aifeedback_dpo.scorers import Scorer, kept, presence, scoring
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.compare.suites import Item


@dataclass(frozen=True)
class Metric:
    """A number for each image id. `truth` is the oracle's; a simulated vote is a noisy draw of its utility.

    A `macro` mean counts every category the same, however many prompts it has.
    """

    name: str
    about: str
    kind: str
    values: Mapping[str, float] = field(repr=False)
    unit: str = ""
    binary: bool = False
    macro: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.name,
            "about": self.about,
            "kind": self.kind,
            "unit": self.unit,
            "binary": self.binary,
        }


def measure(
    run: Run,
    prompts: Mapping[str, str],
    progress: engine.Progress,
    detected: Mapping[str, "Item"] | None = None,
    left_out: dict[str, int] | None = None,
) -> list[Metric]:
    """All metrics of these pictures (image id -> prompt), truth first; `detected` are those that a detector checks.

    A judge of pairs gives no number for a picture and is no metric; nor is a scorer that has none for some of them, which is
    noted, and told in `left_out` with how many.

    Nothing is loaded where everything has been measured before. Raises DataError for a picture that cannot be read.
    """
    found = [
        Metric(name, about, "truth", values, binary=name == "correct")
        for name, (about, values) in truth.measure(run, prompts, progress).items()
    ]
    if detected:
        found.append(_detector(run, detected, progress))
    asked = {
        name: weights
        for name, weights in run.recipe.label.scorers.items()
        if name != CONTROL and not scorers.is_pairwise(name, weights)
    }
    for name, (known, slope) in _scored(run, asked, prompts, progress).items():
        values = {image_id: known.get(image_id, math.nan) for image_id in prompts}
        if missing := sum(map(math.isnan, values.values())):
            progress.note(f"{name} is left out: it has no score for {missing} of {len(values)} pictures")
            if left_out is not None:
                left_out[name] = missing
            continue
        about = "P(preferred) is its sigmoid" if slope else "only its order means anything"
        entry = CATALOGUE.get(asked[name].uses or name) if asked[name].id != "shapes" else None
        found.append(
            Metric(name, f"{entry.about}; {about}" if entry else about, "scorer", values, entry.range if entry else "")
        )
    return found


def _scored(
    run: Run, asked: Mapping[str, ScorerWeights], prompts: Mapping[str, str], progress: engine.Progress
) -> dict[str, tuple[Mapping[str, float], float | None]]:
    """Each scorer's scores of all of these pictures, and its slope."""
    found: dict[str, tuple[Mapping[str, float], float | None]] = {}
    for name, weights in asked.items():
        if remembered := _remembered(run, name, weights):
            recipe, slope = remembered
            scores = kept.scores(run, name, recipe)
            if prompts.keys() <= scores.keys():
                found[name] = (scores, slope)
    left = {name: weights for name, weights in asked.items() if name not in found}
    presence.demand(left)
    loaded: dict[str, Scorer] = {}
    for name, weights in left.items():
        progress.note(f"Loading {name}")
        loaded[name] = scorers.load(name, weights)
    unreadable = scoring.score(run, loaded, prompts, progress)
    if unreadable:
        raise truth.broken(unreadable[0].image_id)
    for name, scorer in loaded.items():
        slope = scorer.preference.slope
        _remember(run, name, asked[name], (scorer.recipe, slope))
        found[name] = (kept.scores(run, name, scorer.recipe), slope)
    return {name: found[name] for name in asked}


def _memory(run: Run, name: str) -> Path:
    return run.cache / "measured" / f"{name}.json"


def _remembered(run: Run, name: str, weights: ScorerWeights) -> tuple[str, float | None] | None:
    path, made_of = _memory(run, name), presence.made_of(name, weights)
    if made_of is None or not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        return (kept["recipe"], kept["slope"]) if kept["made_of"] == made_of else None
    except (ValueError, KeyError, TypeError):
        return None


def _remember(run: Run, name: str, weights: ScorerWeights, made: tuple[str, float | None]) -> None:
    if made_of := presence.made_of(name, weights):
        kept = {"made_of": made_of, "recipe": made[0], "slope": made[1]}
        run.write_text(_memory(run, name), json.dumps(kept) + "\n")


def _detector(run: Run, wanted: Mapping[str, "Item"], progress: engine.Progress) -> Metric:
    from aifeedback_dpo.compare import detecting

    values = detecting.measure(run, wanted, progress)
    return Metric("geneval", detecting.about(run), "detector", values, "share of pictures", binary=True, macro=True)
