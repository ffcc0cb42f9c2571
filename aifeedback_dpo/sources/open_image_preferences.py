"""open-image-preferences-v1 (huggingface.co/data-is-better-together): binarized, raw, and the Argilla results.

binarized: prompt, chosen, rejected. Raw: FLUX.1-dev against Stable Diffusion 3.5, twice a row, for the quality prompt and the
simplified one, and nobody has judged them: they are pairs for a scorer, or for people, to judge. Results: see `argilla`.
"""

from collections.abc import Callable, Iterator

from aifeedback_dpo.sources import argilla, columns, pairs, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row
from aifeedback_dpo.sources.pictures import picture

WANTS = "prompt, chosen, rejected; or image_quality_dev, image_quality_sd, quality_prompt (raw); or Argilla's columns"
TAKES = ("split", "config", "dimension")
KINDS = ("quality", "simplified")


def opened(asked: Asked) -> Opened:
    """The set, whichever of the three."""
    return tables.opened(asked, lambda found: _reader(found, asked))


def _reader(found: dict[str, str], asked: Asked) -> Callable[[Row], Iterator[Item]]:
    if {"chosen", "rejected"} <= set(found):
        return pairs.reader(found, asked, None)
    if any(name.endswith(argilla.RESPONSES) for name in found):
        return argilla.of_columns(found, asked)
    kinds = [kind for kind in KINDS if {f"image_{kind}_dev", f"image_{kind}_sd", f"{kind}_prompt"} <= set(found)]
    if not kinds:
        raise columns.refused("is no open-image-preferences set", found, asked, WANTS)
    return lambda row: _raw(row, kinds)


def _raw(row: Row, kinds: list[str]) -> Iterator[Item]:
    for kind in kinds:
        dev = picture(row[f"image_{kind}_dev"], model="FLUX.1-dev")
        sd = picture(row[f"image_{kind}_sd"], model="stable-diffusion-3.5-large")
        yield Comparison(row[f"{kind}_prompt"], dev, sd, (), "no label")
