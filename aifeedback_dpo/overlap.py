"""What goes on beside a model, so that it never waits: reading ahead of it, writing behind it. And a batch that does not fit.

Threads are enough: decoding and encoding pictures, Parquet and the disk all let go of the interpreter's lock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


def ahead(calls: Iterable[Callable[[], T]], depth: int = 1) -> Iterator[T]:
    """What each of the calls gives, in order; `depth` of them are under way or done before they are asked for."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        waiting: deque[Future[T]] = deque()
        try:
            for call in calls:
                waiting.append(thread.submit(call))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Behind:
    """Calls made in a thread, in order, while the caller goes on; at most `depth` of them wait.

    What one raises is raised at a later call or at the end. Where the caller fails, those that were given are still made.
    """

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._thread = ThreadPoolExecutor(1, "behind")
        self._waiting: deque[Future[object]] = deque()

    def call(self, call: Callable[[], object]) -> None:
        """Adds one, as soon as there is room."""
        while len(self._waiting) >= self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(call))

    def settle(self) -> None:
        """Waits for all of them. Raises the first error."""
        first: BaseException | None = None
        while self._waiting:
            try:
                self._waiting.popleft().result()
            except BaseException as error:  # the others are still to be waited for
                first = first or error
        if first:
            raise first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self._thread.shutdown(wait=True)


class Fitting:
    """The size of a batch, which is halved whenever one runs out of memory; `say` is told the new size."""

    def __init__(self, size: int, say: Callable[[int], object]) -> None:
        self.size, self._say = size, say

    def __call__(self, call: Callable[[], T], count: int) -> T | None:
        """What a call on a batch of so many gives, or None where that took too much memory: the next are to be half as large.

        Raises the error itself where it was about something else, or the batch is one.
        """
        from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

        try:
            return call()
        except RuntimeError as error:
            if count == 1 or not should_reduce_batch_size(error):
                raise
        self.size = count // 2
        clear_device_cache(garbage_collection=True)  # what the error held is let go of by now
        self._say(self.size)
        return None
