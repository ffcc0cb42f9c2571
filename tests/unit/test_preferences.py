"""Scores to preferences, and several judges to one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.preferences import consensus, consensus_rule, fit_slope, from_scores, rule

NUMBERS = st.floats(-50, 50)
RULES = ("unanimous", "majority", "mean")
VIEWS = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.75, 1.0]), min_size=1, max_size=5)


def p_a(a: float, b: float, slope: float | None, tie_band: float = 0.0, margin: float = 0.0) -> float:
    return float(from_scores(np.array([a]), np.array([b]), slope=slope, tie_band=tie_band, margin=margin)[0])


def together(*views: float, rule: str, tie_band: float = 0.0) -> float:
    return float(consensus([np.array([view]) for view in views], rule=rule, tie_band=tie_band)[0][0])


def test_a_slope_gives_the_softmax_of_two():
    # PickScore: softmax(21.5, 20.5) = 1 / (1 + e^-1)
    assert p_a(21.5, 20.5, slope=1.0) == pytest.approx(1 / (1 + math.exp(-1)))


def test_without_a_slope_only_the_order_counts():
    assert [p_a(5.1, 5.0, None), p_a(5.0, 5.1, None)] == [1.0, 0.0]


@given(NUMBERS, st.sampled_from([None, 1.0, 100.0]), st.floats(0, 0.4))
def test_equal_scores_are_a_tie_under_every_rule(score, slope, band):
    assert p_a(score, score, slope, band) == 0.5


@given(NUMBERS, NUMBERS, st.sampled_from([None, 0.3]), st.floats(0, 0.4), st.floats(0, 5))
def test_swapping_the_images_swaps_the_preference(a, b, slope, band, margin):
    assert p_a(a, b, slope, band, margin) == pytest.approx(1 - p_a(b, a, slope, band, margin))


def test_within_the_band_it_is_a_tie():
    # sigmoid(0.4) = 0.5987, sigmoid(0.41) = 0.6011
    assert p_a(0.4, 0.0, 1.0, tie_band=0.1) == 0.5
    assert p_a(0.41, 0.0, 1.0, tie_band=0.1) > 0.6


def test_without_a_slope_a_difference_up_to_the_margin_is_a_tie():
    assert [p_a(5.25, 5.0, None, margin=0.25), p_a(5.26, 5.0, None, margin=0.25)] == [0.5, 1.0]
    assert p_a(5.25, 5.0, 1.0, margin=0.25) > 0.5  # with a slope it is the band that counts


@pytest.mark.parametrize("slope", [None, 1.0])
def test_a_missing_score_is_a_missing_preference(slope):
    assert math.isnan(p_a(math.nan, 1.0, slope, margin=9.0))


def test_the_recorded_rule_says_where_the_slope_came_from():
    assert rule(slope=2.0, tie_band=0.1, source="as trained") == (
        "sigmoid(2 * (score_a - score_b)), as trained; a tie if |p_a - 1/2| <= 0.1"
    )
    assert rule(slope=None, tie_band=0.1) == "the higher score; equal is a tie"
    assert rule(slope=None, tie_band=0.1, margin=0.25) == "the higher score; a difference up to 0.25 is a tie"


def votes(*counts: tuple[float, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """(difference, p_a, how many) each."""
    columns = [(difference, choice) for difference, choice, many in counts for _ in range(many)]
    return np.array([row[0] for row in columns]), np.array([row[1] for row in columns])


def test_the_fitted_slope_is_the_one_that_people_imply():
    # At a difference of 2, 30 of 40 choose the higher: sigmoid(2 s) = 3/4, so s = ln(3) / 2. Information of one vote:
    # 2^2 * 3/4 * 1/4 = 3/4, so the standard error is 1 / sqrt(40 * 3/4) = 0.1826.
    difference, choice = votes((2.0, 1.0, 30), (2.0, 0.0, 10))
    fit = fit_slope(difference, choice, [str(at) for at in range(40)])
    assert fit.slope == pytest.approx(math.log(3) / 2, abs=1e-9)
    assert fit.error == pytest.approx(1 / math.sqrt(30), rel=1e-9)
    assert fit.votes == 40


def test_a_tie_counts_half_a_vote_each():
    # 25 for the higher and 10 ties are 30 of 40: sigmoid(2 s) = 3/4 again, now from both sides
    difference, choice = votes((2.0, 1.0, 15), (-2.0, 0.0, 10), (2.0, 0.5, 4), (-2.0, 0.5, 6), (2.0, 0.0, 5))
    assert fit_slope(difference, choice, [str(at) for at in range(40)]).slope == pytest.approx(
        math.log(3) / 2, abs=1e-9
    )


def test_pairs_of_one_prompt_that_say_the_same_count_once_in_the_error():
    difference, choice = votes((2.0, 1.0, 30), (2.0, 0.0, 10))
    once = fit_slope(difference, choice, [str(at) for at in range(40)])
    thrice = fit_slope(np.tile(difference, 3), np.tile(choice, 3), [str(at) for at in range(40)] * 3)
    assert thrice.slope == pytest.approx(once.slope)
    assert thrice.error == pytest.approx(once.error)


def test_prompts_that_all_say_the_same_leave_no_error():
    # in each of 10 prompts 3 choose the higher and 1 does not: what each adds to the gradient is 0
    difference, choice = votes((2.0, 1.0, 30), (2.0, 0.0, 10))
    fit = fit_slope(difference, choice, [*(str(at % 10) for at in range(30)), *map(str, range(10))])
    assert fit.slope == pytest.approx(math.log(3) / 2)
    assert fit.error == pytest.approx(0, abs=1e-6)


def test_what_is_missing_is_left_out_of_the_fit():
    difference, choice = votes((2.0, 1.0, 30), (2.0, 0.0, 10), (math.nan, 1.0, 5), (1.0, math.nan, 5))
    fit = fit_slope(difference, choice, [str(at) for at in range(50)])
    assert (fit.votes, fit.slope) == (40, pytest.approx(math.log(3) / 2))


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (((2.0, 1.0, 10), (2.0, 0.0, 30)), "does not agree with people"),
        (((2.0, 1.0, 21), (2.0, 0.0, 19)), "does not clearly agree"),  # s = 0.05, standard error 0.16
        (((2.0, 1.0, 21), (-1.0, 0.0, 19)), "never disagree"),
        (((0.0, 1.0, 9),), "no pair on which its scores differ"),
    ],
)
def test_a_slope_that_is_not_clearly_positive_is_no_slope(counts, words):
    difference, choice = votes(*counts)
    with pytest.raises(UserError, match=words):
        fit_slope(difference, choice, [str(at) for at in range(len(choice))])


def test_the_three_rules_by_hand():
    assert [together(0.9, 0.6, 0.55, rule=name) for name in ("unanimous", "majority")] == [1.0, 1.0]
    assert [together(0.9, 0.6, 0.4, rule=name) for name in ("unanimous", "majority")] == [0.5, 1.0]
    assert [together(0.9, 0.5, 0.5, rule=name) for name in ("unanimous", "majority")] == [0.5, 1.0]  # a tie is no side
    assert together(0.9, 0.2, rule="majority") == 0.5
    assert together(0.9, 0.6, 0.3, rule="mean") == pytest.approx(0.6)
    assert together(0.9, 0.6, 0.3, rule="mean", tie_band=0.11) == 0.5
    assert together(float(np.float32(0.9)), float(np.float32(0.1)), rule="mean") == 0.5  # their sum is 0.99999998


@pytest.mark.parametrize("rule", RULES)
@given(views=VIEWS)
def test_swapping_the_images_swaps_the_consensus(rule, views):
    assert together(*views, rule=rule) == pytest.approx(1 - together(*(1 - view for view in views), rule=rule))


@pytest.mark.parametrize("rule", RULES)
@given(views=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_the_order_of_the_judges_is_nothing(rule, views):
    assert len({together(*order, rule=rule) for order in itertools.permutations(views)}) == 1


@given(view=st.floats(0, 1))
def test_a_consensus_of_one_is_that_judge(view):
    hard = 0.5 if view == 0.5 else float(view > 0.5)
    assert [together(view, rule=name) for name in ("unanimous", "majority")] == [hard, hard]
    assert together(view, rule="mean") == pytest.approx(view, abs=2e-7)


@pytest.mark.parametrize("rule", RULES)
def test_all_ties_are_a_tie_and_what_one_lacks_all_lack(rule):
    assert together(0.5, 0.5, 0.5, rule=rule) == 0.5
    assert math.isnan(together(0.9, math.nan, 0.9, rule=rule))


def test_the_recorded_rule_of_a_consensus_names_rule_and_members():
    assert consensus_rule(["clip", "vlm"], rule="majority", tie_band=0) == (
        "majority of clip, vlm: more on one side than on the other, else a tie"
    )
