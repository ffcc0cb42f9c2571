"""Whether what a scorer needs is on this machine, and which revision, found out without loading it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from aifeedback_dpo import hub, provenance, shapes
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.provenance import file_hash
from aifeedback_dpo.records import content_id
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import Located, LocatedFile, file_here, here, repository

PACKAGES = {"ocr": ("rapidocr", "onnxruntime", "rapidfuzz")}  # of an extra of this package
INSIDE = ("none", "rapidocr")  # no weights, or those of an installed package
# where open_clip's own table points; asking open_clip itself would load torch
OPEN_CLIP = {"open_clip:ViT-H-14/laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def missing(name: str, weights: ScorerWeights) -> list[str]:
    """What to run or to mend before this scorer can work here; empty where all is there."""
    entry = CATALOGUE.get(weights.uses or name)
    steps = []
    if entry and entry.extra and not all(map(find_spec, PACKAGES[entry.extra])):
        steps.append(f'pip install "aifeedback_dpo[{entry.extra}]"')
    try:
        found = _found(name, weights)
    except ModelMissing as error:
        return [*steps, str(error)]
    absent = [what for what in found if isinstance(what, Repository | str)]
    return [*steps, *(what if isinstance(what, str) else what.fetch for what in absent)]


def revisions(name: str, weights: ScorerWeights) -> dict[str, str]:
    """Which weights exactly, of those on this machine: their id, and the hub's commit or a hash of the content."""
    return {what.name: what.revision for what in _found(name, weights) if isinstance(what, Located | LocatedFile)}


def made_of(name: str, weights: ScorerWeights) -> str | None:
    """A hash of what a scorer's `recipe` follows from, found out without loading it: weights, settings, versions.

    None where nobody can tell: of one's own code, which may change, and of weights that are not on this machine yet.
    """
    uses = weights.uses or name
    if ":" in uses:
        return None
    try:
        known = revisions(name, weights)
    except ModelMissing:
        return None
    if not known and weights.id not in INSIDE and not weights.id.startswith("open_clip:"):
        return None
    said = weights.model_dump(mode="json", exclude={"slope", "margin"})  # rules of preferences, which change no score
    return content_id(uses, known, said, provenance.versions()["versions"])


def demand(asked: Mapping[str, ScorerWeights]) -> None:
    """Raises ModelMissing, within seconds and before anything heavy is loaded, where weights can be had nowhere."""
    absent = {
        name: what for name, weights in asked.items() for what in _found(name, weights) if isinstance(what, Repository)
    }
    for name, what in absent.items():
        try:
            hub.commit(what)
        except ModelMissing as error:
            others = [other for other in absent if other != name]
            also = f"; {', '.join(others)} may be missing as well: see `ddpo doctor`" if others else ""
            raise ModelMissing(f"{error}{also}") from error


def takes_no_weights(name: str, weights: ScorerWeights) -> None:
    """Raises UserError where somebody names weights for a scorer that has none to choose from."""
    own = CATALOGUE[name].weights.id
    if weights.id != own or weights.file:
        raise UserError(
            f"{name} takes no weights, and id is '{weights.file or weights.id}'; leave it out, or write '{own}'"
        )


def is_embedded(name: str) -> bool:
    """Whether the embedded world has weights of its own for this scorer, which go by the id `shapes`."""
    return shapes.weights(name).is_dir()


def _found(name: str, weights: ScorerWeights) -> list[Located | LocatedFile | Repository | str]:
    """What a scorer stands on: where it lies, or the repository that has it, or a word where neither can be told here.

    Raises ModelMissing for a folder or file that is not what it should be. Nobody knows what a user's own scorer needs.
    """
    uses = weights.uses or name
    if weights.id in INSIDE or ":" in uses:
        return []
    found = [_one(uses, weights, weights.file)]
    if weights.base:
        found.append(_one("tokenizer" if uses == "imagereward" else "clip", weights.base, None))
    return found


def _one(part: str, weights: Weights, file: str | None) -> Located | LocatedFile | Repository | str:
    if weights.id in OPEN_CLIP:
        source = Weights(id=OPEN_CLIP[weights.id], revision=weights.revision)
        there = (file_here(source, name) for name in OPEN_CLIP_FILES)
        return next(filter(None, there), Repository(source.id, source.revision, OPEN_CLIP_FILES[:1]))
    if weights.id.startswith("open_clip:"):
        if file:
            path = Path(file).expanduser()
            known = LocatedFile(path, file, file_hash(path.resolve())[:32]) if path.is_file() else None
            return known or f"there is no file {file} for {weights.id}"
        return f"{weights.id} is fetched when it is first used"
    if file:
        return file_here(weights, file) or Repository(weights.id, weights.revision, (file,))
    return here(weights, part) or repository(weights, part)
