"""The tables of a run: one pyarrow schema each, readable by `datasets.load_dataset("parquet", ...)`.

Ids are the first 32 hex digits of a SHA-256: a prompt's of its text, a generated image's of everything that made it, a
pair's of its two image ids in order. So a rerun knows what is done before it draws anything.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.markdown import escaped

BASE = "base"
HUMAN = "human"
CONTROL = "random"
CONSENSUS = "consensus"
IMPORTED = "imported"

SCHEMA_VERSION = 1
"""Of the tables and of the manifest; a reader refuses a newer one."""
MARK = b"aifeedback_dpo"
"""The key of a part's metadata that tells its version and its table."""

Ids: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str] | NDArray[np.bytes_]"

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

PROMPTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
    ]
)

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt_id", pa.string()),
        ("image", IMAGE),
        ("pixel_sha256", pa.string()),
        ("policy", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("seed", pa.int64()),
        ("steps", pa.int32()),
        ("guidance", pa.float32()),
        ("scheduler", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)

PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("image_a", pa.string()),
        ("image_b", pa.string()),
        ("chosen_by", pa.string()),
    ]
)

SCORES = pa.schema(
    [
        ("image_id", pa.string()),
        ("scorer", pa.string()),
        ("recipe", pa.string()),
        ("score", pa.float32()),
        ("truncated", pa.bool_()),
    ]
)

ANSWERS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("judge", pa.string()),
        ("recipe", pa.string()),
        ("a_first", pa.string()),
        ("b_first", pa.string()),
        ("choice_a_first", pa.float32()),
        ("choice_b_first", pa.float32()),
    ]
)

PREFERENCES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("judge", pa.string()),
        ("p_a", pa.float32()),
        ("margin", pa.float32()),
        ("annotator", pa.string()),
        ("votes", pa.int32()),
        ("seconds", pa.float32()),
        ("rule", pa.string()),
    ]
)

VOTES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("annotator", pa.string()),
        ("p_a", pa.float32()),
        ("votes", pa.int32()),
        ("seconds", pa.float32()),
        ("source", pa.string()),
        ("where", pa.string()),
    ]
)

TABLES = {
    "prompts": PROMPTS,
    "images": IMAGES,
    "pairs": PAIRS,
    "scores": SCORES,
    "answers": ANSWERS,
    "votes": VOTES,
    "preferences": PREFERENCES,
}
KEYS = {
    "prompts": "prompt_id",
    "images": "image_id",
    "pairs": "pair_id",
    "scores": "image_id",
    "answers": "pair_id",
    "votes": "pair_id",
    "preferences": "pair_id",
}


def canonical(*parts: Any) -> str:
    """These values as text, the same on every machine: JSON with sorted keys."""
    return json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(text: str) -> str:
    """32 hex digits that stand for a text (SHA-256)."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_id(*parts: Any) -> str:
    """The same for any values."""
    return digest(canonical(*parts))


def packed_ids(ids: Ids) -> NDArray[np.bytes_]:
    """Ids as numpy bytes of one width (32 for a hash), which sort and compare without a Python object each."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "S":
        return ids
    column = (ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())).cast(pa.string())
    if not len(column):
        return np.empty(0, "S1")
    width = max(1, pc.max(pc.binary_length(column)).as_py())
    padded = pc.ascii_rpad(column, width, "\0").cast(pa.binary()).cast(pa.binary(width))
    whole = padded.combine_chunks() if isinstance(padded, pa.ChunkedArray) else padded
    return np.frombuffer(whole.buffers()[1], f"S{width}", len(whole), whole.offset * width)


def rows_id(ids: Ids, values: NDArray[np.float32] | None = None) -> str:
    """A hash of rows by id, with a float32 each or without, whatever their order."""
    packed = packed_ids(ids)
    order = np.argsort(packed)
    digest = hashlib.sha256(packed[order].tobytes())
    if values is not None:
        digest.update(np.nan_to_num(values[order], nan=-9.0).astype("<f4").tobytes())
    return digest.hexdigest()[:32]


def prompt_id(prompt: str) -> str:
    """The id of a prompt: of its text, and nothing else."""
    return content_id("prompt", prompt)


def pair_id(image_a: str, image_b: str) -> str:
    """The id of an ordered pair of images."""
    return content_id("pair", image_a, image_b)


def hub_schema(schema: pa.Schema, table: str | None = None) -> pa.Schema:
    """The schema with the metadata by which `datasets` knows that the struct column is an image.

    That of a run's `table` says so as well, and its version.
    """
    features: dict[str, Any] = {}
    for field in schema:
        features[field.name] = (
            {"_type": "Image"} if field.type == IMAGE else {"dtype": str(field.type), "_type": "Value"}
        )
    for feature in features.values():
        if feature.get("dtype") == "float":
            feature["dtype"] = "float32"
    metadata = {b"huggingface": json.dumps({"info": {"features": features}})}
    if table:
        metadata[MARK] = json.dumps({"schema_version": SCHEMA_VERSION, "table": table})
    return schema.with_metadata(metadata)


def card(name: str, about: str) -> str:
    """A run's dataset card, so that `load_dataset(folder, "images")` works."""
    configs = "".join(f"- config_name: {table}\n  data_files: {table}/**/*.parquet\n" for table in TABLES)
    return (
        f"---\nconfigs:\n{configs}---\n\n# {name}\n\n{escaped(about)}\n\n"
        'Made by `ddpo`. Each table opens with `datasets.load_dataset("<this folder>", "images")`; '
        "`recipe.yaml` tells the settings and `manifest.json` what made what.\n"
    )
