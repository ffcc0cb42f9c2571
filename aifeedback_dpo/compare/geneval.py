"""GenEval's rules (Ghosh et al. 2023, arXiv:2310.11513), on what a detector found: objects, counts, colours, positions.

They are those of its evaluation/evaluate_images.py with its default numbers (github.com/djghosh13/geneval), as pure functions.
A box is left, top, right, bottom in pixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
COUNTING = "counting"  # the task of prompts whose objects are counted
SPEAKS = 0.5  # the share of the way that must lie in a direction for it to be said

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Rules:
    """The numbers that decide, by default the original's.

    An object counts above `score`, above `counting_score` where objects are counted; the `most` surest of a class are kept, of
    two that overlap by `overlap` or more the surer one (1: both). Two centres may be apart by `offset` of both sizes and be at
    the same place.
    """

    score: float = 0.3
    counting_score: float = 0.9
    most: int = 16
    overlap: float = 1.0
    offset: float = 0.1


@dataclass(frozen=True)
class Detection:
    """An object: its class, its box, how sure the detector is, and the pixels it covers where the detector tells them."""

    label: str
    box: Box
    score: float
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what its prompt asks for, and each thing that it does not."""

    correct: bool
    reasons: tuple[str, ...]


# The colours of some objects of one class, by class and objects.
NameColours = Callable[[str, Sequence[Detection]], Sequence[str]]


def kept(detections: Sequence[Detection], task: str, rules: Rules) -> dict[str, list[Detection]]:
    """The objects that count, by class, surest first. Of two of a class that overlap too far the surer one is kept."""
    least = rules.counting_score if task == COUNTING else rules.score
    found: dict[str, list[Detection]] = {}
    by_class: dict[str, list[Detection]] = {}
    for one in sorted(detections, key=lambda one: -one.score):
        if one.score > least:
            by_class.setdefault(one.label, []).append(one)
    for label, several in by_class.items():
        for one in several[: rules.most]:
            others = found.setdefault(label, [])
            if rules.overlap == 1 or all(overlap(one.box, other.box) < rules.overlap for other in others):
                others.append(one)
    return found


def overlap(one: Box, other: Box) -> float:
    """Intersection over union; a box covers its last row and column, as in the original."""
    shared = (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    inside = _area(shared)
    union = _area(one) + _area(other) - inside
    return inside / union if union else 0.0


def relations(one: Box, other: Box, offset: float) -> set[str]:
    """Where the first stands, seen from the second: at most two of RELATIONS, none where both are at the same place.

    Of the way between the centres, `offset` of both sizes is taken off on each axis; what is left must be more than half of
    the whole way.
    """
    (ax, ay), (bx, by) = _centre(one), _centre(other)
    sizes = (_width(one) + _width(other), _height(one) + _height(other))
    way = (ax - bx, ay - by)
    left = [math.copysign(max(abs(step) - offset * size, 0), step) for step, size in zip(way, sizes, strict=True)]
    if max(map(abs, left)) < 1e-3:
        return set()
    x, y = (step / math.hypot(*way) for step in left)
    told = {"left of": x < -SPEAKS, "right of": x > SPEAKS, "above": y < -SPEAKS, "below": y > SPEAKS}
    return {name for name, holds in told.items() if holds}


def verdict(
    objects: Mapping[str, Sequence[Detection]], asked: Mapping[str, Any], colours: NameColours, rules: Rules
) -> Verdict:
    """Whether these objects (by class, surest first) are what `include` asks for and not what `exclude` forbids.

    Of each class the `count` surest are looked at: all of them must have the colour, and stand to all of those of an earlier
    entry as `position` says. `exclude` forbids `count` or more. `colours` is asked only where a colour is.
    """
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []  # of each entry, None where it is not met
    for wanted in asked.get("include", ()):
        found = list(objects.get(wanted["class"], ()))[: wanted["count"]]
        wrong = _wrong(found, wanted, groups, colours, rules)
        reasons += [wrong] if wrong else []
        groups.append(None if wrong else found)
    for unwanted in asked.get("exclude", ()):
        if (count := len(objects.get(unwanted["class"], ()))) >= unwanted["count"]:
            reasons.append(f"expected fewer than {unwanted['count']} {unwanted['class']}, found {count}")
    return Verdict(not reasons, tuple(reasons))


def _wrong(
    found: Sequence[Detection],
    wanted: Mapping[str, Any],
    groups: Sequence[Sequence[Detection] | None],
    colours: NameColours,
    rules: Rules,
) -> str | None:
    """What is wrong with the objects of one entry."""
    label, count = wanted["class"], wanted["count"]
    if len(found) < count:
        return f"expected {count} {label}, found {len(found)}"
    if (colour := wanted.get("color")) is not None:
        seen = list(colours(label, found))
        if seen.count(colour) < count:
            return f"expected {count} {colour} {label}, found {', '.join(seen)}"
    if (position := wanted.get("position")) is not None:
        relation, target = position
        others = groups[target]
        if others is None:
            return f"nothing is there for {label} to be {relation}"
        for one in found:
            for other in others:
                if relation not in (stands := relations(one.box, other.box, rules.offset)):
                    return (
                        f"expected {label} {relation} {other.label}, found {' and '.join(sorted(stands)) or 'neither'}"
                    )
    return None


def understood(asked: Mapping[str, Any]) -> str | None:
    """What keeps an item from being checked; None for one that can be."""
    include = asked.get("include")
    if not isinstance(include, Sequence) or not include:
        return "no `include`"
    for at, wanted in enumerate([*include, *(asked.get("exclude") or ())]):
        if not isinstance(wanted, Mapping) or not isinstance(wanted.get("class"), str):
            return "an entry without `class`"
        if not isinstance(wanted.get("count"), int) or wanted["count"] < 1:
            return f"count {wanted.get('count')!r} of {wanted['class']}"
        if (colour := wanted.get("color")) is not None and colour not in COLOURS:
            return f"the colour {colour!r}, which is none of {', '.join(COLOURS)}"
        if (position := wanted.get("position")) is not None:
            ok = isinstance(position, Sequence) and len(position) == 2 and position[0] in RELATIONS
            if not ok or position[1] not in range(at):
                return f"the position {position!r}"
    return None


def _area(box: Box) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _width(box: Box) -> float:
    return abs(box[2] - box[0])


def _height(box: Box) -> float:
    return abs(box[3] - box[1])
