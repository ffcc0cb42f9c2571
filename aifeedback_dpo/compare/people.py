"""How far people agree with each other: the ceiling of any judge that is held against them."""

from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np

from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, estimate, ratio
from aifeedback_dpo.store import Run

ENOUGH = 5
ABOUT = (
    "two people at random who judged the same pair, ties of either left out; Krippendorff's alpha of a, tie, b as names"
)


def ceiling(run: Run, boot: dict[str, Any]) -> dict[str, Any]:
    """Agreement of two people on a pair, and Krippendorff's alpha, or why there is none."""
    if run.recipe.label.raters:
        return {"why_not": "the votes are simulated, one a pair, so no two of them can be compared"}
    said: dict[str, dict[str, float]] = defaultdict(dict)
    for part in run.scan("votes", ["pair_id", "annotator", "p_a"]):
        for row in part.to_pylist():
            said[row["pair_id"]][row["annotator"]] = row["p_a"]
    shared = {pair: by for pair, by in said.items() if len(by) > 1}
    if not shared:
        return {"why_not": "no pair has the votes of two people that can be told apart"}
    pairs = run.read("pairs", ["pair_id", "prompt_id"])
    prompts = dict(zip(pairs.column("pair_id").to_pylist(), pairs.column("prompt_id").to_pylist(), strict=True))
    rows, clusters = [], []
    for pair, by in shared.items():
        sides = [np.sign(p_a - 0.5) for p_a in by.values()]
        twos = [(one, other) for one, other in combinations(sides, 2) if one and other]
        if twos and pair in prompts:
            rows.append([sum(one == other for one, other in twos) / len(twos), 1.0])
            clusters.append(prompts[pair])
    agreed = estimate(cluster_sums(np.array(rows).reshape(-1, 2), clusters), ratio, **boot)
    return {
        "pairs": len(shared),
        "people": len({name for by in shared.values() for name in by}),
        "agreement": agreed.to_dict(),
        "alpha": _alpha(shared, boot),
        "about": ABOUT,
    }


def _alpha(shared: dict[str, dict[str, float]], boot: dict[str, Any]) -> dict[str, Any] | None:
    """None where all said the same, or where pairs are too few for an interval."""
    import evalica
    import pandas as pd  # type: ignore[import-untyped]

    if len(shared) < ENOUGH or len({p_a for by in shared.values() for p_a in by.values()}) == 1:
        return None
    ratings = pd.DataFrame(shared)  # people are rows, pairs are columns
    found = evalica.alpha_bootstrap(
        ratings, "nominal", n_resamples=boot["resamples"], random_state=boot["seed"] % 2**32
    )
    value = float(evalica.alpha(ratings, "nominal").alpha)
    return Estimate(value, float(found.low), float(found.high), len(shared)).to_dict()
