"""A Bradley-Terry ranking of the models that drew, by one judge's preferences, with intervals over prompts.

The fit is evalica's (Ustalov 2025, COLING demos). Scores are natural logarithms, their mean 0: a difference of d says
that one is preferred with probability 1 / (1 + exp(-d)). A tie counts half a win for each, and a probability its share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate, resampled
from aifeedback_dpo.compare.intervals import expanded

Array = NDArray[np.float64]
Names: TypeAlias = Sequence[str] | NDArray[Any]
RESAMPLES = 500
"""Each is a fit, of a few milliseconds."""


@dataclass(frozen=True)
class Ranking:
    """Item -> log score, best first, or why there is none; `no_interval` says why scores have no bounds."""

    scores: dict[str, Estimate] = field(default_factory=dict)
    why_not: str | None = None
    no_interval: str | None = None


def bradley_terry(
    first: Names,
    second: Names,
    p_a: Array,
    prompts: Names,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Ranking:
    """`p_a` says how far the first of a pair is preferred, NaN where nobody says; pairs of one item say nothing.

    There is no ranking where there are fewer than two items, or where some never lost, or never won, against the others: the
    likeliest score would be infinite. Where too many resamples are like that, there are no bounds.
    """
    names, others = np.array(first, dtype=str), np.array(second, dtype=str)
    kept = (names != others) & ~np.isnan(p_a)
    if not kept.any():
        return Ranking(why_not=_nothing_met(names, others, p_a))
    from scipy.sparse import coo_array

    # a cell is a winner and a loser; a resample only weighs the prompts anew
    items, at = np.unique(np.concatenate([names[kept], others[kept]]), return_inverse=True)
    left, right = np.split(at, 2)
    chosen, size = p_a[kept], len(items)
    cells, where = np.unique(np.concatenate([left * size + right, right * size + left]), return_inverse=True)
    members = np.unique(np.asarray(prompts)[kept], return_inverse=True)[1].reshape(-1)
    count = int(members.max()) + 1
    rows = (np.concatenate([members, members]), where)
    won = coo_array((np.concatenate([chosen, 1 - chosen]), rows), shape=(count, len(cells))).tocsr()  # (prompts, cells)
    total: Array = np.asarray(won.sum(axis=0), dtype=np.float64)
    if not _connected(cells, total, size):
        return Ranking(why_not=_one_sided(items, cells, total))
    value = _fit(cells, total, size)
    drawn, asked = [], min(resamples, RESAMPLES)
    for times in resampled(count, asked, seed):
        drawn += [_fit(cells, counts, size) for counts in times @ won if _connected(cells, counts, size)]
    tail = (1 - confidence) / 2
    no_interval = None
    low, high = np.full((2, size), np.nan)
    if count == 1:
        no_interval = "all pairs are of one prompt"
    elif asked - len(drawn) > tail * asked:
        no_interval = f"in {asked - len(drawn)} of {asked} resamples of {count} prompts some never lost or never won"
    else:
        cut = expanded(tail, count)
        low, high = np.quantile(drawn, [cut, 1 - cut], axis=0)
    scores = {
        str(items[rank]): Estimate(float(value[rank]), float(low[rank]), float(high[rank]), count)
        for rank in np.argsort(-value, kind="stable")
    }
    return Ranking(scores, no_interval=no_interval)


def _nothing_met(first: NDArray[np.str_], second: NDArray[np.str_], p_a: Array) -> str:
    drew = sorted({*first.tolist(), *second.tolist()})
    if len(drew) == 1:
        return f"all pictures are of one model ({drew[0]})"
    if np.isnan(p_a).all():
        return "it has judged no pair"
    return "it has judged no pair of two models"


def _one_sided(items: NDArray[np.str_], cells: NDArray[np.int_], won: Array) -> str:
    """Who never lost or never won, or, where everybody did both, that some met too few of the others."""
    wins, losses = (
        np.bincount(side, weights=won, minlength=len(items)) for side in (cells // len(items), cells % len(items))
    )
    told = [f"{item} never lost" for item in items[losses == 0]] + [f"{item} never won" for item in items[wins == 0]]
    told = told or ["some models never lost against, never won against, or never met any of the rest"]
    return "; ".join(told) + ": scores would have no bound"


def _fit(cells: NDArray[np.int_], won: Array, count: int) -> Array:
    """Log scores, mean 0."""
    import evalica
    import pandas as pd  # type: ignore[import-untyped]

    fitted = evalica.bradley_terry(
        (cells // count).tolist(),
        (cells % count).tolist(),
        [evalica.Winner.X] * len(cells),
        index=pd.Index(range(count)),
        weights=won.tolist(),
        limit=1000,
    )
    scores: Array = np.log(np.asarray(fitted.scores.reindex(range(count)), dtype=np.float64))
    centred: Array = scores - scores.mean()
    return centred


def _connected(cells: NDArray[np.int_], won: Array, count: int) -> bool:
    """Whether every item has beaten every other by some chain (Ford 1957): only then is there a finite fit."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    there = cells[won > 0]
    beaten = coo_array((np.ones(len(there)), (there // count, there % count)), shape=(count, count))
    return bool(connected_components(beaten, connection="strong")[0] == 1)
