"""What pixels say, on pictures small enough to do by hand."""

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo.compare.bias import FEATURES, features


def picture(pixels):
    return Image.fromarray(np.array(pixels, dtype=np.uint8))


def flat(*colour):
    return picture([[colour] * 2] * 2)


CHECKERBOARD = picture([[[255] * 3 if (row + column) % 2 else [0] * 3 for column in range(4)] for row in range(4)])


def test_grey_is_half_bright_without_edges_or_colour():
    assert features(flat(51, 51, 51)) == pytest.approx({"brightness": 0.2, "sharpness": 0, "saturation": 0})


def test_red_has_its_share_of_luma_and_all_saturation():
    assert features(flat(255, 0, 0)) == pytest.approx({"brightness": 0.299, "sharpness": 0, "saturation": 1})
    # (204 - 51) / 204 = 0.75; luma 0.299 * 0.8 + 0.587 * 0.2 + 0.114 * 0.2 = 0.3794
    half = features(flat(204, 51, 51))
    assert (half["saturation"], half["brightness"]) == pytest.approx((0.75, 0.3794))


def test_a_checkerboard_is_as_sharp_as_can_be():
    assert features(CHECKERBOARD) == pytest.approx({"brightness": 0.5, "sharpness": 1, "saturation": 0})


def test_an_edge_counts_across_it_alone():
    # two columns, black and white: 1 from left to right, 0 from top to bottom
    assert features(picture([[[0] * 3, [255] * 3]] * 2))["sharpness"] == pytest.approx(0.5)


def test_one_pixel_has_no_edge_and_grey_pictures_no_colour():
    assert features(picture([[[255, 255, 255]]])) == pytest.approx({"brightness": 1, "sharpness": 0, "saturation": 0})
    assert features(Image.new("L", (2, 2), 51)) == pytest.approx(features(flat(51, 51, 51)))


def test_each_feature_is_told():
    assert list(features(CHECKERBOARD)) == list(FEATURES)
