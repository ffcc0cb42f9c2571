"""Pixels against torchvision, transformers and PIL, on sizes where rounding matters."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as vision
from transformers import CLIPImageProcessorPil

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers.pixels import CLIP_MEAN, CLIP_STD, Pictures, PixelRecipe, rgb, target_size
from tests.parity.references import letterboxed, pictures

BICUBIC = vision.InterpolationMode.BICUBIC
SIZES = [
    (31, 31),
    (32, 32),
    (33, 32),
    (35, 32),
    (37, 32),
    (32, 39),
    (301, 200),
    (17, 99),
    (640, 479),
    (1, 9),
    (9, 1),
    (1, 1),
]


def noise(width: int, height: int) -> Image.Image:
    draw = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(draw.integers(0, 256, size=(height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_the_shortest_side_is_resized_and_the_centre_cropped_as_torchvision_does(size):
    image = noise(*size)
    theirs = vision.center_crop(vision.resize(image, 32, BICUBIC), 32)
    expected = vision.normalize(vision.to_tensor(theirs), CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(Pictures.of([image]).tensor(PixelRecipe(32))[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_cropped_down_it_is_what_transformers_makes_of_it(size):
    image = noise(*size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = theirs(images=image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(
        Pictures.of([image]).tensor(PixelRecipe(32, crop="down"))[0], expected, atol=1e-5, rtol=0
    )


def test_the_two_roundings_of_a_crop_differ_where_an_odd_number_of_rows_goes():
    image = noise(32, 35)  # 3 rows too many: 1.5 is 2 when rounded to even, 1 when rounded down
    even, down = (Pictures.of([image]).tensor(PixelRecipe(32, crop=crop)) for crop in ("even", "down"))
    assert torch.equal(even[:, :, :-1], down[:, :, 1:])
    assert not torch.equal(even, down)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_the_longest_side_is_resized_as_floats_and_bars_are_put_around_as_hpsv2_does(size, antialias):
    recipe = PixelRecipe(32, resize="longest", how="tensor", antialias=antialias)
    expected = letterboxed(noise(*size), 32, antialias=antialias)
    torch.testing.assert_close(Pictures.of([noise(*size)]).tensor(recipe)[0], expected, atol=1e-5, rtol=0)


def test_antialias_is_no_detail():
    """A checkerboard of single pixels is grey from afar; without antialias it is black or white still."""
    board = Image.fromarray(np.indices((256, 256)).sum(axis=0).astype(np.uint8)[:, :, None].repeat(3, axis=2) % 2 * 255)
    plain = {"resize": "longest", "how": "tensor", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    smooth, rough = (Pictures.of([board]).tensor(PixelRecipe(30, antialias=on, **plain)) for on in (True, False))
    assert (smooth - 0.5).abs().max() < 0.1
    assert (rough - 0.5).abs().max() > 0.3


def test_bars_are_black_before_normalising():
    recipe = PixelRecipe(32, resize="longest", how="tensor")
    seen = Pictures.of([Image.new("RGB", (64, 16), "white")]).tensor(recipe)[0]
    assert seen[:, 0, 0].tolist() == pytest.approx([-mean / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)])
    assert seen[:, 16, 16].tolist() == pytest.approx(
        [(1 - mean) / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
    )


def test_a_square_ignores_the_aspect():
    image = noise(70, 20)
    expected = vision.normalize(vision.to_tensor(vision.resize(image, [32, 32], BICUBIC)), CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(Pictures.of([image]).tensor(PixelRecipe(32, resize="square"))[0], expected)


def test_sizes_are_cut_down_or_rounded_as_published():
    # 300 / 200 * 33 = 49.5: cut to 49 on the longer side; 200 / 300 * 33 = 22 and 199 / 300 * 33 = 21.89 -> 22
    assert target_size(300, 200, PixelRecipe(33)) == (49, 33)
    assert target_size(200, 300, PixelRecipe(33)) == (33, 49)
    longest = PixelRecipe(33, resize="longest", how="tensor")
    assert target_size(300, 199, longest) == (33, 22)
    assert target_size(9000, 1, longest) == (33, 1)


@pytest.mark.parametrize("at", range(6))
def test_any_mode_is_seen_as_pil_turns_it_into_rgb(at):
    image = pictures(6)[at]
    assert np.array_equal(np.asarray(Pictures.of([image])[0]), np.asarray(image.convert("RGB")))


def test_a_palette_with_a_table_of_transparencies_keeps_its_colours_and_warns_nobody():
    image = noise(8, 8).quantize(16)
    image.info["transparency"] = bytes([0, 128] * 8)
    assert np.array_equal(np.asarray(rgb(image)), np.asarray(noise(8, 8).quantize(16).convert("RGB")))


def test_arrays_are_pictures_and_other_arrays_are_not():
    array = np.asarray(noise(40, 30))
    assert torch.equal(
        Pictures.of([array]).tensor(PixelRecipe(32)), Pictures.of([noise(40, 30)]).tensor(PixelRecipe(32))
    )
    for strange in (array.astype(np.float32), array[:, :, 0], array.transpose(2, 0, 1)):
        with pytest.raises(UserError, match="uint8"):
            Pictures.of([strange])


def test_a_batch_is_resized_once_a_recipe_and_stays_the_same_batch():
    batch = Pictures.of(pictures(3))
    assert Pictures.of(batch) is batch
    first = batch.tensor(PixelRecipe(32))
    assert batch.tensor(PixelRecipe(32)) is first
    assert batch.tensor(PixelRecipe(16)) is not first
    assert torch.equal(batch.tensor(PixelRecipe(32))[1:2], Pictures.of(pictures(3)[1:2]).tensor(PixelRecipe(32)))
    assert Pictures.of([]).tensor(PixelRecipe(32)).shape == (0, 3, 32, 32)


def test_each_choice_of_a_recipe_is_in_its_stamp():
    recipes = [
        PixelRecipe(32),
        PixelRecipe(33),
        PixelRecipe(32, resize="square"),
        PixelRecipe(32, interpolation="bilinear"),
        PixelRecipe(32, how="tensor"),
        PixelRecipe(32, how="tensor", antialias=False),
        PixelRecipe(32, crop="down"),
        PixelRecipe(32, mean=(0.5, 0.5, 0.5)),
        PixelRecipe(32, std=(0.5, 0.5, 0.5)),
    ]
    assert len({recipe.stamp() for recipe in recipes}) == len(recipes)
    assert PixelRecipe(32).stamp() == PixelRecipe(32).stamp()
