"""Who sees which pair next.

A pair is held for a person from the moment it is drawn for them until they answer or skip it, and votes and holds together
never exceed the pair's quota. Pairs that others have begun come before fresh ones, so that wherever a study is stopped as
many pairs as possible have all their votes. Who stays away for half an hour loses what is held for them, once others have
nothing else left. A pair that comes back, for self-agreement, does so at least ten pairs later while there are others.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from aifeedback_dpo import seeds
from aifeedback_dpo.annotate.journal import Journal, Kind, Said, Showing
from aifeedback_dpo.annotate.person import Person
from aifeedback_dpo.annotate.study import Study

Choice = Literal["left", "right", "tie", "both_bad", "skip"]

GAP = 10
HELD = 30 * 60.0
AHEAD = 2  # the pair on the page, and the one after it, whose pictures are fetched meanwhile
TAKEN = "That pair has gone to somebody else in the meantime."


@dataclass(frozen=True)
class Turn:
    """What a person's page shows now."""

    showing: Showing | None
    ahead: Showing | None
    done: int
    total: int
    seconds_a_pair: float | None
    can_undo: bool
    note: str = ""


class Assignment:
    """The state of a study in memory, which is always what its journal says; safe to call from many threads."""

    def __init__(
        self, journal: Journal, study: Study, pairs: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.journal = journal
        self.study = study
        self._pairs = study.pool(pairs)
        self._quota = {pair_id: study.quota(pair_id) for pair_id in self._pairs}
        self._clock = clock
        self._lock = threading.Lock()
        self.changes = 0  # answers and undos since the start
        self._load()

    def turn(self, name: str) -> Turn:
        """What is in front of somebody, drawing what is needed."""
        with self._working(name) as person:
            return self._turn(person)

    def answer(self, name: str, token: str, choice: Choice, milliseconds: int | None) -> Turn:
        """Takes an answer; to a pair that has one already it changes nothing.

        Raises KeyError for a showing that is not this person's.
        """
        with self._working(name) as person:
            showing = self.showing(name, token)
            note = TAKEN if showing.released else ""
            if showing.is_open:
                self.changes += 1
                with self.journal.transaction():
                    self.journal.answer(showing, said(choice, showing), milliseconds)
                    self._close(person, showing)
                    self._draw(person)
            return self._turn(person, note)

    def undo(self, name: str) -> Turn:
        """Takes back the last answer of somebody and shows that pair again, as it was."""
        with self._working(name) as person:
            if not person.answered:
                return self._turn(person, "There is nothing to undo.")
            last = person.answered[-1]
            if last.pair_id not in self._quota:
                return self._turn(person, "That pair is no longer part of the study.")
            holds = last.kind == "vote" and last.answer != "skip"
            if last.kind == "vote" and not holds and self._covered[last.pair_id] >= self._quota[last.pair_id]:
                return self._turn(person, TAKEN)
            self.changes += 1
            with self.journal.transaction():
                self.journal.undo(last)
                again = self.journal.show(name, last.place, last.kind, last.pair_id, last.left_is)
                person.reopen(last)
                if holds:
                    self._cover(last.pair_id, -1)
                self._add(person, again)
            return self._turn(person)

    def showing(self, name: str, token: str) -> Showing:
        """A showing by its token. Raises KeyError when it is not this person's."""
        showing = self._showings[token]
        if showing.annotator != name:
            raise KeyError(token)
        return showing

    # -- state ---------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """The state from the journal alone."""
        self._covered: Counter[str] = Counter()
        self._available = set(self._pairs)
        self._begun: set[str] = set()
        self._showings: dict[str, Showing] = {}
        self._people: dict[str, Person] = {}
        for name in self.journal.annotators():
            order = self.study.order(self._pairs, name)
            rank = {pair_id: at for at, pair_id in enumerate(order)}
            self._people[name] = Person(name, rank, order, self._clock())
        closed = []
        for showing in self.journal.showings():
            if showing.is_open and showing.pair_id not in self._quota:
                self.journal.release(showing)
            self._add(self._people[showing.annotator], showing)
            if not showing.is_open:
                closed.append(showing)
        for showing in sorted(closed, key=lambda showing: showing.answer_id or 0):
            self._close(self._people[showing.annotator], showing)

    @contextmanager
    def _working(self, name: str) -> Iterator[Person]:
        with self._lock:
            person = self._people[name]
            person.active_at = self._clock()
            try:
                yield person
            except sqlite3.Error:  # nothing of it was written; what memory has of it is forgotten
                self._load()
                raise

    def _turn(self, person: Person, note: str = "") -> Turn:
        if len(person.open) < AHEAD:
            with self.journal.transaction():
                self._draw(person)
        first, second = (*person.open, None, None)[:2]
        done = len(person.answered)
        total = done + len(person.open) + self._to_come(person)
        return Turn(first, second, done, total, person.seconds_a_pair(), bool(person.answered), note)

    def _draw(self, person: Person) -> None:
        while len(person.open) < AHEAD and (found := self._next(person)):
            kind, pair_id = found
            left_is = self.study.left_is(kind, pair_id, person.name, person.places)
            self._add(person, self.journal.show(person.name, person.places, kind, pair_id, left_is))

    def _add(self, person: Person, showing: Showing) -> None:
        self._showings[showing.token] = showing
        person.add(showing)
        if showing.kind == "vote":
            self._cover(showing.pair_id, 1)

    def _close(self, person: Person, showing: Showing) -> None:
        person.close(showing, self.study)
        if showing.kind == "vote" and not (showing.counts and showing.answer != "skip"):
            self._cover(showing.pair_id, -1)

    def _cover(self, pair_id: str, by: int) -> None:
        """One vote or hold more, or one fewer."""
        if pair_id not in self._quota:
            return  # the run has lost this pair since
        self._covered[pair_id] += by
        covered, quota = self._covered[pair_id], self._quota[pair_id]
        (self._available.add if covered < quota else self._available.discard)(pair_id)
        (self._begun.add if 0 < covered < quota else self._begun.discard)(pair_id)
        if by < 0:
            for person in self._people.values():
                person.cursor = 0

    # -- what comes next -----------------------------------------------------------------------------------------------

    def _next(self, person: Person) -> tuple[Kind, str] | None:
        due = min(person.due, default=None)
        if due is not None and due + GAP < person.places:
            return "repeat", person.votes[due]
        vote = len(person.votes)
        if vote not in person.attention and self.study.has_attention(vote, person.name):
            known = [
                shown.pair_id for shown in person.answered if shown.kind == "vote" and shown.pair_id in self._quota
            ]
            if known:
                return "attention", known[seeds.derive(self.study.seed, "attention", person.name, vote) % len(known)]
        if fresh := self._fresh(person):
            return "vote", fresh
        return None if due is None else ("repeat", person.votes[due])

    def _fresh(self, person: Person) -> str | None:
        if begun := self._begun - person.seen:
            return min(begun, key=person.rank.__getitem__)
        while person.cursor < len(person.order):
            pair_id = person.order[person.cursor]
            if pair_id in self._available and pair_id not in person.seen:
                return pair_id
            person.cursor += 1
        return self._taken_over(person)

    def _taken_over(self, person: Person) -> str | None:
        """A pair that is held for somebody who went away."""
        now = self._clock()
        for other in self._people.values():
            if other is person or now - other.active_at < HELD:
                continue
            for showing in other.open:
                if showing.kind == "vote" and showing.pair_id not in person.seen and showing.pair_id in self._quota:
                    self.journal.release(showing)
                    self._close(other, showing)
                    return showing.pair_id
        return None

    def _to_come(self, person: Person) -> int:
        """How many more pairs there may be for somebody; others may take some of them."""
        fresh = len(self._available) - sum(pair_id in self._available for pair_id in person.seen)
        return fresh + len(person.due) + round(fresh * (self.study.repeats + self.study.attention))


def said(choice: Choice, showing: Showing) -> Said:
    """A choice by side as one between `a` and `b`; the others stay as they are."""
    if choice == "left":
        return showing.left_is
    if choice == "right":
        return "b" if showing.left_is == "a" else "a"
    return choice
