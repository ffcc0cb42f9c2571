"""Whether policies are what was saved: described, with all their weights, and trained on the labels that the run holds now."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aifeedback_dpo import provenance
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.parts import of_run
from aifeedback_dpo.store import Run, read_policy
from aifeedback_dpo.verify import whole
from aifeedback_dpo.verify.findings import Findings


def check(run: Run, found: Findings) -> None:
    """All policies, those in training too."""

    @cache
    def labels(judge: str) -> str | None:
        try:
            return run.labels(judge)
        except DdpoError:
            return None  # told with the parts

    for folder in sorted(run.root.glob("policies/*/seed-*")):
        if not re.fullmatch(r"seed--?\d+", folder.name):
            continue
        train = of_run("`ddpo train`", run.root)
        then = f"Delete {folder} and run {train} again, with the judge and the settings that it had"
        _in_training(folder, found, train, then)
        if not (folder / "policy.json").exists():
            continue
        found.checked["policies"] += 1
        are_whole = _weights(folder, found, then)
        if found.look("policy", folder / "policy.json", then, _description):
            described = read_policy(folder)
            if are_whole and described["weights"] != provenance.weights_fingerprint(folder):
                found.fault("policy", folder, "has other weights than those that were trained", then)
            if labels(described["judge"]) not in (None, described["labels"]):
                found.note(f"{folder} was trained on other labels of {described['judge']} than those now in the run")


def _in_training(folder: Path, found: Findings, train: str, then: str) -> None:
    """What training has left to go on from."""
    for path in sorted(folder.glob("checkpoints/step-*.pt")):
        found.look("checkpoint", path, f"Delete it and run {train} again", whole.checkpoint)
    if (folder / "inputs.json").exists() and not (folder / "policy.json").exists():
        found.look("policy", folder / "inputs.json", then, whole.json_object)


def _weights(folder: Path, found: Findings, then: str) -> bool:
    """Whether all of them can be read."""
    there = [path for path in sorted(folder.rglob("*.safetensors")) if "checkpoints" not in path.parts]
    readable = [found.look("policy", path, then, whole.safetensors) for path in there]
    named = {name for index in folder.rglob("*.index.json") for name in _shards(index)}
    lacking = sorted(named - {path.name for path in there})
    if lacking or not there:
        found.fault("policy", folder, f"lacks its weights ({', '.join(lacking) or 'no .safetensors'})", then)
        return False
    return all(readable)


def _shards(index: Path) -> Iterator[str]:
    """The files that an index names; one that cannot be read is missing itself."""
    try:
        yield from set(json.loads(index.read_text())["weight_map"].values())
    except whole.BROKEN:
        yield index.name


def _description(path: Path) -> None:
    described = whole.json_object(path)
    for key in ("judge", "seed", "labels", "weights", "inputs", "steps"):
        described[key]
