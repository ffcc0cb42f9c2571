"""Scores to preferences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.preferences import from_scores

NUMBERS = st.floats(-50, 50)


def p_a(a: float, b: float, slope: float | None, tie_band: float = 0.0) -> float:
    return float(from_scores(np.array([a]), np.array([b]), slope=slope, tie_band=tie_band)[0])


def test_a_slope_gives_the_softmax_of_two():
    # PickScore: softmax(21.5, 20.5) = 1 / (1 + e^-1)
    assert p_a(21.5, 20.5, slope=1.0) == pytest.approx(1 / (1 + math.exp(-1)))


def test_without_a_slope_only_the_order_counts():
    assert [p_a(5.1, 5.0, None), p_a(5.0, 5.1, None)] == [1.0, 0.0]


@given(NUMBERS, st.sampled_from([None, 1.0, 100.0]), st.floats(0, 0.4))
def test_equal_scores_are_a_tie_under_every_rule(score, slope, band):
    assert p_a(score, score, slope, band) == 0.5


@given(NUMBERS, NUMBERS, st.sampled_from([None, 0.3]), st.floats(0, 0.4))
def test_swapping_the_images_swaps_the_preference(a, b, slope, band):
    assert p_a(a, b, slope, band) == pytest.approx(1 - p_a(b, a, slope, band))


def test_within_the_band_it_is_a_tie():
    # sigmoid(0.4) = 0.5987, sigmoid(0.41) = 0.6011
    assert p_a(0.4, 0.0, 1.0, tie_band=0.1) == 0.5
    assert p_a(0.41, 0.0, 1.0, tie_band=0.1) > 0.6


@pytest.mark.parametrize("slope", [None, 1.0])
def test_a_missing_score_is_a_missing_preference(slope):
    assert math.isnan(p_a(math.nan, 1.0, slope))
