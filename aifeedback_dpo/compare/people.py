"""How far people agree with each other: the ceiling of any judge that is held against one of them."""

from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.agreement import share
from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate
from aifeedback_dpo.store import Run

Array = NDArray[np.float64]
ENOUGH = 5
"""Prompts below which alpha has no interval."""
ABOUT = (
    "two people at random who judged the same pair, ties of either left out; Krippendorff's alpha of a, tie, b as names"
)


def ceiling(run: Run, boot: dict[str, Any]) -> dict[str, Any]:
    """Agreement of two people on a pair, and Krippendorff's alpha, or why there is none.

    People are told apart by name; votes without one, and counts of votes, may be anybody's and are left out.
    """
    if run.recipe.label.raters:
        return {"why_not": "the votes are simulated, one a pair, so no two of them can be compared"}
    pairs = run.read("pairs", ["pair_id", "prompt_id"])
    prompts = dict(zip(pairs.column("pair_id").to_pylist(), pairs.column("prompt_id").to_pylist(), strict=True))
    said: dict[str, dict[str, float]] = defaultdict(dict)
    for part in run.scan("votes", ["pair_id", "annotator", "p_a", "votes"]):
        for row in part.to_pylist():
            alone = row["annotator"] and (row["votes"] or 1) == 1 and row["p_a"] is not None
            if alone and row["pair_id"] in prompts:
                said[row["pair_id"]][row["annotator"]] = float(np.sign(row["p_a"] - 0.5))
    shared = {pair: by for pair, by in said.items() if len(by) > 1}
    if not shared:
        return {"why_not": "no pair has the votes of two people that can be told apart"}
    clusters = [prompts[pair] for pair in shared]
    agreed = np.array([_agreed(list(by.values())) for by in shared.values()])
    return {
        "pairs": len(shared),
        "people": len({name for by in shared.values() for name in by}),
        "agreement": share(agreed[:, 0], agreed[:, 1], clusters, **boot).to_dict(),
        "alpha": _alpha([list(by.values()) for by in shared.values()], clusters, boot),
        "about": ABOUT,
    }


def _agreed(sides: list[float]) -> tuple[float, float]:
    """The share of two people that agree, of those twos that both decided, and whether there are any."""
    twos = [one == other for one, other in combinations(sides, 2) if one and other]
    return (sum(twos) / len(twos), 1.0) if twos else (0.0, 0.0)


def _alpha(said: list[list[float]], clusters: list[str], boot: dict[str, Any]) -> dict[str, Any] | None:
    """None where all said the same; without an interval, which resamples prompts, where those are few."""
    found = estimate(cluster_sums(np.stack([coincidences(sides) for sides in said]), clusters), nominal_alpha, **boot)
    if np.isnan(found.value):
        return None
    if found.prompts < ENOUGH:
        found = Estimate(found.value, float("nan"), float("nan"), found.prompts)
    return found.to_dict()


def coincidences(sides: list[float]) -> Array:
    """What one pair adds to Krippendorff's coincidence matrix (b, tie, a by the same, as 9 numbers), of -1, 0 and 1."""
    counts = np.bincount(np.array(sides, dtype=int) + 1, minlength=3).astype(np.float64)
    matrix: Array = (np.outer(counts, counts) - np.diag(counts)) / (len(sides) - 1)
    return matrix.ravel()


def nominal_alpha(totals: Array) -> Array:
    """Krippendorff's alpha for names of coincidence matrices (m, 9); NaN where all are one name (Krippendorff 2004, ch. 11)."""
    matrix = totals.reshape(-1, 3, 3)
    values = matrix.sum(axis=2)
    count = values.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - np.trace(matrix, axis1=1, axis2=2) / count
        expected = (count**2 - (values**2).sum(axis=1)) / (count * (count - 1))
        alpha: Array = 1 - observed / expected
    return alpha
