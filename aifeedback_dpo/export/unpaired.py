"""prompt, completion, label, as KTO reads them: of each decided pair the preferred picture is a good one, the other a bad one.

The two rows of a pair lie beside each other and bear its `pair_id`, by which it can be put together again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from aifeedback_dpo.export import parts
from aifeedback_dpo.export.pair import Pair
from aifeedback_dpo.records import IMAGE, hub_schema

ABOUT = "prompt, completion, label as Parquet, two rows a pair; KTO"
KEEPS_TIES = False
KEEPS_UNLABELLED = False
KEEPS_HELD_OUT = True
FILES = "data/{split}-*.parquet"

SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("completion", IMAGE),
        ("label", pa.bool_()),
        ("p_chosen", pa.float32()),
        ("votes", pa.int32()),
        ("model", pa.string()),
        ("pair_id", pa.string()),
    ]
)


def write(slices: Iterable[list[Pair]], folder: Path) -> None:
    """The set, a picture of a decided pair a row."""
    parts.parquet(folder, slices, _rows, hub_schema(SCHEMA))


def _rows(pair: Pair) -> list[dict[str, Any]]:
    chosen, rejected, p_chosen = pair.chosen_first
    shared = {"prompt": pair.prompt, "p_chosen": p_chosen, "votes": pair.votes, "pair_id": pair.pair_id}
    return [
        {**shared, "completion": {"bytes": picture.data, "path": None}, "label": label, "model": picture.model}
        for picture, label in ((chosen, True), (rejected, False))
    ]
