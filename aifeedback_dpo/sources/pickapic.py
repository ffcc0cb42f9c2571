"""Pick-a-Pic v1 and v2 (Kirstain et al. 2023, arXiv:2305.01569), their mirrors, and sets in their columns.

label_0 is 1 where picture 0 is preferred, 0 where picture 1 is, 0.5 for a tie, and label_1 = 1 - label_0: as float64, int64,
or, in the WebDataset mirror, as text. Rows with has_label false were never judged. The authors' copies left the hub in 2025.
"""

from collections.abc import Callable, Iterator

from aifeedback_dpo.sources import columns, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Unwanted, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "caption, jpg_0, jpg_1, label_0 (and label_1, has_label, model_0, model_1, user_id)"
TAKES = ("split", "config", "images", "dreamlike_only")
NEEDED = ("caption", "jpg_0", "jpg_1", "label_0")


def opened(asked: Asked) -> Opened:
    """The set, by its columns."""
    lie = tables.shelf(asked)

    def reader(found: dict[str, str]) -> Callable[[Row], Iterator[Item]]:
        columns.need(NEEDED, found, asked, WANTS)
        if asked.dreamlike_only:
            columns.need(("model_0", "model_1"), found, asked, WANTS)
        return lambda row: _read(row, lie, dreamlike_only=asked.dreamlike_only)

    return tables.opened(asked, reader)


def _read(row: Row, lie: Shelf | None, *, dreamlike_only: bool) -> Iterator[Item]:
    models = [labels.text(row.get(name) or "") for name in ("model_0", "model_1")]
    if dreamlike_only and not all("dream" in name.lower() for name in models):  # as the authors' --dreamlike_pairs_only
        yield Unwanted("not a pair of Dreamlike pictures")
        return
    try:
        votes, said = _votes(row)
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(row[f"jpg_{side}"], lie, model=models[side]) for side in (0, 1))
    yield Comparison(row["caption"], first, second, votes, said)


def _votes(row: Row) -> tuple[tuple[Vote, ...], str]:
    """`p_0` and `votes` are in exports of this package, where people's mean is no longer 0, 0.5 or 1."""
    judged = labels.missing(row.get("has_label")) or labels.flag(row["has_label"])
    if not judged or labels.missing(row["label_0"]):
        return (), "no label"
    other = None if labels.missing(row.get("label_1")) else row["label_1"]
    p_first = labels.complementary(row["label_0"], other)
    if not labels.missing(row.get("p_0")):
        exact = labels.share(row["p_0"])
        if (exact > 0.5) - (exact < 0.5) != (p_first > 0.5) - (p_first < 0.5):
            raise NotALabel(f"p_0 {exact:g} is not on the side of label_0 {p_first:g}")
        p_first = exact
    count = labels.people(row.get("votes", 1))
    user = row.get("user_id")
    annotator = "" if labels.missing(user) or "votes" in row else labels.text(user)
    return (Vote(p_first, annotator, count),), f"label_0 = {labels.number(row['label_0']):g}"
