"""The formats by name, and which rows of a run each of them takes."""

import difflib
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.export import chosen_rejected, folders, label_studio, pickapic, unpaired, webdataset
from aifeedback_dpo.export.pairs import Judged

FORMATS: dict[str, ModuleType] = {
    "pickapic": pickapic,
    "chosen-rejected": chosen_rejected,
    "unpaired": unpaired,
    "webdataset": webdataset,
    "folders": folders,
    "label-studio": label_studio,
}


@dataclass(frozen=True)
class Taken:
    """The rows that are written, those of training prompts first, and how many are not, by the reason."""

    rows: NDArray[np.int64]
    left_out: dict[str, int]


def named(name: str) -> ModuleType:
    """Raises UserError, with the nearest name, for a format that is not there."""
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f", did you mean '{near[0]}'?" if near else "."
        raise UserError(f"no format '{name}'{hint} Known: {', '.join(FORMATS)}")
    return FORMATS[name]


def taken(name: str, table: Judged, *, without_ties: bool = False) -> Taken:
    """What this format takes of a run. A tie is never made a win: a format that cannot say it goes without."""
    form = named(name)
    p_a, held_out = table.p_a, table.held_out
    unlabelled = np.isnan(p_a) & (not form.KEEPS_UNLABELLED)
    ties = (p_a == 0.5) & (without_ties or not form.KEEPS_TIES)
    apart = held_out & ~(unlabelled | ties) & (not form.KEEPS_HELD_OUT)
    kept = ~(unlabelled | ties | apart)
    rows = np.concatenate([np.flatnonzero(kept & ~held_out), np.flatnonzero(kept & held_out)])
    reasons = {"ties": ties, "without a label": unlabelled, "of held-out prompts": apart}
    return Taken(rows, {reason: int(which.sum()) for reason, which in reasons.items() if which.any()})
