"""One person's place in a study: what they have seen, what they said, what lies before them."""

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from aifeedback_dpo.annotate.journal import Showing
from aifeedback_dpo.annotate.study import Study

PACE_OVER = 20
LONGEST = 120.0  # seconds between two answers beyond which somebody was away


@dataclass
class Person:
    """What the next pair of one person depends on. `rank` is their own order of all pairs."""

    name: str
    rank: dict[str, int]
    order: list[str]
    active_at: float
    cursor: int = 0
    seen: set[str] = field(default_factory=set)
    open: list[Showing] = field(default_factory=list)
    answered: list[Showing] = field(default_factory=list)  # as they came, without what was taken back
    votes: dict[int, str] = field(default_factory=dict)  # place -> pair, of votes shown
    numbers: dict[int, int] = field(default_factory=dict)  # place -> how manieth vote
    due: set[int] = field(default_factory=set)  # places of the votes that are to come back and have not yet
    repeated: set[str] = field(default_factory=set)
    attention: set[int] = field(default_factory=set)  # numbers of the votes that an attention pair came before
    places: int = 0

    def add(self, showing: Showing) -> None:
        """A pair was shown, for the first time or again after an undo."""
        if showing.kind == "attention" and showing.place >= self.places:
            self.attention.add(len(self.votes))
        self.places = max(self.places, showing.place + 1)
        if showing.kind == "vote":
            self.votes[showing.place] = showing.pair_id
            self.numbers.setdefault(showing.place, len(self.numbers))
            self.seen.add(showing.pair_id)
        elif showing.kind == "repeat":
            self.repeated.add(showing.pair_id)
            self.due = {place for place in self.due if self.votes[place] != showing.pair_id}
        self.open.append(showing)
        self.open.sort(key=lambda showing: showing.place)

    def close(self, showing: Showing, study: Study) -> None:
        """A pair is no longer open: answered, or given to somebody else."""
        self.open.remove(showing)
        if showing.released and showing.kind == "vote":
            self.seen.discard(showing.pair_id)
        if not showing.counts:
            return
        self.answered.append(showing)
        asked = showing.kind == "vote" and showing.answer != "skip" and showing.pair_id not in self.repeated
        if asked and study.is_repeated(self.numbers[showing.place], self.name):
            self.due.add(showing.place)

    def reopen(self, showing: Showing) -> None:
        """The last answer was taken back."""
        self.answered.remove(showing)
        if showing.kind == "vote":
            self.due.discard(showing.place)

    def seconds_a_pair(self) -> float | None:
        """The median time from answer to answer, lately; None before there are three."""
        times = [showing.answered_at for showing in self.answered[-PACE_OVER - 1 :] if showing.answered_at]
        gaps = [after - before for before, after in pairwise(times) if after - before < LONGEST]
        return median(gaps) if len(gaps) > 1 else None
