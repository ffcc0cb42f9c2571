"""Labels or pictures? Policies in a grid of label source by image source, as pure functions of their scores.

    labels        half the sum over image sources of (labels 2 - labels 1): what other labels do on the same pictures
    images        half the sum over label sources of (images 2 - images 1): what other pictures do under the same labels
    interaction   (labels 2 - labels 1) on images 2, minus the same on images 1: whether one depends on the other

The main effects and the interaction of a 2 x 2 factorial design (Fisher 1935). Sources of feedback that bring their own
pictures, as a public set does, confound the first two (as in RankDPO's table, Karthik et al. 2024, arXiv:2410.18013).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, over_prompts, over_seeds

Array = NDArray[np.float64]
Cell = tuple[str, str]  # a judge, and the run whose pictures it labelled


@dataclass(frozen=True)
class Effect:
    """One contrast of the grid: `difference` is of these very policies, `over_seeds` of policies trained like them."""

    effect: str
    of: str
    difference: Estimate
    over_seeds: Estimate | None


def grid(cells: Sequence[Cell]) -> tuple[list[str], list[str]] | None:
    """The label sources and the image sources that are there in full, two of each at least; None without such a grid."""
    images = list(dict.fromkeys(image for _, image in cells))
    labels = [
        label
        for label in dict.fromkeys(label for label, _ in cells)
        if all((label, image) in cells for image in images)
    ]
    return (labels, images) if len(labels) > 1 and len(images) > 1 else None


def effects(
    scores: Mapping[Cell, Array], prompts: Sequence[str], *, resamples: int, confidence: float, seed: int
) -> list[Effect]:
    """Every 2 x 2 of the grid. `scores` are (training seeds, pictures), the same seeds and pictures in each cell."""
    labels, images = grid(list(scores)) or ([], [])
    found = []
    for effect, of, values in _contrasts(scores, labels, images):
        here = over_prompts(values, prompts, resamples=resamples, confidence=confidence, seed=seed)
        further = over_seeds(values, prompts, confidence=confidence) if len(values) > 1 else None
        found.append(Effect(effect, of, here, further))
    return found


def _contrasts(
    scores: Mapping[Cell, Array], labels: Sequence[str], images: Sequence[str]
) -> Iterator[tuple[str, str, Array]]:
    for one, other in combinations(labels, 2):
        by_image = [scores[other, image] - scores[one, image] for image in images]
        yield "labels", f"{other} - {one}", np.mean(by_image, axis=0)
    for one, other in combinations(images, 2):
        by_label = [scores[label, other] - scores[label, one] for label in labels]
        yield "images", f"{other} - {one}", np.mean(by_label, axis=0)
    for (one, other), (here, there) in ((x, y) for x in combinations(labels, 2) for y in combinations(images, 2)):
        change = (scores[other, there] - scores[one, there]) - (scores[other, here] - scores[one, here])
        yield "interaction", f"({other} - {one}) on {there} - on {here}", change
