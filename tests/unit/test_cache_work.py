"""What the cache computes: what is missing and no more, over stops and in shares, and never for another model or size."""

import shutil

import pytest
import torch

from aifeedback_dpo import models
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run
from tests import tiny
from tests.cached import files, image_id, made, paired, prepare


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(Model(id=str(tiny.write("sd", tmp_path_factory.mktemp("tiny") / "sd"))))


@pytest.fixture
def run(tmp_path):
    return made(tmp_path / "run")


def test_killed_in_the_middle_and_run_again_equals_straight_byte_for_byte(tmp_path, model, monkeypatch):
    straight, stopped = made(tmp_path / "straight"), made(tmp_path / "stopped")
    prepare(straight, model, paired(0, 1, 2, 3))
    write, begun = Run.write, []

    def killed(self, path, fill):
        begun.append(path)
        if len(begun) == 2:
            raise KeyboardInterrupt
        write(self, path, fill)

    monkeypatch.setattr(Run, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(stopped, model, paired(0, 1, 2, 3))
    monkeypatch.undo()
    assert len(files(stopped)) == 1
    prepare(stopped, model, paired(0, 1, 2, 3))
    assert files(stopped) == files(straight)
    # 8 latents in parts of 3, and 4 prompts with no caption before them
    assert len(files(straight)) == 3 + 2


def test_a_plan_that_grew_adds_parts_and_leaves_the_old_ones(run, model, monkeypatch):
    before = prepare(run, model, paired(0, 1)).latents([0, 1, 2, 3])
    old, asked = files(run), []
    encode = type(model).encode_images
    monkeypatch.setattr(type(model), "encode_images", lambda self, x: asked.append(len(x)) or encode(self, x))
    grown = prepare(run, model, paired(0, 1, 2, 3))
    assert sum(asked) == 4
    assert old.items() < files(run).items()
    assert torch.equal(grown.latents(grown.images([image_id(i) for i in sorted(range(4), key=image_id)])), before)


def test_nothing_is_placed_or_called_when_nothing_is_missing(tmp_path, model, monkeypatch):
    run = made(tmp_path / "run", "train.flip=true")
    prepare(run, model, paired(0, 1, 2, 3))

    def refused(*arguments, **options):
        raise AssertionError("an encoder was wanted")

    for name in ("placed", "encode_images", "encode_prompts", "encode_negative"):
        monkeypatch.setattr(type(model), name, refused)
    shutil.rmtree(run.root / "images")  # nor is a picture looked for
    assert prepare(run, model, paired(0, 2)).latents([0, 3]).shape == (2, 4, 16, 16)


def test_what_another_model_dtype_or_resolution_made_is_not_read(tmp_path, model):
    run = made(tmp_path / "run")
    first = prepare(run, model, paired(0, 1)).latents([0])
    assert len(list(run.cache.iterdir())) == 2
    smaller = made(tmp_path / "run", "train.resolution=16")
    assert prepare(smaller, model, paired(0, 1)).shape == (4, 8, 8)
    assert len(list(run.cache.iterdir())) == 3  # prompts know no resolution
    other = models.load(Model(id=str(tiny.write("sd", tmp_path / "other", seed=1))))
    assert not torch.allclose(prepare(run, other, paired(0, 1)).latents([0]), first)
    half = models.load(Model(id=str(tmp_path / "other"), dtype="bfloat16"))
    assert not torch.equal(
        prepare(run, half, paired(0, 1)).latents([0]), prepare(run, other, paired(0, 1)).latents([0])
    )
    assert len(list(run.cache.iterdir())) == 7


def test_two_processes_that_share_the_work_equal_one(tmp_path, model):
    one, two = made(tmp_path / "one", "train.flip=true"), made(tmp_path / "two", "train.flip=true")
    whole, pairs = prepare(one, model, paired(0, 1, 2, 3)), paired(0, 1, 2, 3)
    halves, met = [], []

    def second():
        met.append(len(files(two)))
        halves.append(prepare(two, model, pairs, share=(1, 2), ready=lambda: met.append(len(files(two)))))

    halves.append(prepare(two, model, pairs, share=(0, 2), ready=second))
    # of three slices of latents, three of mirrored ones and two of prompts the first process does the 1st and 3rd
    assert met == [2 + 2 + 1, 8]
    assert files(one) == files(two)
    for half in halves:
        assert torch.equal(half.latents(range(8)), whole.latents(range(8)))


def test_a_share_that_nobody_computed_is_missed(run, model):
    with pytest.raises(DataError, match=r"3 rows are missing from .*latents-\w+; run `ddpo train` again"):
        prepare(run, model, paired(0, 1, 2, 3), share=(0, 2))
