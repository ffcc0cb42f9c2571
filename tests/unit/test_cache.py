"""Latents and embeddings on disk are what the model makes of each picture and prompt, found by id in little memory."""

import gc
import hashlib
import resource
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aifeedback_dpo import models, records
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.dpo.cache import frame
from aifeedback_dpo.errors import DataError
from aifeedback_dpo.records import packed_ids
from aifeedback_dpo.settings import Model
from aifeedback_dpo.store import Run
from tests import tiny
from tests.cached import TEXTS, files, image_id, made, paired, prepare


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(Model(id=str(tiny.write("sd", tmp_path_factory.mktemp("tiny") / "sd"))))


@pytest.fixture
def run(tmp_path):
    return made(tmp_path / "run")


def encoded(run: Run, model, numbers, *, resolution=None, mirrored=False) -> torch.Tensor:
    """One by one, by the model itself."""
    data = dict(run.images([image_id(number) for number in numbers]))
    latents = []
    for number in numbers:
        picture, _ = frame(decode_image(data[image_id(number)]), resolution)
        if mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 127.5 - 1
        with model.placed("vae"):
            latents.append(model.encode_images(pixels[None]).cpu())
    return torch.cat(latents)


def test_latents_are_the_autoencoders_of_the_frame_bit_for_bit(tmp_path, model):
    run = made(tmp_path / "run", "train.resolution=24", sizes=((32, 40),), at_once=1)
    prepared = prepare(run, model, paired(0, 1, 2, 3))
    numbers = [5, 0, 3, 5]
    rows = prepared.images([image_id(number) for number in numbers])
    latents = prepared.latents(rows)
    assert latents.dtype == torch.float32
    assert prepared.shape == tuple(latents.shape[1:]) == (4, 12, 12)
    assert torch.equal(latents, encoded(run, model, numbers, resolution=24))
    told = prepared.conditions([0, 0, 0, 0], rows)["sizes"]
    # 32 wide and 40 high, resized to 24 and 30: three rows are cut off on either side
    assert told.tolist() == [[40, 32, 3, 0, 24, 24]] * 4
    assert told.dtype == torch.int64


def test_pictures_that_are_encoded_together_are_not_mixed_up(run, model):
    prepared = prepare(run, model, paired(0, 1, 2, 3))
    latents = prepared.latents(prepared.images([image_id(number) for number in range(8)]))
    # two at a time; a batch may add up in another order than one alone
    torch.testing.assert_close(latents, encoded(run, model, range(8)), atol=1e-5, rtol=1e-5)


def test_a_flipped_row_is_the_encoding_of_the_mirrored_picture_and_not_the_mirrored_latent(tmp_path, model):
    run = made(tmp_path / "run", "train.flip=true", at_once=1)
    prepared = prepare(run, model, paired(0, 1, 2, 3))
    flipped = np.array([True, False, True])
    latents = prepared.latents(prepared.images([image_id(number) for number in (1, 4, 6)]), flipped)
    mirrored, straight = encoded(run, model, (1, 6), mirrored=True), encoded(run, model, (1, 4, 6))
    assert torch.equal(latents, torch.stack([mirrored[0], straight[1], mirrored[1]]))
    assert not torch.allclose(latents[0], straight[0].flip(-1), atol=1e-3)


def test_prompt_rows_are_the_encoders_and_row_0_is_no_caption(run, model):
    prepared = prepare(run, model, paired(0, 1, 2, 3))
    rows = prepared.prompts([records.prompt_id(TEXTS[i]) for i in (3, 0)])
    assert (rows > 0).all()
    told = prepared.conditions([0, *rows], [0, 0, 0])["prompt_embeds"]
    with model.placed("text_encoder"):
        expected = [model.encode_negative(), *(model.encode_prompts([TEXTS[i]]) for i in (3, 0))]
    expected = [some["prompt_embeds"].cpu() for some in expected]
    # the encoder read several at a time, as above
    torch.testing.assert_close(told, torch.cat(expected), atol=1e-6, rtol=1e-5)
    assert torch.equal(told[:1], expected[0])


def test_no_caption_is_zeros_in_sdxl_and_bfloat16_survives_exactly(tmp_path):
    folder = tiny.write("sdxl", tmp_path / "sdxl")
    half, run = models.load(Model(id=str(folder), dtype="bfloat16")), made(tmp_path / "run", at_once=1)
    prepared = prepare(run, half, paired(0, 2))
    row = prepared.prompts([records.prompt_id(TEXTS[2])])[0]
    told = prepared.conditions([0, row], [0, 0])
    with half.placed(*half.family.TEXT):
        expected = {name: value.cpu() for name, value in half.encode_prompts([TEXTS[2]]).items()}
    assert set(told) == {"prompt_embeds", "pooled_prompt_embeds", "sizes"}
    for name, value in expected.items():
        assert told[name].dtype == torch.bfloat16
        assert torch.equal(told[name][1:], value)
        assert not told[name][0].any()
    assert prepared.latents([0]).dtype == torch.float32


def test_the_order_of_the_pairs_doubles_and_the_type_of_their_column_do_not_matter(tmp_path, model):
    straight, other = made(tmp_path / "a"), made(tmp_path / "b")
    one = prepare(straight, model, paired(0, 1, 2, 3))
    shuffled = paired(3, 1, 2, 0, 1).set_column(1, "image_a", paired(3, 1, 2, 0, 1)["image_a"].dictionary_encode())
    two = prepare(other, model, shuffled)
    assert files(straight) == files(other)
    ids = pa.array([image_id(6), image_id(0), image_id(6)])
    assert one.images(ids).tolist() == two.images(pa.chunked_array([ids[:1], ids[1:]])).tolist()
    latents = one.latents(one.images(ids))
    assert torch.equal(latents[0], latents[2])
    assert not torch.equal(latents[0], latents[1])


def test_an_id_of_no_pair_says_so(run, model):
    prepared = prepare(run, model, paired(0, 1))
    with pytest.raises(DataError, match=f"image {image_id(4)} is in none of the pairs"):
        prepared.images([image_id(0), image_id(4)])
    with pytest.raises(DataError, match="prompt nobody is in none of the pairs"):
        prepared.prompts(["nobody"])
    assert prepared.images([]).tolist() == []
    assert prepared.latents([]).shape == (0, 4, 16, 16)


@pytest.mark.slow
def test_200_000_images_weigh_less_than_15_megabytes_in_memory_and_need_few_open_files(tmp_path, model):
    run = made(tmp_path / "run", "train.flip=true")
    prepare(run, model, paired(0))
    images = [hashlib.sha256(b"%d" % i).hexdigest()[:32] for i in range(200_000)]
    for folder in sorted(run.cache.iterdir()):
        fill(folder, ["", *images[:25_000]] if folder.name.startswith("prompts") else images)
    pairs = pa.table({"prompt_id": images[:25_000] * 4, "image_a": images[::2], "image_b": images[1::2]})
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    tracemalloc.start()
    try:
        prepared = prepare(run, model, pairs)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        asked = np.random.default_rng(0).integers(0, 200_000, 600)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 150, allowed[1]))
        latents = prepared.latents(prepared.images([images[i] for i in asked]))
    finally:
        tracemalloc.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert latents.flatten().tolist() == asked.tolist()
    assert held < 15e6


def fill(folder: Path, ids: list[str]) -> None:
    """Rows of one number, its place, instead of what the encoders made; 782 parts for 200,000."""
    shutil.rmtree(folder)
    folder.mkdir()
    for start in range(0, len(ids), 256):
        here = ids[start : start + 256]
        places = torch.arange(start, start + len(here)).view(-1, 1, 1, 1)
        rows = {"latents": places.float(), "sizes": torch.tensor([[8, 8, 0, 0, 8, 8]]).repeat(len(here), 1)}
        if folder.name.startswith("prompts"):
            rows = {"prompt_embeds": places.float()}
        letters = torch.from_numpy(packed_ids(here).view(np.uint8).reshape(len(here), -1).copy())
        save_file({"ids": letters, **rows}, folder / f"part-{start:06d}.safetensors")
