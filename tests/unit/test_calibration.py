"""Whether a judge's probabilities mean what they say, on columns made by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifeedback_dpo.compare.calibration import EDGES, _bounds, calibration, logit_slope

BOOT = {"resamples": 200, "confidence": 0.95, "seed": 1}
SIDES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
COLUMNS = st.lists(st.tuples(st.floats(0, 1, width=32), SIDES, st.sampled_from("pqr"), st.integers(1, 4)), min_size=1)


def names(count):
    return [f"p{at}" for at in range(count)]


def test_a_judge_that_says_80_percent_and_is_right_in_80_has_no_error():
    # ten pairs at 0.85, eight and a half of them right (the half is people's tie)
    people = np.array([1.0] * 8 + [0.5] + [0.0])
    found = calibration(np.full(10, 0.85), people, names(10), **BOOT)
    assert found.ece.value == pytest.approx(0)
    (only,) = found.bins
    assert (only.low, only.high, only.pairs) == (0.8, 0.9, 10)
    assert (only.mean_p, only.share.value) == pytest.approx((0.85, 0.85))


def test_confident_and_wrong_is_off_by_all_its_confidence():
    found = calibration(np.array([0.95, 0.05]), np.array([0.0, 1.0]), names(2), **BOOT)
    assert found.ece.value == pytest.approx(0.95)
    assert [part.share.value for part in found.bins] == [0.0]


def test_the_error_is_a_mean_over_bins_by_what_is_in_them():
    # three pairs at 0.95, two right: off by 0.95 - 2/3; one at 0.65, right: off by 0.35; (3 * 0.28333 + 0.35) / 4 = 0.3
    judge, people = np.array([0.95, 0.95, 0.05, 0.65]), np.array([1.0, 0.0, 0.0, 1.0])
    found = calibration(judge, people, names(4), **BOOT)
    assert found.ece.value == pytest.approx(0.3)
    assert [(part.low, part.pairs) for part in found.bins] == [(0.6, 1), (0.9, 3)]


def test_errors_of_one_bin_cancel():
    # both at 0.75, one right, one wrong: the bin's share is one half, off by 0.25 and not by (0.25 + 0.75) / 2
    assert calibration(np.array([0.75, 0.75]), np.array([1.0, 0.0]), names(2), **BOOT).ece.value == pytest.approx(0.25)


def test_votes_weigh_by_hand():
    # three votes right and one wrong at 0.75 are as they should be, and so is its bin
    found = calibration(np.array([0.75, 0.75]), np.array([1.0, 0.0]), names(2), weights=np.array([3.0, 1.0]), **BOOT)
    assert found.ece.value == pytest.approx(0)
    assert (found.bins[0].share.value, found.bins[0].pairs) == (pytest.approx(0.75), 2)


def test_a_tie_of_people_is_one_half_and_one_of_the_judge_a_confidence_of_one_half():
    assert calibration(np.array([0.9]), np.array([0.5]), ["p"], **BOOT).ece.value == pytest.approx(0.4)
    for people in (0.0, 0.5, 1.0):
        assert calibration(np.array([0.5]), np.array([people]), ["p"], **BOOT).ece.value == 0


@settings(max_examples=40)
@given(COLUMNS)
def test_which_picture_is_a_does_not_matter(rows):
    judge, people, prompts, votes = (np.array(column) for column in zip(*rows, strict=True))
    judge = judge.round(3)  # as it is kept, in float32
    one, other = judge.astype(np.float32).astype(float), (1 - judge).astype(np.float32).astype(float)
    boot = BOOT | {"resamples": 20}
    found = calibration(one, people, prompts, weights=votes, **boot)
    back = calibration(other, 1 - people, prompts, weights=votes, **boot)
    assert found.ece.value == pytest.approx(back.ece.value, abs=1e-6)
    assert [(part.low, part.pairs) for part in found.bins] == [(part.low, part.pairs) for part in back.bins]
    shares = [part.share.value for part in found.bins]
    assert shares == pytest.approx([part.share.value for part in back.bins])


@settings(max_examples=40)
@given(COLUMNS)
def test_a_pair_with_three_votes_is_three_pairs_with_one(rows):
    judge, people, prompts, votes = (np.array(column) for column in zip(*rows, strict=True))
    boot = BOOT | {"resamples": 20}
    one = calibration(judge, people, prompts, weights=votes, **boot)
    many = calibration(*(np.repeat(column, votes) for column in (judge, people, prompts)), **boot)
    for ours, theirs in [(one.ece, many.ece), *zip(_shares(one), _shares(many), strict=True)]:
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), nan_ok=True)


def _shares(found):
    return [part.share for part in found.bins]


def test_each_edge_is_in_the_bin_above_it_and_certainty_in_the_last():
    found = calibration(np.array([*EDGES, *(1 - EDGES)]), np.ones(12), names(12), **BOOT)
    assert [part.pairs for part in found.bins] == [2, 2, 2, 2, 4]


def test_nothing_and_one_prompt_are_no_interval():
    nothing = calibration(np.empty(0), np.empty(0), [], **BOOT).to_dict()
    assert (nothing["ece"]["value"], nothing["ece"]["prompts"], nothing["bins"]) == (None, 0, [])
    one = calibration(np.array([0.9, 0.8]), np.array([1.0, 1.0]), ["p", "p"], **BOOT)
    assert one.ece.value == pytest.approx(0.15)
    assert math.isnan(one.ece.low)
    assert one.bins[0].share.low < 0.3  # Wilson of one prompt: 1 / (1 + 1.96^2) = 0.207


def slope(judge, people, prompts=None, **given):
    given = {"confidence": 0.95} | given
    return logit_slope(np.array(judge), np.array(people), prompts or names(len(judge)), **given)


def test_the_slope_on_logits_by_hand():
    # says 4 to 1, and is right 3 to 1: log 3 / log 4. A tie of people is half a vote for each.
    for people in ([1.0, 1, 1, 0], [1.0, 1, 0.5, 0.5]):
        assert slope([0.8] * 4, people).value == pytest.approx(math.log(3) / math.log(4))
    assert slope([0.8, 0.2, 0.8, 0.2], [1.0, 0, 1, 1]).value == pytest.approx(math.log(3) / math.log(4))
    assert slope([0.8, 0.8], [1.0, 0.0]).value == pytest.approx(0, abs=1e-9)
    assert slope([0.8] * 4, [0.0, 0, 0, 1]).value == pytest.approx(-math.log(3) / math.log(4))


def test_the_error_of_the_slope_by_hand():
    # x = log 4, s = sigmoid(slope x) = 3/4; sum of (x (s - y))^2 = x^2 3/4; bend = 4 x^2 3/16, so error = 2 / sqrt(3) / x,
    # by n / (n - 1) = 4/3 it is 4 / (3 x), and t(3) is 3.182
    found = slope([0.8] * 4, [1.0, 1, 1, 0])
    assert found.high - found.value == pytest.approx(3.1824 * 4 / (3 * math.log(4)), rel=1e-4)


def test_a_pair_counts_as_often_as_it_was_voted_on_and_one_without_a_view_not_at_all():
    one = slope([0.8, 0.3, np.nan, 0.9], [1.0, 1.0, 1.0, np.nan], list("ppqr"), weights=np.array([3.0, 1, 1, 1]))
    many = slope([0.8, 0.8, 0.8, 0.3], [1.0] * 4, list("pppp"))
    assert (one.value, one.prompts) == (pytest.approx(many.value), 1)
    assert math.isnan(one.low)


def test_a_slope_without_bound_is_none_and_certainty_is_as_near_as_float32_tells():
    for judge, people in (([0.8, 0.7], [1.0, 1.0]), ([0.5, 0.5], [1.0, 0.0]), ([], [])):
        assert math.isnan(slope(judge, people).value)
    assert 0 < slope([1.0, 1.0, 0.6], [1.0, 0.0, 1.0]).value < 1


def test_the_interval_of_the_slope_of_a_calibrated_judge_holds_one():
    # 200 comparisons at 95 %: fewer than 180, or all, in 0.2 % of cases
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        judge = rng.beta(2, 2, size=120)
        found = slope(judge, (rng.uniform(size=120) < judge).astype(float), [str(at // 3) for at in range(120)])
        covered += found.low <= 1 <= found.high
    assert 180 <= covered <= 199


def coverage(truth, comparisons, slope):
    """How often the interval of the error holds the truth, and how often it begins at 0."""
    rng, covered, zero = np.random.default_rng(0), 0, 0
    for _ in range(comparisons):
        judge, people = drawn(300, slope, rng)
        error = calibration(judge, people, [str(at // 3) for at in range(300)], **BOOT).ece
        covered += error.low <= truth <= error.high
        zero += error.low == 0
    return covered, zero


def drawn(count, slope, rng):
    """A judge, and people whose choices follow its logits by this slope."""
    logit = 1.5 * rng.normal(size=count)
    return 1 / (1 + np.exp(-logit)), (rng.uniform(size=count) < 1 / (1 + np.exp(-slope * logit))).astype(float)


def test_the_error_of_a_calibrated_judge_is_that_of_chance_and_its_interval_holds_zero():
    # 100 comparisons at 95 %: fewer than 89 in 0.5 % of cases
    assert coverage(0, 100, slope=1)[0] >= 89
    rng = np.random.default_rng(0)
    found = [calibration(*drawn(300, 1, rng), np.arange(300), **BOOT | {"resamples": 2}) for _ in range(100)]
    assert np.mean([each.by_chance for each in found]) == pytest.approx(
        np.mean([each.ece.value for each in found]), rel=0.1
    )


def test_the_error_of_a_judge_that_is_too_sure_is_held_as_often_as_it_says():
    truth = calibration(*drawn(400_000, 0.4, np.random.default_rng(1)), np.zeros(400_000, np.int64), **BOOT).ece.value
    covered, zero = coverage(truth, 100, slope=0.4)
    assert covered >= 89
    assert zero < 10  # and it is clear of 0


def test_the_lower_bound_is_set_down_by_twice_of_what_resampling_adds():
    # off by 2 of 10; resamples that are off by 3 add 0.1, and by chance alone they would be off by 0.1
    assert _bounds(np.array([2.0, 10.0]), 0.2, np.array([[3.0, 10.0]]), 0.025) == pytest.approx((0.1, 0.3))
    # by 5 they add 0.3: by chance alone they would be off by 0.3, so 0.2 is nothing
    assert _bounds(np.array([2.0, 10.0]), 0.2, np.array([[5.0, 10.0]]), 0.025) == pytest.approx((0.0, 0.5))


def test_what_chance_would_make_by_hand():
    # four prompts of a pair at 0.75, two right: off by 0.75 - 1 twice and by 0.75 - 0 twice; about their mean by 0.5 each,
    # so their sum has a standard deviation of sqrt(4 * 0.25) = 1, and |x| / 4 a mean of sqrt(2 / pi) / 4
    found = calibration(np.full(4, 0.75), np.array([1.0, 1.0, 0.0, 0.0]), names(4), **BOOT)
    assert found.by_chance == pytest.approx(math.sqrt(2 / math.pi) / 4)
    assert calibration(np.empty(0), np.empty(0), [], **BOOT).to_dict()["ece_by_chance"] is None
