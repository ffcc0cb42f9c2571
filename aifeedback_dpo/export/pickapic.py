"""Pick-a-Pic's columns, exactly, for the trainers that are written for it; `p_0` and `votes` keep what a hard label cannot.

label_0 is 1 where picture 0 (`a`) is preferred, 0 where picture 1 is, 0.5 for a tie, whatever P is: readers compare with 0.
jpg_0 and jpg_1 are encoded pictures as the run has them, which need not be JPEG; readers open them with Pillow.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from aifeedback_dpo.export import parts
from aifeedback_dpo.export.pair import Pair

ABOUT = "Pick-a-Pic's columns as Parquet; diffusers' DPO scripts, DiffusionDPO, MaPO"
KEEPS_TIES = True
KEEPS_UNLABELLED = False
KEEPS_HELD_OUT = True
FILES = "data/{split}-*.parquet"

SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ns")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("__index_level_0__", pa.int64()),
        ("p_0", pa.float32()),
        ("votes", pa.int32()),
    ]
)


def write(slices: Iterable[list[Pair]], folder: Path) -> None:
    """The set, a pair a row."""
    parts.parquet(folder, slices, lambda pair: [row(pair)], SCHEMA)


def row(pair: Pair) -> dict[str, Any]:
    """A pair in these columns. Neither a time nor an address is known; the annotators' names stay here."""
    assert pair.p_a is not None, "unlabelled pairs are left out"
    label_0 = 0.5 if pair.p_a == 0.5 else float(pair.p_a > 0.5)
    return {
        "are_different": pair.a.data != pair.b.data,
        "best_image_uid": {1.0: pair.a.id, 0.0: pair.b.id, 0.5: "tie"}[label_0],
        "caption": pair.prompt,
        "created_at": None,
        "has_label": True,
        "image_0_uid": pair.a.id,
        "image_0_url": "",
        "image_1_uid": pair.b.id,
        "image_1_url": "",
        "jpg_0": pair.a.data,
        "jpg_1": pair.b.data,
        "label_0": label_0,
        "label_1": 1 - label_0,
        "model_0": pair.a.model,
        "model_1": pair.b.model,
        "ranking_id": pair.number,
        "user_id": pair.user,
        "num_example_per_prompt": pair.pairs_of_prompt,
        "__index_level_0__": pair.number,
        "p_0": pair.p_a,
        "votes": pair.votes,
    }
