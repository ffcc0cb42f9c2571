"""Experiment trackers, through accelerate. `metrics.jsonl` is written whatever is tracked."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.store import Run


def usable(trackers: Sequence[str]) -> list[str] | None:
    """The trackers, all installed; None for none. Raises UserError for one that is not."""
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise UserError(
                f'train.trackers: {tracker} is not installed; pip install "aifeedback_dpo[{tracker}]", or leave it out '
                "(metrics.jsonl is always written)"
            )
    return list(trackers) or None
