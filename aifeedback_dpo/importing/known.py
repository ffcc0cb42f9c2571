"""What is in a run already: pictures, pairs and prompts by id, on the disk and not in memory, however many there are."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from aifeedback_dpo.store import Run

TABLES = """
create table pictures (id blob primary key, pixels blob) without rowid;
create table pairs (id blob primary key, prompt blob) without rowid;
create table prompts (id blob primary key) without rowid;
"""


def bare(prompt: str) -> str:
    """A prompt without case, punctuation and space: "A cat." and "a cat" are one."""
    return "".join(letter for letter in prompt.casefold() if letter.isalnum()) or prompt


class Known:
    """Answers what is there; ids are told as hex. SQLite's temporary file goes with it."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        self.held_out: set[str] = set()
        """Held-out prompts without case and punctuation, by which another spelling of one is known."""

    def pixels(self, image_id: str) -> str | None:
        """The hash of the pixels of a picture that is there."""
        found = self._base.execute("select pixels from pictures where id = ?", (bytes.fromhex(image_id),)).fetchone()
        return found[0].hex() if found else None

    def prompt_of(self, pair_id: str) -> str | None:
        """The prompt of a pair that is there."""
        found = self._base.execute("select prompt from pairs where id = ?", (bytes.fromhex(pair_id),)).fetchone()
        return found[0].hex() if found else None

    def has_prompt(self, prompt_id: str) -> bool:
        return (
            self._base.execute("select 1 from prompts where id = ?", (bytes.fromhex(prompt_id),)).fetchone() is not None
        )

    def add_picture(self, image_id: str, pixels: str) -> None:
        self._base.execute(
            "insert or ignore into pictures values (?, ?)", (bytes.fromhex(image_id), bytes.fromhex(pixels))
        )

    def add_pair(self, pair_id: str, prompt_id: str) -> None:
        self._base.execute(
            "insert or ignore into pairs values (?, ?)", (bytes.fromhex(pair_id), bytes.fromhex(prompt_id))
        )

    def add_prompt(self, prompt_id: str) -> None:
        self._base.execute("insert or ignore into prompts values (?)", (bytes.fromhex(prompt_id),))

    def hold_out(self, prompt: str) -> None:
        self.held_out.add(bare(prompt))


@contextmanager
def known(run: Run) -> Iterator[Known]:
    """What the run holds now."""
    base = sqlite3.connect("")  # a file that SQLite removes
    try:
        base.executescript(TABLES)
        found = Known(base)
        for part in run.scan("images", ["image_id", "pixel_sha256"]):
            for row in part.to_pylist():
                found.add_picture(row["image_id"], row["pixel_sha256"])
        for part in run.scan("pairs", ["pair_id", "prompt_id"]):
            for row in part.to_pylist():
                found.add_pair(row["pair_id"], row["prompt_id"])
        for part in run.scan("prompts", ["prompt_id", "prompt", "split"]):
            for row in part.to_pylist():
                found.add_prompt(row["prompt_id"])
                if row["split"] == "eval":
                    found.hold_out(row["prompt"])
        yield found
    finally:
        base.close()
