"""HPDv2 (Wu et al. 2023, arXiv:2306.09341): train.json with one choice of two, test.json with rankings by several people.

train: human_preference is one-hot over file_path. test: rank over image_path is averaged and lower is better;
raw_annotations has each person's own ranking, which is what is taken where it is there.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from aifeedback_dpo.sources import columns, documents, labels
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "prompt, file_path and human_preference (train.json); or prompt, image_path and rank (test.json)"
TAKES = ("split", "images")
FETCH = "fetch it by `hf download --repo-type dataset ymhao/HPDv2 --local-dir DIR`, unpack its tars there, and give DIR"


def opened(asked: Asked) -> Opened:
    """The set: a folder with the JSON files, or one of them."""

    def reader(keys: list[str], lie: Shelf) -> Callable[[Row], Iterator[Item]]:
        if "human_preference" in keys:
            columns.need(("prompt", "file_path"), keys, asked, WANTS)
            return lambda row: _choice(row, lie)
        columns.need(("prompt", "image_path", "rank"), keys, asked, WANTS)
        return lambda row: _rankings(row, lie)

    return documents.opened(asked, reader, wants=WANTS, fetch=FETCH)


def _choice(row: Row, lie: Shelf) -> Iterator[Item]:
    try:
        paths, told = labels.listed(row.get("file_path")), labels.listed(row.get("human_preference"))
        if len(paths) != 2 or len(told) != 2:
            raise NotALabel(f"{len(told)} labels of {len(paths)} pictures, not 2 of 2")
        p_first = labels.one_hot(told)
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(path, lie) for path in paths)
    yield Comparison(row.get("prompt"), first, second, (Vote(p_first),), str([int(p_first), 1 - int(p_first)]))


def _rankings(row: Row, lie: Shelf) -> Iterator[Item]:
    try:
        paths, rankings = labels.listed(row.get("image_path")), _by_person(row)
        if wrong := [rank for _, rank in rankings if len(rank) != len(paths)]:
            raise NotALabel(f"{len(wrong[0])} ranks of {len(paths)} pictures")
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    found = [picture(path, lie) for path in paths]
    for one, other in combinations(range(len(paths)), 2):
        try:
            votes = tuple(Vote(labels.ranked(rank[one], rank[other]), who) for who, rank in rankings)
        except NotALabel as error:
            yield Unusable("label", str(error))
            continue
        said = labels.told(sum(vote.p_first for vote in votes) / len(votes)) if votes else "no label"
        yield Comparison(row.get("prompt"), found[one], found[other], votes, said)


def _by_person(row: Row) -> list[tuple[str, list[Any]]]:
    """Each person's ranking, or the averaged one where no person's is told."""
    told = row.get("raw_annotations")
    people = (
        [entry for entry in told if isinstance(entry, Mapping) and "rank" in entry] if isinstance(told, list) else []
    )
    if people:
        return [(labels.text(entry.get("user_hash") or ""), labels.listed(entry["rank"])) for entry in people]
    return [] if labels.missing(row.get("rank")) else [("", labels.listed(row["rank"]))]
