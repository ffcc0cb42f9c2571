"""A GPU that runs out of memory: the batch gets smaller and stays so, nothing else changes, and one picture is the end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aifeedback_dpo import scorers
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.scorers import Answer
from aifeedback_dpo.store import Run
from tests import labelling
from tests.conftest import TINY, ddpo
from tests.labelling import said

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
LINE = "out of GPU memory: lower generate.batch_size, label.batch_size or train.micro_batch_size"
FEW = (*TINY, "generate.candidates=2", "generate.pairs=1", "generate.steps=1")  # 12 pictures, in slices of 4


def fitting(
    real: Callable, most: int, sizes: list[int], *, once: int | None = None, error: Exception = FULL
) -> Callable:
    """The real thing, which fails for more than `most` at a time, or at its call number `once` alone."""

    def call(self, pictures, *arguments, **settings):
        sizes.append(len(pictures))
        if len(sizes) - 1 == once or (once is None and len(pictures) > most):
            raise error
        return real(self, pictures, *arguments, **settings)

    return call


def failed(result, code: int) -> str:
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    return lines[0]


def pictures(run: Path) -> dict[str, np.ndarray]:
    opened = open_run(run, None)
    return {name: np.asarray(decode_image(data)) for name, data in opened.images(opened.done("images"))}


# -- drawing ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same pictures at two batch sizes."""
    root = tmp_path_factory.mktemp("drawn")
    for size in (2, 4):
        result = ddpo("generate", *FEW, f"generate.batch_size={size}", run=root / str(size))
        assert result.exit_code == 0, result.output
    return {size: root / str(size) for size in (2, 4)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "most", "once", "sizes"),
    [
        (4, 2, None, [4, 2, 2, 2, 2, 2, 2]),
        (64, 2, None, [4, 2, 2, 2, 2, 2, 2]),  # a slice has four
        (4, 4, 1, [4, 4, 2, 2, 2, 2]),
        (64, 1, None, [4, 2, *[1] * 12]),
    ],
    ids=["always", "many asked for", "once", "down to one"],
)
def test_drawing_goes_on_with_smaller_batches(drawn, tmp_path, monkeypatch, asked, most, once, sizes):
    seen: list[int] = []
    monkeypatch.setattr(Diffuser, "sample", fitting(Diffuser.sample, most, seen, once=once))
    result = ddpo("generate", *FEW, f"generate.batch_size={asked}", run=tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert seen == sizes
    assert f"out of memory: going on with generate.batch_size={sizes[-1]}" in result.stderr
    found = pictures(tmp_path / "run")
    assert list(found) == list(pictures(drawn[4]))
    if most == 2:
        wanted = pictures(drawn[2])
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_one_picture_that_does_not_fit_is_one_line_and_keeps_what_was_drawn(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(Diffuser, "sample", fitting(Diffuser.sample, 0, []))
    assert LINE in failed(ddpo("generate", *FEW, run=tmp_path / "run"), 1)
    assert not open_run(tmp_path / "run", None).parts("images")
    monkeypatch.undo()
    assert ddpo("generate", run=tmp_path / "run").exit_code == 0
    assert labelling.files(tmp_path / "run" / "images") == labelling.files(drawn[4] / "images")


@pytest.mark.slow
def test_another_error_while_drawing_is_not_swallowed(tmp_path, monkeypatch):
    seen: list[int] = []
    broken = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(Diffuser, "sample", fitting(Diffuser.sample, 0, seen, error=broken))
    assert ddpo("generate", *FEW, run=tmp_path / "run").exception is broken
    assert seen == [4]


# -- looking ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return labelling.write(tmp_path, monkeypatch)  # 12 pictures and pairs, in slices of 5 and batches of 2


class Looking:
    """In place of a scorer, whose number is the picture's mean, and of a judge, who takes the left one."""

    preference, recipe = scorers.Preference(None, "a test"), "r"

    def __init__(self, *_: object) -> None:
        self.truncated: set[str] = set()

    def score(self, images, prompts):
        return np.array([np.asarray(image, np.float32).mean() for image in images], np.float32)

    def ask(self, first, second, prompts):
        return [Answer("1", "2", 1.0, 0.0) for _ in prompts]


@pytest.fixture
def looking(monkeypatch) -> type[Looking]:
    real = scorers.load
    monkeypatch.setattr(scorers, "load", lambda name, weights: Looking() if name == "clip" else real(name, weights))
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: Looking())
    monkeypatch.setattr("aifeedback_dpo.scorers.presence.demand", lambda weights: None)
    return Looking


@pytest.mark.parametrize(("most", "once", "sizes"), [(2, None, [5, 2, 2, 1]), (5, 1, [5, 5, 2, 2, 1])])
@pytest.mark.parametrize("asked", [5, 64])
def test_scoring_goes_on_with_smaller_batches(run, looking, monkeypatch, most, once, sizes, asked):
    seen: list[int] = []
    monkeypatch.setattr(looking, "score", fitting(looking.score, most, seen, once=once))
    told = said("-s", "clip", f"label.batch_size={asked}", run=run)
    assert "out of memory: clip goes on with batches of 2 pictures" in told
    assert seen[: len(sizes)] == sizes
    assert max(seen[seen.index(2) :]) == 2
    reds = [(10 + at) / 3 for at in range(3)]
    stored = {row["image_id"]: row["score"] for row in run.rows("scores", name="clip")}
    assert [stored[f"image-{at}-0"] for at in range(3)] == pytest.approx(reds)
    assert len(stored) == 12


@pytest.mark.parametrize("asked", [5, 64])
def test_asking_goes_on_with_smaller_batches(run, looking, monkeypatch, asked):
    seen: list[int] = []
    monkeypatch.setattr(looking, "ask", fitting(looking.ask, 2, seen))
    told = said("-s", "vlm", f"label.batch_size={asked}", run=run)
    assert "out of memory: vlm goes on with 2 pairs at a time" in told
    assert seen == [5, 2, 2, 1, 2, 2, 1, 2]
    assert len(run.rows("answers", name="vlm")) == 12


@pytest.mark.parametrize(("name", "method"), [("clip", "score"), ("vlm", "ask")])
@pytest.mark.parametrize("error", [FULL, RuntimeError("device-side assert triggered")], ids=["memory", "other"])
def test_what_does_not_fit_alone_or_is_broken_ends_it(run, looking, monkeypatch, name, method, error):
    seen: list[int] = []
    monkeypatch.setattr(looking, method, fitting(getattr(looking, method), 0, seen, error=error))
    result = ddpo("label", "-s", name, run=run.root)
    if error is FULL:
        assert LINE in failed(result, 1)
        assert seen == [2, 1]
    else:
        assert result.exception is error
        assert seen == [2]
    assert not run.parts("scores", name) and not run.parts("answers", name)
