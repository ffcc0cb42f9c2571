"""The journal of a study: one SQLite file in the run, to which rows are added and from which none is taken.

A vote is one transaction, on the disk (WAL, synchronous=FULL) before the page hears of it. An answer that was taken back
keeps its row and gets one in `undone`; a showing can be answered once, however often the answer is sent.
"""

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aifeedback_dpo.errors import DataError, UserError

Kind = Literal["vote", "repeat", "attention"]
Side = Literal["a", "b"]
Said = Literal["a", "b", "tie", "both_bad", "skip"]

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS annotators (name TEXT PRIMARY KEY, invited_at REAL NOT NULL, consented_at REAL);
CREATE TABLE IF NOT EXISTS showings (
  id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, annotator TEXT NOT NULL REFERENCES annotators (name),
  place INTEGER NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('vote', 'repeat', 'attention')), pair_id TEXT NOT NULL,
  left_is TEXT NOT NULL CHECK (left_is IN ('a', 'b')), shown_at REAL NOT NULL, released_at REAL);
CREATE TABLE IF NOT EXISTS answers (
  id INTEGER PRIMARY KEY, showing INTEGER NOT NULL UNIQUE REFERENCES showings (id),
  answer TEXT NOT NULL CHECK (answer IN ('a', 'b', 'tie', 'both_bad', 'skip')),
  milliseconds INTEGER CHECK (milliseconds BETWEEN 0 AND 3600000), answered_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS undone (
  answer INTEGER PRIMARY KEY REFERENCES answers (id), undone_at REAL NOT NULL);
"""
SHOWINGS = """
SELECT s.id, s.token, s.annotator, s.place, s.kind, s.pair_id, s.left_is, s.released_at IS NOT NULL AS released,
       a.id AS answer_id, a.answer, a.milliseconds, a.answered_at, u.answer IS NOT NULL AS undone
FROM showings s LEFT JOIN answers a ON a.showing = s.id LEFT JOIN undone u ON u.answer = a.id ORDER BY s.id
"""


@dataclass(slots=True)
class Showing:
    """A pair that one person was shown, and what came of it. In an attention pair `a` is the picture that was not spoiled."""

    id: int
    token: str
    annotator: str
    place: int  # in this person's sequence; a pair that comes back by undo keeps it
    kind: Kind
    pair_id: str
    left_is: Side
    released: bool = False  # given to somebody else after a long silence
    answer_id: int | None = None
    answer: Said | None = None
    milliseconds: int | None = None
    answered_at: float | None = None
    undone: bool = False

    @property
    def counts(self) -> bool:
        """Whether it was answered, and the answer stands."""
        return self.answer is not None and not self.undone

    @property
    def is_open(self) -> bool:
        return self.answer is None and not self.released


class Journal:
    """The open file. One process at a time may hold it `alone`; reading needs no such leave."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._alone: sqlite3.Connection | None = None
        self._one_at_a_time = threading.Lock()  # threads share the connection, and so its transaction
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.execute("PRAGMA foreign_keys=ON")
            self._file.executescript(TABLES)
            with self.transaction():
                self._setting("version", str(VERSION))
                self._setting("secret", secrets.token_hex(32))
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path} is no journal of votes ({error}); restore it, or move it away") from error
        if (found := self.setting("version")) != str(VERSION):
            raise DataError(
                f"{path} is of version {found}, and this program reads {VERSION}; use the one that wrote it"
            )
        path.chmod(0o600)  # it holds what invitations are made from

    def alone(self) -> None:
        """Keeps other servers off this study, until this process ends. Raises UserError when one runs already."""
        self._alone = sqlite3.connect(self.path.with_name("serving.sqlite"), isolation_level=None, timeout=0)
        try:
            self._alone.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise UserError(
                f"{self.path.parent} is being served by another `ddpo annotate`; stop that one first"
            ) from error

    def close(self) -> None:
        """Lets go of the file, and of the leave to serve."""
        self._file.close()
        if self._alone:
            self._alone.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, and on the disk when it ends."""
        with self._one_at_a_time:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    # -- the study ---------------------------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        """A setting as it was first written; None where it was not."""
        row = self._file.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def study(self) -> dict[str, Any] | None:
        """The settings that the study began with; None before it began."""
        found = self.setting("study")
        return None if found is None else dict(json.loads(found))

    def begin(self, study: Mapping[str, Any]) -> None:
        """Writes the settings of a study that has none yet."""
        with self.transaction():
            self._setting("study", json.dumps(study))

    def invite(self, names: Sequence[str]) -> None:
        """Adds people who are not there yet."""
        with self.transaction():
            rows = [(name, time.time()) for name in names]
            self._file.executemany("INSERT OR IGNORE INTO annotators (name, invited_at) VALUES (?, ?)", rows)

    def annotators(self) -> dict[str, bool]:
        """Everyone invited, in order, and whether each has consented."""
        found = self._file.execute("SELECT name, consented_at FROM annotators ORDER BY invited_at, rowid")
        return {name: consented is not None for name, consented in found}

    def consent(self, name: str) -> None:
        """Notes when somebody first agreed to take part."""
        with self.transaction():
            self._file.execute(
                "UPDATE annotators SET consented_at = coalesce(consented_at, ?) WHERE name = ?", (time.time(), name)
            )

    # -- showings, answers (inside a transaction) ----------------------------------------------------------------------

    def show(self, annotator: str, place: int, kind: Kind, pair_id: str, left_is: Side) -> Showing:
        """Notes that somebody is about to see a pair."""
        token = secrets.token_urlsafe(16)
        added = self._file.execute(
            "INSERT INTO showings (token, annotator, place, kind, pair_id, left_is, shown_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (token, annotator, place, kind, pair_id, left_is, time.time()),
        )
        assert added.lastrowid is not None
        return Showing(added.lastrowid, token, annotator, place, kind, pair_id, left_is)

    def answer(self, showing: Showing, said: Said, milliseconds: int | None) -> None:
        """Writes an answer; the unique showing keeps a second one out."""
        now = time.time()
        added = self._file.execute(
            "INSERT INTO answers (showing, answer, milliseconds, answered_at) VALUES (?, ?, ?, ?)",
            (showing.id, said, milliseconds, now),
        )
        showing.answer_id, showing.answer = added.lastrowid, said
        showing.milliseconds, showing.answered_at = milliseconds, now

    def undo(self, showing: Showing) -> None:
        """Writes that an answer no longer stands."""
        self._file.execute("INSERT INTO undone (answer, undone_at) VALUES (?, ?)", (showing.answer_id, time.time()))
        showing.undone = True

    def release(self, showing: Showing) -> None:
        """Takes an unanswered pair from somebody who went away."""
        self._file.execute("UPDATE showings SET released_at = ? WHERE id = ?", (time.time(), showing.id))
        showing.released = True

    def showings(self) -> list[Showing]:
        """Everything that was shown, in order, with what was answered."""
        names = Showing.__slots__
        rows = self._file.execute(SHOWINGS).fetchall()
        found = [Showing(**dict(zip(names, row, strict=True))) for row in rows]
        for showing in found:
            showing.released, showing.undone = bool(showing.released), bool(showing.undone)
        return found

    def _setting(self, key: str, value: str) -> None:
        self._file.execute("INSERT OR IGNORE INTO settings (key, value) VALUES (?, ?)", (key, value))
