"""How far people agree with each other: the ceiling of any judge that is held against one of them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.agreement import one_each
from aifeedback_dpo.compare.bootstrap import Estimate, by_prompt
from aifeedback_dpo.compare.intervals import Measure
from aifeedback_dpo.compare.views import Views

Array = NDArray[np.float64]
ENOUGH = 5
"""Prompts below which alpha has no interval."""
ABOUT = (
    "two people at random who judged the same pair, ties of either left out; Krippendorff's alpha of a, tie, b as names"
)


def ceiling(views: Views, boot: dict[str, Any]) -> dict[str, Any]:
    """Agreement of two people on a pair, and Krippendorff's alpha, or why there is none.

    People are told apart by name; votes without one, and counts of votes, may be anybody's and are left out.
    """
    if views.run.recipe.label.raters:
        return {"why_not": "the votes are simulated, one a pair, so no two of them can be compared"}
    counts, people = _by_pair(views)
    several = counts.sum(axis=1) > 1
    if not several.any():
        return {"why_not": "no pair has the votes of two people that can be told apart"}
    agreed, alike = agreeing(counts)
    alpha = Measure(by_prompt(coincidences(counts), views.numbers), nominal_alpha)
    found = intervals.estimates([intervals.share(agreed, alike, views.numbers), alpha], **boot)
    return {
        "pairs": int(several.sum()),
        "people": people,
        "agreement": found[0].to_dict(),
        "alpha": _alpha(found[1]),
        "about": ABOUT,
    }


def _by_pair(views: Views) -> tuple[Array, int]:
    """How many people said b, tie and a of each pair (n, 3), and how many voted on pairs with others; each by the last vote."""
    cast = views.run.read("votes", ["pair_id", "annotator", "p_a", "votes"])
    rows, met = views.rows(cast.column("pair_id"))
    one = pc.less_equal(pc.fill_null(cast.column("votes"), 1), 1)
    named = pc.not_equal(pc.fill_null(cast.column("annotator"), ""), "")
    kept = met & pc.and_(one, named).to_numpy(zero_copy_only=False).astype(bool)
    names = cast.column("annotator").combine_chunks().dictionary_encode()
    codes = (names if isinstance(names, pa.DictionaryArray) else names.combine_chunks()).indices.to_numpy(
        zero_copy_only=False
    )
    p_a = cast.column("p_a").to_numpy(zero_copy_only=False).astype(np.float64)
    kept &= ~np.isnan(p_a)
    # of one person's votes on a pair the last stands
    where, person, said = rows[kept][::-1], np.nan_to_num(codes[kept][::-1]).astype(np.int64), p_a[kept][::-1]
    last = np.unique(where * (int(person.max(initial=0)) + 1) + person, return_index=True)[1]
    counts = np.zeros((views.pairs.num_rows, 3))
    np.add.at(counts, where[last], one_each(said[last]))
    together = counts.sum(axis=1)[where[last]] > 1
    return counts, len(np.unique(person[last][together]))


def agreeing(counts: Array) -> tuple[Array, Array]:
    """Of how many people said b, tie and a of each pair (n, 3): the share of twos that agree, and whether two decided."""
    decided = counts[:, 0] + counts[:, 2]
    twos = decided * (decided - 1)
    same = counts[:, 0] * (counts[:, 0] - 1) + counts[:, 2] * (counts[:, 2] - 1)
    return np.divide(same, twos, out=np.zeros(len(counts)), where=twos > 0), (twos > 0).astype(np.float64)


def _alpha(found: Estimate) -> dict[str, Any] | None:
    """None where all said the same; without an interval, which resamples prompts, where those are few."""
    if np.isnan(found.value):
        return None
    if found.prompts < ENOUGH:
        found = Estimate(found.value, float("nan"), float("nan"), found.prompts)
    return found.to_dict()


def coincidences(counts: Array) -> Array:
    """What each pair (n, 3) adds to Krippendorff's coincidence matrix, b, tie, a by the same (n, 9); one vote adds nothing."""
    several = np.maximum(counts.sum(axis=1) - 1, 0)
    twos = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(3)
    matrix: Array = np.divide(twos, several[:, None, None], out=np.zeros_like(twos), where=several[:, None, None] > 0)
    return matrix.reshape(-1, 9)


def nominal_alpha(totals: Array) -> Array:
    """Krippendorff's alpha for names of coincidence matrices (m, 9); NaN where all are one name (Krippendorff 2004, ch. 11)."""
    matrix = totals.reshape(-1, 3, 3)
    values = matrix.sum(axis=2)
    count = values.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - np.trace(matrix, axis1=1, axis2=2) / count
        expected = (count**2 - (values**2).sum(axis=1)) / (count * (count - 1))
        alpha: Array = np.where(expected > 0, 1 - observed / expected, np.nan)
    return alpha
