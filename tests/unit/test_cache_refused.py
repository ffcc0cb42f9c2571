"""What the cache refuses: damaged parts, pictures of several sizes, and what is not in the run, each with the next step."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from aifeedback_dpo import models, records
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run
from tests import tiny
from tests.cached import TEXTS, image_id, image_row, made, paired, prepare


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(Model(id=str(tiny.write("sd", tmp_path_factory.mktemp("tiny") / "sd"))))


@pytest.fixture
def run(tmp_path):
    return made(tmp_path / "run")


def latent_parts(run: Run) -> list[Path]:
    return sorted(run.cache.glob("latents-*/part-*"))


@pytest.mark.parametrize("damage", ["cut off", "emptied", "no header", "longer"])
def test_a_damaged_part_is_named_and_the_next_step_told(run, model, damage):
    prepare(run, model, paired(0, 1, 2, 3))
    part, data = latent_parts(run)[1], latent_parts(run)[1].read_bytes()
    part.write_bytes({"cut off": data[:-9], "emptied": b"", "no header": b"\xff" * 99, "longer": data + b"1"}[damage])
    told = rf"{part.name} is corrupted \(.*\); delete it and run `ddpo train` again"
    with pytest.raises(DataError, match=told):
        prepare(run, model, paired(0, 1, 2, 3))
    part.unlink()
    prepare(run, model, paired(0, 1, 2, 3))
    assert part.read_bytes() == data


def test_a_part_of_another_shape_is_named_and_not_the_many_that_agree(run, model):
    prepare(run, model, paired(0, 1, 2, 3))
    part = latent_parts(run)[0]
    with safe_open(part, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file({**tensors, "latents": tensors["latents"][:, :, :8].contiguous()}, part)
    told = rf"{part.name} is corrupted \(latents: float32 \[4, 8, 16\], elsewhere float32 \[4, 16, 16\]\)"
    with pytest.raises(DataError, match=told):
        prepare(run, model, paired(0, 1, 2, 3))


def test_a_part_cut_off_while_it_is_in_use_is_named(run, model):
    prepared = prepare(run, model, paired(0, 1, 2, 3))
    for part in latent_parts(run):
        os.truncate(part, 40)
    with pytest.raises(DataError, match=r"part-.*safetensors is corrupted .* run `ddpo train` again"):
        prepared.latents([0])


def test_images_of_several_sizes_need_a_resolution_whichever_parts_they_are_in(tmp_path, model):
    run = made(tmp_path / "run", sizes=((32, 32), (24, 40)), at_once=1)
    told = r"several sizes \(24x40, 32x32\); set train.resolution, as in train.resolution=24"
    with pytest.raises(UserError, match=told):
        prepare(run, model, paired(0, 1, 2, 3))
    even = {"image_a": [image_id(0)], "image_b": [image_id(2)], "prompt_id": [records.prompt_id(TEXTS[0])]}
    odd = {**even, "image_a": [image_id(1)], "image_b": [image_id(3)]}
    assert prepare(run, model, pa.table(even)).shape == (4, 16, 16)
    assert prepare(run, model, pa.table(odd)).shape == (4, 20, 12)  # parts of other pairs are not its concern
    with pytest.raises(UserError, match=told):
        prepare(run, model, paired(0, 1))
    cut = made(tmp_path / "run", "train.resolution=24", sizes=((32, 32), (24, 40)))
    prepared = prepare(cut, model, paired(0, 1))
    assert prepared.shape == (4, 12, 12)
    told = prepared.conditions([0, 0, 0], prepared.images([image_id(1), image_id(0), image_id(3)]))["sizes"]
    # 32 by 32 is resized, of 24 wide and 40 high eight rows are cut off on either side
    assert told.tolist() == [[40, 24, 8, 0, 24, 24], [32, 32, 0, 0, 24, 24], [40, 24, 8, 0, 24, 24]]


def test_images_and_prompts_that_are_not_in_the_run_are_counted_and_named(run, model):
    stranger = {"prompt_id": [records.prompt_id(TEXTS[0])], "image_a": ["1"], "image_b": [image_id(0)]}
    with pytest.raises(DataError, match=r"1 images of the pairs are not in the run \(first: 1\); run `ddpo generate`"):
        prepare(run, model, pa.table(stranger))
    unknown = {"prompt_id": ["9"], "image_a": [image_id(1)], "image_b": [image_id(0)]}
    with pytest.raises(DataError, match=r"1 prompts of the pairs are not in the run \(first: 9\); run `ddpo generate`"):
        prepare(run, model, pa.table(unknown))


def test_an_image_that_is_no_picture_is_named(run, model):
    broken = image_row(8, (4, 4)) | {"image": {"bytes": b"no picture", "path": "a.webp"}}
    run.commit("images", [broken], "000002", "base")
    pairs = {"prompt_id": [records.prompt_id(TEXTS[0])], "image_a": [image_id(8)], "image_b": [image_id(0)]}
    with pytest.raises(DataError, match=f"image {image_id(8)} cannot be read .* run `ddpo label` again"):
        prepare(run, model, pa.table(pairs))
