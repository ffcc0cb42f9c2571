"""prompt, chosen, rejected: the columns of open-image-preferences-v1-binarized and of TRL, pictures as `datasets` images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from aifeedback_dpo.export import parts
from aifeedback_dpo.export.pair import Pair
from aifeedback_dpo.records import IMAGE, hub_schema

ABOUT = "prompt, chosen, rejected as Parquet; TRL's columns, and those of open-image-preferences-v1-binarized"
KEEPS_TIES = False
KEEPS_UNLABELLED = False
KEEPS_HELD_OUT = True
FILES = "data/{split}-*.parquet"

SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("chosen", IMAGE),
        ("rejected", IMAGE),
        ("p_chosen", pa.float32()),
        ("votes", pa.int32()),
        ("chosen_model", pa.string()),
        ("rejected_model", pa.string()),
        ("pair_id", pa.string()),
    ]
)


def write(slices: Iterable[list[Pair]], folder: Path) -> None:
    """The set, a decided pair a row."""
    parts.parquet(folder, slices, lambda pair: [_row(pair)], hub_schema(SCHEMA))


def _row(pair: Pair) -> dict[str, Any]:
    chosen, rejected, p_chosen = pair.chosen_first
    return {
        "prompt": pair.prompt,
        "chosen": {"bytes": chosen.data, "path": None},
        "rejected": {"bytes": rejected.data, "path": None},
        "p_chosen": p_chosen,
        "votes": pair.votes,
        "chosen_model": chosen.model,
        "rejected_model": rejected.model,
        "pair_id": pair.pair_id,
    }
