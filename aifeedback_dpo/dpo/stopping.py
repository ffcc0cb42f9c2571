"""Ctrl-C and SIGTERM while policies train: the step under way is finished and saved, and a second Ctrl-C does not wait."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SAID = "Stopping after this step, which is saved; Ctrl-C again stops at once"


@contextmanager
def on_request(*, alone: bool) -> Iterator[Callable[[], bool]]:
    """Gives whether a stop was asked for since.

    Signals are left as they are, and it never was, outside of a program's main thread, which alone is told of them, and in
    processes that are not `alone`: they would stop after different steps.
    """
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{SAID}\n".encode())  # print may be at work below

    if not alone or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
