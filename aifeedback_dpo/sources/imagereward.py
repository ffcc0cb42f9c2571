"""ImageRewardDB (Xu et al. 2023, arXiv:2304.05977): several pictures of a prompt, ranked; a lower rank is better.

Its three configurations are read: a picture a row (`8k`), a prompt a row (`8k_group`), and two pictures a row (`8k_pair`,
the better one first). Of a ranking every two pictures are a pair, and equal ranks are a tie.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Rows, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import picture

WANTS = "prompt and img_better, img_worse; or image, prompt_id, prompt and rank"
TAKES = ("split", "config")


def opened(asked: Asked) -> Opened:
    """The set, whichever of its configurations."""

    def reader(found: dict[str, str]) -> Callable[[Row], Iterator[Item]]:
        if {"img_better", "img_worse"} & set(found):
            columns.need(("prompt", "img_better", "img_worse"), found, asked, WANTS)
            return _pair
        columns.need(("image", "prompt", "rank"), found, asked, WANTS)
        return _ranking

    there = tables.opened(asked, reader)
    if "prompt_id" in there.columns and "img_better" not in there.columns and not _is_list(there.columns["rank"]):
        return replace(there, rows=lambda start, _: _gathered(there, start), total=None)
    return there


def _is_list(kind: str) -> bool:
    return "list" in kind.lower() or "sequence" in kind.lower()


def _gathered(there: Opened, start: int) -> Rows:
    """Pictures of one prompt, which lie beside each other, as one row; a `start` counts prompts."""
    group: dict[str, Any] = {}
    number = 0
    for row, _ in there.rows(0, None):
        if group and (row["prompt_id"] is None or row["prompt_id"] != group["prompt_id"]):
            if number >= start:
                yield group, _nothing
            group, number = {}, number + 1
        if not group:
            group = {"prompt_id": row["prompt_id"], "prompt": row["prompt"], "image": [], "rank": [], "mixed": False}
        group["mixed"] |= row["prompt"] != group["prompt"]
        if number >= start:
            group["image"].append(row["image"])
        group["rank"].append(row["rank"])
    if group and number >= start:
        yield group, _nothing


def _nothing() -> None:
    return None


def _pair(row: Row) -> Iterator[Item]:
    first, second = picture(row["img_better"]), picture(row["img_worse"])
    yield Comparison(row["prompt"], first, second, (Vote(1.0),), "the first is better")


def _ranking(row: Row) -> Iterator[Item]:
    if row.get("mixed") or ("mixed" in row and row["prompt_id"] is None):
        yield Unusable("record", "no prompt_id" if row["prompt_id"] is None else "two prompts of one prompt_id")
        return
    images, ranks = row["image"], row["rank"]
    if not isinstance(images, Sequence) or not isinstance(ranks, Sequence) or len(images) != len(ranks):
        yield Unusable("label", "not as many ranks as pictures")
        return
    for one, other in combinations(range(len(images)), 2):
        votes: tuple[Vote, ...] = ()
        said = "no label"
        try:
            if not (labels.missing(ranks[one]) or labels.missing(ranks[other])):
                p_first = labels.ranked(ranks[one], ranks[other])
                votes, said = (Vote(p_first),), labels.told(p_first)
        except NotALabel as error:
            yield Unusable("label", str(error))
            continue
        yield Comparison(row["prompt"], picture(images[one]), picture(images[other]), votes, said)
