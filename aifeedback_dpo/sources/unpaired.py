"""Unpaired sets, as KTO reads them: prompt, completion (a picture) and label, true for a good one; pairs only by their pair_id.

Without pair_id nobody knows what was better than what, and nothing is put together by chance.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Rows, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import picture

WANTS = "prompt, completion, label, pair_id (rows of a pair beside each other)"
TAKES = ("split", "config")


def opened(asked: Asked) -> Opened:
    """The set; rows of one pair lie beside each other."""

    def reader(found: dict[str, str]) -> Callable[[Row], Iterator[Item]]:
        columns.need(("prompt", "completion", "label", "pair_id"), found, asked, WANTS)
        return _read

    there = tables.opened(asked, reader)
    return replace(there, rows=lambda start, _: _gathered(there, start), total=None)


def _gathered(there: Opened, start: int) -> Rows:
    """The rows of a pair as one; a `start` counts pairs."""
    group: list[Row] = []
    number = 0
    for row, _ in there.rows(0, None):
        if group and (row["pair_id"] is None or row["pair_id"] != group[0]["pair_id"]):
            if number >= start:
                yield {"rows": group}, lambda: None
            group, number = [], number + 1
        group.append(row)
    if group and number >= start:
        yield {"rows": group}, lambda: None


def _read(row: Row) -> Iterator[Item]:
    rows: list[Row] = row["rows"]
    try:
        if rows[0]["pair_id"] is None:
            raise NotALabel("no pair_id")
        if len({labels.prompt(one["prompt"]) for one in rows}) > 1:
            raise NotALabel("a pair of two prompts")
        good, bad = ([one for one in rows if labels.flag(one["label"]) is wanted] for wanted in (True, False))
        if len(good) != 1 or len(bad) != 1:
            raise NotALabel(f"a pair of {len(good)} good and {len(bad)} bad pictures")
        vote = Vote(labels.sure(good[0].get("p_chosen")), count=labels.people(good[0].get("votes", 1)))
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(one["completion"], model=one.get("model") or "") for one in (good[0], bad[0]))
    yield Comparison(good[0]["prompt"], first, second, (vote,), "one good and one bad")
