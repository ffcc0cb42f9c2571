"""Rapidata's sets of human preferences (huggingface.co/Rapidata): many people a pair, weighed by how reliable each was.

weighted_results_image1_preference and ..._image2_preference are soft weights, kept as P(first) = w1 / (w1 + w2); how many
people there were is the length of detailed_results_preference, a JSON list. Other dimensions: coherence, alignment, style.
"""

import re
from collections.abc import Callable, Iterator

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import picture

WANTS = "prompt, image1, image2, weighted_results_image1_preference, weighted_results_image2_preference"
TAKES = ("split", "config", "dimension")


def opened(asked: Asked) -> Opened:
    """The set; --dimension picks what people were asked."""

    def reader(found: dict[str, str]) -> Callable[[Row], Iterator[Item]]:
        columns.need(("prompt", "image1", "image2"), found, asked, WANTS)
        asked_about = [
            name[1] for name in (re.fullmatch(r"weighted_results_image1_(\w+)", key) for key in found) if name
        ]
        dimension = asked.dimension or ("preference" if "preference" in asked_about else "")
        dimension = dimension or (asked_about[0] if len(asked_about) == 1 else "")
        if not asked_about:
            raise columns.refused("has no weighted results", found, asked, WANTS)
        if dimension not in asked_about:
            raise UserError(f"{asked.path}: --dimension takes {', '.join(asked_about)}; got '{dimension or 'none'}'")
        columns.need((f"weighted_results_image2_{dimension}",), found, asked, WANTS)
        return lambda row: _read(row, dimension)

    return tables.opened(asked, reader)


def _read(row: Row, dimension: str) -> Iterator[Item]:
    weights = [row[f"weighted_results_image{side}_{dimension}"] for side in (1, 2)]
    votes: tuple[Vote, ...] = ()
    said = "no label"
    if not all(map(labels.missing, weights)):
        try:
            p_first = labels.weighed(*weights)
        except NotALabel as error:
            yield Unusable("label", str(error))
            return
        votes = (Vote(p_first, count=_people(row.get(f"detailed_results_{dimension}"))),)
        said = f"P(first) in {_band(p_first)}"
    first, second = (picture(row[f"image{side}"], model=row.get(f"model{side}") or "") for side in (1, 2))
    yield Comparison(row["prompt"], first, second, votes, said)


def _people(detailed: object) -> int | None:
    """How many people there were; None where the set does not tell."""
    try:
        return len(labels.listed(detailed)) or None
    except NotALabel:
        return None


def _band(p_first: float) -> str:
    low = min(int(p_first * 5), 4)
    return f"[{low / 5:g}, {(low + 1) / 5:g}{']' if low == 4 else ')'}"
