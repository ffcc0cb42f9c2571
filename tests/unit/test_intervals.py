"""Intervals of many statistics by one resampling: by hand, all at once as one by one, and where there is none."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from aifeedback_dpo.compare import bootstrap, intervals
from aifeedback_dpo.compare.bootstrap import Estimate, by_prompt, resampled
from aifeedback_dpo.compare.intervals import Measure, estimates, expanded, mean, numbered, share

BOOT = {"resamples": 400, "confidence": 0.95, "seed": 1}


def ones(value, count=1):
    return np.full((count, 2), value, dtype=float)


def test_rows_are_summed_by_prompt():
    rows = np.array([[1.0, 1], [0, 1], [5, 2]])
    assert by_prompt(rows, numbered(["q", "p", "q"])).tolist() == [[0, 1], [6, 3]]
    assert by_prompt(rows[:0], numbered([])).shape == (0, 2)


def test_numbers_stay_as_they_are_so_that_prompts_without_rows_keep_their_place():
    given = np.array([3, 0, 3])
    assert numbered(given) is given
    assert by_prompt(np.ones((3, 1)), given).ravel().tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize("count", [1, 7, 300])
def test_each_resample_draws_as_many_prompts_as_there_are(count):
    drawn = np.concatenate(list(resampled(count, 50, 0)))
    assert drawn.shape == (50, count)
    assert set(drawn.sum(axis=1)) == {count}


def test_draws_are_of_equal_chance_and_the_same_for_a_seed():
    drawn = np.concatenate(list(resampled(20, 4000, 0)))
    # each of 20 is drawn 80,000 / 20 = 4,000 times, with a standard deviation of 62
    assert np.abs(drawn.sum(axis=0) - 4000).max() < 5 * 62
    assert (drawn == np.concatenate(list(resampled(20, 4000, 0)))).all()
    assert (drawn != np.concatenate(list(resampled(20, 4000, 1)))).any()


def test_draws_that_are_not_kept_are_the_same(monkeypatch):
    kept = np.concatenate(list(resampled(9, 30, 0)))
    monkeypatch.setattr(bootstrap, "KEPT", 0)
    assert (np.concatenate(list(resampled(9, 30, 0))) == kept).all()


def test_all_at_once_is_one_by_one_however_much_memory_there_is(monkeypatch):
    rng = np.random.default_rng(0)
    measures = [Measure(rng.integers(1, 9, (40, 2)).astype(float)) for _ in range(7)]
    alone = [estimates([measure], **BOOT)[0] for measure in measures]
    assert estimates(measures, **BOOT) == alone
    for cells in (1, 200, 10_000):
        monkeypatch.setattr(intervals, "CELLS", cells)
        bootstrap._kept.cache_clear()
        for found, one in zip(estimates(measures, **BOOT), alone, strict=True):
            assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))
    assert estimates([], **BOOT) == []


def test_measures_of_different_prompts_are_a_mistake():
    with pytest.raises(AssertionError, match="different prompts"):
        estimates([Measure(ones(1, 3)), Measure(ones(1, 4))], **BOOT)


def test_the_percentile_is_that_at_which_students_t_would_cut():
    # of 10: t(9) at 2.5 % is -2.262; times sqrt(10 / 9) it is -2.3846, and below that lie 0.855 % of a normal curve
    assert expanded(0.025, 10) == pytest.approx(0.00855, abs=1e-5)
    assert expanded(0.025, 10_000) == pytest.approx(0.025, abs=1e-4)
    assert expanded(0.025, 2) < 1e-9


def test_the_interval_of_a_mean_is_nearly_students():
    values = norm.ppf((np.arange(20) + 0.5) / 20)
    (found,) = estimates([mean(values, np.ones(20, bool))], **BOOT | {"resamples": 20_000})
    half = t.ppf(0.975, 19) * values.std(ddof=1) / 20**0.5
    assert (found.value, found.prompts) == (pytest.approx(0, abs=1e-9), 20)
    assert (found.low, found.high) == (pytest.approx(-half, rel=0.05), pytest.approx(half, rel=0.05))


def test_prompts_without_any_count_for_nothing():
    there = np.array([True, False, True, True])
    (found,) = estimates([mean(np.array([1.0, np.nan, 2.0, 3.0]), there)], **BOOT)
    assert (found.value, found.prompts) == (2.0, 3)
    assert 1 <= found.low < found.high <= 3


def test_nothing_is_undefined_and_one_prompt_has_no_interval_unless_it_is_a_share():
    (nothing,) = estimates([mean(np.zeros(3), np.zeros(3, bool))], **BOOT)
    assert nothing.to_dict() == {"value": None, "low": None, "high": None, "prompts": 0}
    (empty,) = estimates([Measure(np.empty((0, 2)))], **BOOT)
    assert empty.to_dict() == nothing.to_dict()
    (one,) = estimates([mean(np.array([2.0]), np.ones(1, bool))], **BOOT)
    assert (one.value, math.isnan(one.low), math.isnan(one.high)) == (2.0, True, True)


def test_a_share_of_few_is_as_wide_as_wilsons_of_what_its_misses_tell():
    def found(hits, count):
        sums = np.stack([hits, np.full(len(hits), count)], axis=1).astype(float)
        p = sums[:, 0].sum() / sums[:, 1].sum()
        return intervals.floor(Estimate(p, p, p, len(hits)), sums, 0.95)

    # twelve prompts of six hits each: Wilson for 12 of 12: 12 / (12 + 1.96^2) = 0.757
    assert found(np.full(12, 6), 6).low == pytest.approx(0.757, abs=1e-3)
    # four misses in four prompts of 20: as many observations as pairs, 100: p = 0.96, Wilson 0.9016 to 0.9843
    apart = found(np.array([4] * 4 + [5] * 16), 5)
    assert (apart.low, apart.high) == (pytest.approx(0.9016, abs=1e-3), pytest.approx(0.9843, abs=1e-3))
    # all four in two of them: half as many, 50: p = 0.96, Wilson 0.8654 to 0.9890
    together = found(np.array([3] * 2 + [5] * 18), 5)
    assert (together.low, together.high) == (pytest.approx(0.8654, abs=1e-3), pytest.approx(0.9890, abs=1e-3))
    # ten prompts with a miss and ten with a hit are enough
    # halves of misses are not more than pairs: 100, p = 0.98, Wilson 0.9300 to 0.9945
    halves = found(np.array([4.5] * 4 + [5] * 16), 5)
    assert (halves.low, halves.high) == (pytest.approx(0.9300, abs=1e-3), pytest.approx(0.9945, abs=1e-3))
    few = found(np.array([4] * 9 + [5] * 11), 5)
    assert few.low < few.value < few.high
    enough = found(np.array([4] * 10 + [0] * 10), 5)
    assert enough.low == enough.high == 0.4


def test_a_floor_mirrors_when_hits_and_misses_change_places():
    hits, counted, prompts = np.array([1.0] * 17 + [0.0] * 3), np.ones(20), np.arange(20)
    one, other = (estimates([share(each, counted, prompts)], **BOOT)[0] for each in (hits, 1 - hits))
    assert (one.value, one.low, one.high) == pytest.approx((1 - other.value, 1 - other.high, 1 - other.low))
    assert 0 <= one.low < one.value < one.high <= 1
