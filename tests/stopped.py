"""Training that is stopped on purpose, and whether it ended as a straight one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from aifeedback_dpo.dpo import checkpoint
from tests.labelled import JUDGES, folder, saved, weights

INTERRUPTED = 130


@contextmanager
def stopping(after: set[tuple[str, int]]) -> Iterator[dict[tuple[str, int], Any]]:
    """Interrupts training after these (judge, step) are saved, once each; gives every state that is saved."""
    states, save = {}, checkpoint.save

    def save_and_stop(run, job, step, state):
        save(run, job, step, state)
        states[job.judge, step] = deepcopy(state)
        if (job.judge, step) in after:
            after.remove((job.judge, step))
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "save", save_and_stop)
        yield states


def same(one: Any, other: Any) -> bool:
    """Bit for bit, at any depth."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_ended_as(trained: Path, run: Path, judges: Sequence[str] = JUDGES) -> None:
    """The same files, bit for bit, and nothing left of what was under way."""
    for judge in judges:
        assert (folder(run, judge) / "metrics.jsonl").read_bytes() == (
            folder(trained, judge) / "metrics.jsonl"
        ).read_bytes()
        assert same(weights(run, judge), weights(trained, judge)), judge
    assert saved(run) == {}
