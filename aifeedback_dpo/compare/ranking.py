"""A Bradley-Terry ranking of the models that drew, by one judge's preferences, with intervals over prompts.

The fit is evalica's (Ustalov 2025, COLING demos). Scores are natural logarithms, their mean 0: a difference of d says
that one is preferred with probability 1 / (1 + exp(-d)). A tie counts half a win for each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.compare.bootstrap import Estimate

Array = NDArray[np.float64]
RESAMPLES = 200
"""A resample is a fit; more than enough for two digits."""


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    p_a: Array,
    prompts: Sequence[str],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Estimate]:
    """Item -> log score, best first. `p_a` says how far the first of a pair is preferred; pairs of one item say nothing.

    Empty where there are fewer than two items, or where one never lost or never won, of which no score can be told.
    """
    kept = np.array([one != other for one, other in zip(first, second, strict=True)]) & ~np.isnan(p_a)
    items = sorted({*np.array(first)[kept].tolist(), *np.array(second)[kept].tolist()})
    if len(items) < 2:
        return {}
    index = {item: at for at, item in enumerate(items)}
    left = np.array([index[item] for item in np.array(first)[kept]])
    right = np.array([index[item] for item in np.array(second)[kept]])
    chosen, members = p_a[kept], np.unique(np.array(prompts)[kept], return_inverse=True)[1]
    if not _connected(left, right, chosen, len(items)):
        return {}
    value = _fit(left, right, chosen, np.ones(len(chosen)), len(items))
    rng, count = np.random.default_rng(seed), int(members.max()) + 1
    drawn = []
    for _ in range(min(resamples, RESAMPLES)):
        times = rng.multinomial(count, np.full(count, 1 / count))[members].astype(np.float64)
        there = times > 0
        if _connected(left[there], right[there], chosen[there], len(items)):
            drawn.append(_fit(left, right, chosen, times, len(items)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0) if drawn else np.full((2, len(items)), np.nan)
    order = np.argsort(-value, kind="stable")
    return {items[at]: Estimate(float(value[at]), float(low[at]), float(high[at]), count) for at in order}


def _fit(left: NDArray[np.int_], right: NDArray[np.int_], p_a: Array, times: Array, count: int) -> Array:
    """Log scores, mean 0. A p_a between is that share of a win for each."""
    import evalica
    import pandas as pd  # type: ignore[import-untyped]

    x, y = np.concatenate([left, left]), np.concatenate([right, right])
    winners = [evalica.Winner.X] * len(left) + [evalica.Winner.Y] * len(left)
    weights = np.concatenate([p_a * times, (1 - p_a) * times])
    fitted = evalica.bradley_terry(
        x.tolist(), y.tolist(), winners, index=pd.Index(range(count)), weights=weights.tolist(), limit=1000
    )
    scores: Array = np.log(np.asarray(fitted.scores.reindex(range(count)), dtype=np.float64))
    centred: Array = scores - scores.mean()
    return centred


def _connected(left: NDArray[np.int_], right: NDArray[np.int_], p_a: Array, count: int) -> bool:
    """Whether every item has beaten every other by some chain (Ford 1957): only then is there a finite fit."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    won = np.zeros((count, count))
    np.add.at(won, (left, right), p_a)
    np.add.at(won, (right, left), 1 - p_a)
    return bool(connected_components(coo_array(won > 0), connection="strong")[0] == 1)
