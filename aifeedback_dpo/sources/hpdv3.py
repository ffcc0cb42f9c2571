"""HPDv3 (Ma et al. 2025, arXiv:2508.03789) and HPDv3++: two pictures a record, of which path1 was preferred.

Where choice_dist has how many people chose each, it is kept as P(first) and their count; it is null for part of the set.
"""

from collections.abc import Callable, Iterator

from aifeedback_dpo.sources import columns, documents, labels
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "prompt, path1, path2 (and choice_dist, model1, model2)"
TAKES = ("split", "images")
FETCH = (
    "fetch it by `hf download --repo-type dataset MizzenAI/HPDv3 --local-dir DIR`, unpack its tars there, and give DIR"
)


def opened(asked: Asked) -> Opened:
    """The set: a folder with the JSON files, or one of them."""

    def reader(keys: list[str], lie: Shelf) -> Callable[[Row], Iterator[Item]]:
        columns.need(("prompt", "path1", "path2"), keys, asked, WANTS)
        return lambda row: _read(row, lie)

    return documents.opened(asked, reader, wants=WANTS, fetch=FETCH)


def _read(row: Row, lie: Shelf) -> Iterator[Item]:
    try:
        vote = _vote(row.get("choice_dist"))
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(row.get(f"path{side}"), lie, model=row.get(f"model{side}") or "") for side in (1, 2))
    yield Comparison(row.get("prompt"), first, second, (vote,), "path1 preferred")


def _vote(choices: object) -> Vote:
    if labels.missing(choices):
        return Vote(1.0)
    counts = labels.listed(choices)
    if len(counts) != 2:
        raise NotALabel(f"choice_dist has {len(counts)} numbers, not 2")
    p_first, total = labels.weighed(*counts), sum(map(labels.number, counts))
    if p_first <= 0.5:
        raise NotALabel(f"choice_dist {counts} does not prefer path1")
    return Vote(p_first, count=int(total) if total >= 1 and total == int(total) else None)
