"""Public sets of human preferences: one file a format, each read into the same comparisons."""

import difflib
from importlib import import_module

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources.comparison import (
    Asked,
    Comparison,
    Item,
    Opened,
    Picture,
    Source,
    State,
    Unusable,
    Unwanted,
    Vote,
)

__all__ = ["Asked", "Comparison", "Item", "Opened", "Picture", "State", "Unusable", "Unwanted", "Vote", "source"]

SOURCES = {
    "pickapic": "pickapic",
    "hpdv2": "hpdv2",
    "hpdv3": "hpdv3",
    "imagereward": "imagereward",
    "open-image-preferences": "open_image_preferences",
    "rapidata": "rapidata",
    "pairs": "pairs",
    "unpaired": "unpaired",
    "folders": "folders",
    "label-studio": "label_studio",
    "argilla": "argilla",
}


def source(name: str) -> Source:
    """The source of that name. Raises UserError, with the nearest name, for one that is not here."""
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f", did you mean '{near[0]}'?" if near else "."
        raise UserError(f"no source '{name}'{hint} Known: {', '.join(SOURCES)}")
    module: Source = import_module(f"aifeedback_dpo.sources.{SOURCES[name]}")
    return module
