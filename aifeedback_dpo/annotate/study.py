"""What a study is: its settings, kept in the journal from the first start on, and all that is drawn by its seed."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import floor

from aifeedback_dpo import seeds
from aifeedback_dpo.annotate.journal import Journal, Kind, Side
from aifeedback_dpo.errors import UserError


@dataclass(frozen=True)
class Study:
    """How a study is drawn up. Shares are of a person's pairs, but `overlap_share`, which is of the study's."""

    seed: int
    overlap: int = 1
    overlap_share: float = 1.0
    repeats: float = 0.05
    attention: float = 0.0
    limit: int | None = None

    def quota(self, pair_id: str) -> int:
        """How many people see a pair."""
        return self.overlap if seeds.uniform(self.seed, "overlap", pair_id) < self.overlap_share else 1

    def pool(self, pairs: Iterable[str]) -> list[str]:
        """The pairs that take part: all, or `limit` of them drawn by seed."""
        drawn = sorted(pairs, key=lambda pair_id: seeds.derive(self.seed, "limit", pair_id))
        return drawn[: self.limit]

    def order(self, pairs: Iterable[str], annotator: str) -> list[str]:
        """The sequence in which a person would go through all pairs."""
        return sorted(pairs, key=lambda pair_id: seeds.derive(self.seed, "order", pair_id, annotator))

    def left_is(self, kind: Kind, pair_id: str, annotator: str, place: int) -> Side:
        """Which picture of a pair is on the left for this person, drawn anew where the pair is there for another reason."""
        again: tuple[str | int, ...] = () if kind == "vote" else (kind, place)
        return "a" if seeds.uniform(self.seed, "left", pair_id, annotator, *again) < 0.5 else "b"

    def is_repeated(self, vote: int, annotator: str) -> bool:
        """Whether a person's vote number `vote` is asked for again later."""
        return chosen(self.repeats, vote, self.seed, "repeat", annotator)

    def has_attention(self, vote: int, annotator: str) -> bool:
        """Whether an attention pair comes before a person's vote number `vote`."""
        return chosen(self.attention, vote, self.seed, "attention", annotator)


def chosen(share: float, number: int, *key: str | int) -> bool:
    """Whether `number` is among the share that is drawn: one, at a random place, of each block of 1 / share numbers."""
    if not share:
        return False
    around = floor(number * share)
    for block in range(max(0, around - 1), around + 2):
        first, end = floor(block / share), floor((block + 1) / share)
        if first <= number < end:
            return number == first + floor(seeds.uniform(*key, block) * (end - first))
    return False


def begun(journal: Journal | None) -> bool:
    """Whether a study is under way."""
    return journal is not None and journal.study() is not None


def settle(
    journal: Journal | None,
    seed: int,
    overlap: int | None,
    overlap_share: float | None,
    repeats: float | None,
    attention: float | None,
    limit: int | None,
) -> Study:
    """The study as it began, or begins now with defaults for what is not said. Raises UserError for what contradicts it."""
    known = journal.study() if journal else None
    asked = {"overlap": overlap, "overlap_share": overlap_share, "repeats": repeats, "attention": attention}
    said = {key: value for key, value in {**asked, "limit": limit, "seed": seed}.items() if value is not None}
    if known is None:
        if overlap_share is not None and overlap is None:
            said["overlap"] = 2  # a share of pairs that several people see means two of them, until told otherwise
        return Study(**said)  # type: ignore[arg-type]
    assert journal is not None
    for key, value in said.items():
        if known[key] != value:
            raise UserError(
                f"this study began with {key}={known[key]}, and {value} is asked for; leave it out to go on, or move "
                f"{journal.path.parent} away to begin another study"
            )
    return Study(**known)


def settings(study: Study) -> dict[str, int | float | None]:
    """The settings as the journal keeps them."""
    return asdict(study)
