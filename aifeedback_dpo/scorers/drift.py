"""Whether a scorer still computes what it did: fixed inputs, piece by piece, against golden.json or this machine's record.

For weights that nobody has published numbers for, the first check writes down what it finds, and later ones compare.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aifeedback_dpo import provenance, scorers
from aifeedback_dpo.disk import disk_error
from aifeedback_dpo.errors import DataError, ModelMissing
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers import PairJudge, Scorer, aesthetic, golden
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.weights import locate_file

TOLERANCE = 1e-4  # of a value, or of 1 where the value is smaller
PACKAGED = "golden.json"
SEES_AS = dict.fromkeys(("clip", "clip-h", "pickscore", "aesthetic", "imagereward"), "CLIP") | {
    name: "HPS without antialias" if name.endswith("legacy") else "HPS" for name in CATALOGUE if name.startswith("hps")
}
READS_CLIP = ("clip", "clip-h", "pickscore", "hpsv2", "hpsv2.1", "hpsv2-legacy", "hpsv2.1-legacy")


@dataclass(frozen=True)
class Line:
    """One comparison: what, with which reference, the largest difference, and whether that is nothing.

    There is no difference (None) at the first check, and between numbers and none.
    """

    what: str
    reference: str
    difference: float | None
    holds: bool

    @property
    def verdict(self) -> str:
        """In a word: nothing was compared where there is no difference and nothing is wrong."""
        if not self.holds:
            return "DRIFT"
        return "recorded" if self.difference is None else "ok"


def check(name: str, weights: ScorerWeights) -> tuple[list[Line], str | None]:
    """All that can be compared; and, where weights are not here, what ModelMissing says of them."""
    uses, known = weights.uses or name, golden.known()
    lines = _without_weights(uses, known)
    try:
        if uses == "aesthetic" and weights.id != "shapes":
            lines += _head(weights, known)
        if scorers.is_pairwise(name, weights):
            return [*lines, _recorded(name, weights, *_choices(scorers.load_judge(name, weights)))], None
        scorer = scorers.load(name, weights)
    except ModelMissing as error:
        return lines, str(error)
    found, packaged = golden.scores(scorer), known.get(weights.id, {}).get(uses)
    if packaged is not None and weights.dtype == "float32":
        lines.append(compare("scores", found, packaged))
    else:
        lines.append(_recorded(name, weights, scorer, found))
    return lines, None


def compare(
    what: str,
    found: Sequence[float],
    expected: Sequence[float],
    reference: str = PACKAGED,
    tolerance: float = TOLERANCE,
) -> Line:
    """One line; what is missing (NaN) on both sides is the same, on one side it is not."""
    if len(found) != len(expected):
        return Line(what, reference, None, False)
    ours, theirs = np.array(found, dtype=np.float64), np.array(expected, dtype=np.float64)
    known = ~np.isnan(theirs)
    if not np.array_equal(known, ~np.isnan(ours)):
        return Line(what, reference, None, False)
    apart, allowed = np.abs(ours - theirs)[known], tolerance * np.fmax(1, np.abs(theirs[known]))
    return Line(what, reference, float(apart.max(initial=0)), bool((apart <= allowed).all()))


def folder() -> Path:
    """Where this machine's own records are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(cache) if cache else Path.home() / ".cache") / "aifeedback_dpo" / "golden"


def _without_weights(uses: str, known: Mapping[str, Any]) -> list[Line]:
    lines = []
    if seen := SEES_AS.get(uses):
        found, expected = golden.pixels(golden.PIXELS[seen]), known["pixels"][seen]
        lines += [compare(f"pixels as {seen} sees them, {name}", found[name], expected[name]) for name in expected]
    if uses in READS_CLIP:
        ids, expected = golden.tokens(), known["tokens"]
        for prompt in expected:
            what = f"tokens of CLIP, {prompt[:24]}{'…' * (len(prompt) > 24)}"
            lines.append(compare(what, ids.get(prompt, []), expected[prompt], tolerance=0))
    return lines


def _head(weights: ScorerWeights, known: Mapping[str, Any]) -> list[Line]:
    """A published head, which needs its own file and no CLIP."""
    file = locate_file(weights, weights.file or aesthetic.HEAD)
    values = known["heads"].get(golden.head_id(file))
    return (
        [compare(f"head, {values['name']}", golden.head(aesthetic.read_head(file)), values["values"])] if values else []
    )


def _choices(judge: PairJudge) -> tuple[PairJudge, list[float]]:
    drawn = list(golden.pictures().values())
    answers = judge.ask(drawn, drawn[1:] + drawn[:1], golden.PROMPTS[: len(drawn)])
    return judge, [float("nan") if answer.p_a is None else answer.p_a for answer in answers]


def _recorded(name: str, weights: ScorerWeights, scorer: Scorer | PairJudge, found: Sequence[float]) -> Line:
    """Against what this machine wrote down for these weights; the first time it is written down."""
    asked = weights.model_dump(mode="json", exclude={"slope", "margin"})
    path = folder() / f"{name}-{content_id(asked, golden.PROMPTS)[:12]}.json"
    if not path.is_file():
        values = [None if np.isnan(value) else value for value in found]
        record = {"scorer": name, "weights": asked, "recipe": scorer.recipe, "values": values}
        _write(path, {**record, "recorded": provenance.now(), **provenance.versions()})
        return Line(
            "scores", f"none published: written down in {path}, to be compared from the next check on", None, True
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        expected = [float("nan") if value is None else float(value) for value in record["values"]]
        recipe, when = record["recipe"], str(record["recorded"])[:10]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no record of scores ({error}); delete it, and the next check writes it anew"
        ) from error
    other = "" if recipe == scorer.recipe else ", since then other weights or other preprocessing"
    return compare("scores", found, expected, f"this machine's own of {when} ({path}){other}")


def _write(path: Path, record: Mapping[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
