"""Sets of two pictures a row, in the names that people give them: `prompt, chosen, rejected`, or two pictures and a label.

Of a bare 0 or 1 nobody can tell whether it names the picture or says that the first one won: it is asked for, not guessed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "prompt (or caption), and chosen and rejected, or image_a, image_b and label"
TAKES = ("split", "config", "images", "dimension", "meanings")
PROMPTS = ("prompt", "caption", "text")
CHOSEN = (
    ("chosen", "rejected"),
    ("image_chosen", "image_rejected"),
    ("chosen_image", "rejected_image"),
    ("winner", "loser"),
    ("preferred", "dispreferred"),
)
SIDES = (
    ("image_a", "image_b"),
    ("image_0", "image_1"),
    ("image_1", "image_2"),
    ("image1", "image2"),
    ("img_a", "img_b"),
    ("img1", "img2"),
    ("jpg_0", "jpg_1"),
    ("left", "right"),
)
LABELS = ("label", "preference", "choice", "winner", "preferred", "vote", "human_preference")
WORDS = {"first": 1.0, "second": 0.0, "left": 1.0, "right": 0.0, "a": 1.0, "b": 0.0}
Reader = Callable[[Row], float | None]


def opened(asked: Asked) -> Opened:
    """The set, by its columns; pictures that are paths are looked for beside it, or in --images."""
    lie = tables.shelf(asked)
    return tables.opened(asked, lambda found: reader(found, asked, lie))


def reader(found: dict[str, str], asked: Asked, lie: Shelf | None) -> Callable[[Row], Iterator[Item]]:
    """What makes a row into comparisons, by its columns. Raises UserError for columns that are no pairs."""
    prompt = columns.first_of(PROMPTS, found)
    ends, sides = both(CHOSEN, found), both(SIDES, found)
    if not prompt or not (ends or sides):
        raise columns.refused(f"has no {'two pictures a row' if prompt else 'prompt'}", found, asked, WANTS)
    if ends:
        return lambda row: _read(row, prompt, ends, _chosen, lie)
    assert sides
    told = _convention(asked, found, sides)
    return lambda row: _read(row, prompt, sides, told, lie)


def both(names: Sequence[tuple[str, str]], found: Iterable[str]) -> tuple[str, str] | None:
    """The first of these pairs of names of which both are columns."""
    there = set(found)
    return next((pair for pair in names if set(pair) <= there), None)


def _read(row: Row, prompt: str, sides: tuple[str, str], told: Reader, lie: Shelf | None) -> Iterator[Item]:
    try:
        p_first = told(row)
        votes = () if p_first is None else (Vote(p_first, count=labels.people(row.get("votes", 1))),)
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(row[side], lie, model=_model(row, side)) for side in sides)
    said = "no label" if not votes else f"P(first) = {votes[0].p_first:g}"
    yield Comparison(row[prompt], first, second, votes, said)


def _model(row: Row, side: str) -> Any:
    """The model that drew it, in the column that goes with this side."""
    number = side[-1] if side[-1] in "abcd0123456789" else ""
    return row.get(f"{side}_model") or (row.get(f"model_{number}") or row.get(f"model{number}") if number else "") or ""


def _chosen(row: Row) -> float | None:
    """The order of the columns says who won; `p_chosen` is how clearly, in exports of this package."""
    return labels.sure(row.get("p_chosen"))


def _convention(asked: Asked, found: dict[str, str], sides: tuple[str, str]) -> Reader:
    """How this set says who won. Raises UserError where it does not say, or says it twice."""
    if "has_label" in found:
        raise UserError(f"{asked.path} has the column has_label, which Pick-a-Pic has; use `ddpo import pickapic`")
    if {"label_0", "label_1"} <= set(found):
        return lambda row: (
            None if labels.missing(row["label_0"]) else labels.complementary(row["label_0"], row["label_1"])
        )
    if "p_a" in found and sides == ("image_a", "image_b"):
        return lambda row: None if labels.missing(row["p_a"]) else labels.share(row["p_a"])
    names = [asked.dimension] if asked.dimension in found else [name for name in LABELS if name in found]
    if asked.dimension not in (None, *names) or len(names) > 1:
        raise UserError(f"{asked.path}: --dimension names the label: {', '.join(names) or 'there is none'}")
    if not names:
        raise columns.refused("has no label", found, asked, WANTS)
    name = names[0]
    words = {**WORDS, sides[0]: 1.0, sides[1]: 0.0}
    return lambda row: _label(row[name], words, asked.meanings)


def _label(value: Any, words: Mapping[str, float], meanings: Mapping[str, float]) -> float | None:
    if meanings and not labels.missing(value):
        said = labels.plain(value)
        if said not in meanings:
            raise NotALabel(f"{said} is none of those given by --label: {', '.join(meanings)}")
        return meanings[said]
    if labels.missing(value):
        return None
    if isinstance(value, list):
        return labels.one_hot(value)
    if isinstance(value, bool) or re.fullmatch(r"[-+.\d]+|true|false", labels.plain(value)):
        raise NotALabel(
            f"{labels.plain(value)} may mean either picture; say which, as in --label first=1 --label second=0"
        )
    return labels.worded(value, words)
