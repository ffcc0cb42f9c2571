"""Unpaired sets, as KTO reads them: prompt, completion (a picture) and label, true for a good one; pairs only by their pair_id.

Without pair_id nobody knows what was better than what, and nothing is put together by chance.
"""

from collections.abc import Callable, Iterator
from typing import Any

from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Rows, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import picture

ABOUT = "prompt/completion/label with pair_id, as `ddpo export unpaired` writes"
WANTS = "prompt, completion, label, pair_id (rows of a pair beside each other)"


def opened(asked: Asked) -> Opened:
    """The set; rows of one pair lie beside each other."""

    def reader(found: dict[str, str]) -> Callable[[Row], Iterator[Item]]:
        columns.need(("prompt", "completion", "label", "pair_id"), found, asked, WANTS)
        return _read

    there = tables.opened(asked, reader)
    return Opened(**{**vars(there), "rows": lambda start, _: _gathered(there, start), "total": None})


def _gathered(there: Opened, start: int) -> Rows:
    """The rows of a pair as one; a `start` counts pairs."""
    group: list[Row] = []
    number = 0
    for row, _ in there.rows(0, None):
        if group and row["pair_id"] != group[0]["pair_id"]:
            if number >= start:
                yield {"rows": group}, lambda: None
            group, number = [], number + 1
        group.append(row)
    if group and number >= start:
        yield {"rows": group}, lambda: None


def _read(row: Row) -> Iterator[Item]:
    rows: list[Row] = row["rows"]
    try:
        good, bad = ([one for one in rows if labels.flag(one["label"]) is wanted] for wanted in (True, False))
        if len(good) != 1 or len(bad) != 1:
            raise NotALabel(f"a pair of {len(good)} good and {len(bad)} bad pictures")
        vote = _vote(good[0])
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(one["completion"], model=one.get("model") or "") for one in (good[0], bad[0]))
    yield Comparison(labels.text(good[0]["prompt"] or ""), first, second, (vote,), "one good and one bad")


def _vote(good: Row) -> Vote:
    p_first: Any = good.get("p_chosen")
    count = 1 if "votes" not in good else None if labels.missing(good["votes"]) else int(labels.number(good["votes"]))
    return Vote(1.0 if labels.missing(p_first) else labels.share(p_first), count=count)
