"""Models of transformers from a folder: every tensor is there, and no code of the folder runs."""

from pathlib import Path
from typing import Any

import torch

CLOSED = {"local_files_only": True, "trust_remote_code": False}  # where this is not said, transformers asks on stdin


def whole(kind: Any, folder: Path, dtype: str) -> Any:
    """The model of a transformers class, on the CPU.

    Raises ValueError with the first tensor that is not there, or has another shape: transformers would draw it at random.
    """
    model, found = kind.from_pretrained(
        folder, dtype=getattr(torch, dtype), output_loading_info=True, ignore_mismatched_sizes=True, **CLOSED
    )
    if found["mismatched_keys"]:
        name, written, expected = sorted(found["mismatched_keys"])[0]
        raise ValueError(f"the tensor {name} has the shape {tuple(written)}, and config.json wants {tuple(expected)}")
    if found["missing_keys"]:
        raise ValueError(f"no tensor {sorted(found['missing_keys'])[0]}")
    return model
