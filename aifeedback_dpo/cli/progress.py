"""Progress on stderr: a bar with rate and time left in a terminal, plain lines now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

FIRST_LINE = 2.0
EVERY = 15.0


def progress() -> "Terminal | Lines":
    """The one that fits stderr."""
    return Terminal() if sys.stderr.isatty() else Lines()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class _RichBar:
    def __init__(self, shown: Progress, name: str, total: int | None, done: int) -> None:
        self.shown, self.id = shown, shown.add_task(name, total=total, completed=done)

    def advance(self, count: int) -> None:
        self.shown.advance(self.id, count)


class Terminal:
    """Rich bars."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0) -> Iterator[_RichBar]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, speed_estimate_period=60) as shown:
            yield _RichBar(shown, name, total, done)

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False)


class _PlainBar:
    def __init__(self, name: str, total: int | None, done: int) -> None:
        self.name, self.total, self.done, self.before = name, total, done, done
        self.start = time.monotonic()
        self.next = self.start + FIRST_LINE

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() >= self.next and self.done != self.total:
            self.say()
            self.next = time.monotonic() + EVERY

    def say(self) -> None:
        spent = time.monotonic() - self.start
        rate = (self.done - self.before) / max(spent, 1e-9)
        to_do = (self.total or self.done) - self.done
        left = f", {to_do / rate:.0f} s left" if to_do > 0 and rate else ""
        of = f"/{self.total}" if self.total is not None else ""
        print(f"{self.name}: {self.done}{of}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)


class Lines:
    """A line after two seconds, then every fifteen, and one at the end of whatever took that long."""

    @contextmanager
    def task(self, name: str, total: int | None, done: int = 0) -> Iterator[_PlainBar]:
        bar = _PlainBar(name, total, done)
        yield bar
        if time.monotonic() - bar.start >= FIRST_LINE:
            bar.say()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
