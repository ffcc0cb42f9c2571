"""What goes on beside a model: in order, errors and all, nothing lost, and no thread left."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Self

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo import overlap
from aifeedback_dpo.overlap import Behind, Fitting, ahead


def threads(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]


def broken() -> int:
    raise OSError("broken")


class Late:
    """In place of a thread: a call is made when it is waited for, or called off."""

    def __init__(self, *_: object) -> None:
        self.off: list[object] = []

    def submit(self, call: Callable[[], object]) -> SimpleNamespace:
        return SimpleNamespace(result=call, done=lambda: False, cancel=lambda: self.off.append(call))

    def shutdown(self, wait: bool) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


# -- reading ahead ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(), max_size=9), st.integers(0, 4))
def test_what_is_read_ahead_comes_in_order(numbers, depth):
    assert list(ahead(((lambda number=number: number) for number in numbers), depth)) == numbers
    assert not threads("ahead")


@given(st.integers(0, 6), st.integers(1, 3))
def test_no_more_is_begun_than_its_depth(taken, depth):
    begun: list[int] = []
    reading = ahead(((lambda at=at: begun.append(at)) for at in range(20)), depth)
    for _ in range(taken):
        next(reading)
    reading.close()
    assert begun == list(range(len(begun)))
    assert len(begun) <= (taken + depth if taken else 0)
    assert not threads("ahead")


@given(st.integers(0, 5), st.integers(0, 3))
def test_an_error_ahead_comes_out_in_its_place(at, depth):
    calls: list[Callable[[], int]] = [lambda: 1] * at
    seen = []
    with pytest.raises(OSError, match="broken"):
        seen.extend(ahead([*calls, broken, lambda: 2], depth))
    reading = ahead([*calls, broken, lambda: 2], depth)
    assert [next(reading) for _ in range(at)] == [1] * at
    with pytest.raises(OSError, match="broken"):
        next(reading)
    assert not threads("ahead")


def test_what_a_reader_that_is_left_has_not_begun_is_called_off(monkeypatch):
    late, calls = Late(), [lambda: 1, lambda: 2, broken, broken]
    monkeypatch.setattr(overlap, "ThreadPoolExecutor", lambda *_: late)
    reading = ahead(calls, depth=2)
    assert next(reading) == 1
    reading.close()
    assert late.off == calls[1:3]


def test_a_reader_that_is_left_ends_its_thread():
    gate = threading.Event()
    reading = ahead([lambda: 1, lambda: gate.wait(30), broken])
    assert next(reading) == 1
    gate.set()
    reading.close()
    assert not threads("ahead")


# -- writing behind --------------------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(1, 4))
def test_what_is_written_behind_is_written_in_order_and_whole(count, depth):
    made: list[int] = []
    with Behind(depth) as behind:
        for at in range(count):
            behind.call(lambda at=at: made.append(at))
    assert made == list(range(count))
    assert not threads("behind")


@given(st.integers(0, 9), st.integers(1, 4))
def test_no_more_wait_than_its_depth(count, depth):
    made: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(overlap, "ThreadPoolExecutor", Late)
        with Behind(depth) as behind:
            for at in range(count):
                behind.call(lambda at=at: made.append(at))
            assert made == list(range(max(0, count - depth)))
        assert made == list(range(count))


@pytest.mark.parametrize("end", ["call", "settle", "leave"])
def test_an_error_behind_comes_out_and_what_was_given_after_it_is_made(end):
    made: list[int] = []
    gate = threading.Event()
    with pytest.raises(OSError, match="broken"), Behind(3) as behind:
        behind.call(lambda: gate.wait(30))
        behind.call(broken)
        behind.call(lambda: made.append(1))
        gate.set()
        if end == "call":
            for at in range(4):
                behind.call(lambda at=at: made.append(2 + at))
        elif end == "settle":
            behind.settle()
    assert made[:1] == [1]
    assert not threads("behind")


def test_where_the_caller_fails_its_error_comes_out_and_what_was_given_is_made():
    made: list[int] = []
    gate = threading.Event()
    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind.call(lambda: gate.wait(30))
        behind.call(lambda: made.append(1))
        gate.set()
        raise KeyboardInterrupt
    assert made == [1]


# -- what does not fit -----------------------------------------------------------------------------------------------


def raising(error: Exception) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_batch_is_halved_down_to_one_and_then_the_error_comes_out(size):
    said: list[int] = []
    fitting, call = Fitting(size, said.append), raising(torch.OutOfMemoryError("CUDA out of memory."))
    while size > 1:
        assert fitting(call, size) is None
        size //= 2
        assert fitting.size == said[-1] == size
    with pytest.raises(torch.OutOfMemoryError):
        fitting(call, size)


def test_a_batch_that_fits_gives_what_it_gives_and_stays_as_large():
    fitting = Fitting(8, pytest.fail)
    assert fitting(lambda: 5, 8) == 5
    assert fitting.size == 8


@pytest.mark.parametrize("size", [1, 8])
def test_an_error_about_something_else_comes_out(size):
    with pytest.raises(RuntimeError, match="shapes"):
        Fitting(size, pytest.fail)(raising(RuntimeError("shapes cannot be multiplied")), size)
