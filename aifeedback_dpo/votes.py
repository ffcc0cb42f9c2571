"""People's votes, one by one, and what they make of a pair together: the judge `human`.

A row of the table `votes` is what one person said of one pair, or several of whom a set tells only the sum; `source` says
where it was said: a public set, or the page of `ddpo annotate`. A pair's preference is their mean, each weighing as many as
it stands for: two who prefer `a` and one who prefers `b` are p_a = 2/3. Nothing is thrown away, so that a vote that comes
later changes the mean and no row.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.records import HUMAN, PREFERENCES
from aifeedback_dpo.store import Run

RULE = "the mean of people's votes; 1/2 is a tie"
EVEN = 1e-6  # a mean that lies so close to 1/2 is a tie: float32 votes round


def need_people(run: Run) -> None:
    """Raises UserError for a run whose judge `human` is simulated: real votes never join those, nor are called so."""
    if run.recipe.label.raters == "simulated":
        raise UserError(
            "this recipe's people are simulated (label.raters=simulated), and real votes are not mixed with theirs; add "
            "label.raters=null, or, where they have judged already, do so in another --run"
        )


def settle(run: Run) -> int:
    """Writes the preferences of judge `human` that all votes of the run make, and says of how many pairs."""
    need_people(run)
    cast = run.read("votes", ["pair_id", "annotator", "p_a", "votes", "seconds"])
    weights = pc.cast(pc.fill_null(cast.column("votes"), 1), pa.float64())
    cast = cast.append_column("weight", weights)
    cast = cast.append_column("weighted", pc.multiply(pc.cast(cast.column("p_a"), pa.float64()), weights))
    sums = [("weighted", "sum"), ("weight", "sum"), ("seconds", "mean")]
    people = [("annotator", "min"), ("annotator", "count_distinct")]
    found = cast.group_by("pair_id", use_threads=False).aggregate([*sums, *people])
    mean = (found.column("weighted_sum").to_numpy() / found.column("weight_sum").to_numpy()).clip(0, 1)
    p_a = np.where(np.abs(mean - 0.5) <= EVEN, 0.5, mean).astype(np.float32)
    crowd = pc.binary_join_element_wise(
        pc.cast(found.column("annotator_count_distinct"), pa.string()), pa.scalar("annotators"), " "
    )
    alone = pc.equal(found.column("annotator_count_distinct"), 1)
    columns = {
        "pair_id": found.column("pair_id"),
        "judge": pa.array([HUMAN] * len(found), pa.string()),
        "p_a": pa.array(p_a),
        "margin": pa.array(p_a - np.float32(0.5)),
        "annotator": pc.if_else(alone, found.column("annotator_min"), crowd),
        "votes": pc.cast(found.column("weight_sum"), pa.int32()),
        "seconds": pc.cast(found.column("seconds_mean"), pa.float32()),
        "rule": pa.array([RULE] * len(found), pa.string()),
    }
    table = pa.table(columns, schema=PREFERENCES).sort_by("pair_id")
    run.commit("preferences", table, "current", HUMAN)
    run.record(f"label/{HUMAN}", "done", rule=RULE, pairs=len(table), votes=int(sum(table.column("votes").to_pylist())))
    return len(table)
