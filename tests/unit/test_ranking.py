"""Bradley-Terry by hand, against a direct fit, and where there is none."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from aifeedback_dpo.compare.bootstrap import resampled
from aifeedback_dpo.compare.intervals import expanded
from aifeedback_dpo.compare.ranking import bradley_terry

BOOT = {"resamples": 60, "confidence": 0.95, "seed": 1}


def games(*told):
    """Columns of `(first, second, p_a, how often)`, a prompt each."""
    rows = [(first, second, p_a) for first, second, p_a, times in told for _ in range(times)]
    first, second, p_a = zip(*rows, strict=True)
    return list(first), list(second), np.array(p_a, dtype=float), [f"p{at}" for at in range(len(rows))]


def values(found):
    return {item: score.value for item, score in found.scores.items()}


def test_two_models_are_apart_by_the_log_odds_of_the_win_rate():
    # 30 won, 10 lost: log 3, and their mean is 0
    found = bradley_terry(*games(("x", "y", 1.0, 30), ("y", "x", 1.0, 10)), **BOOT | {"resamples": 300})
    assert list(found.scores) == ["x", "y"]
    assert values(found) == pytest.approx({"x": math.log(3) / 2, "y": -math.log(3) / 2})
    assert (found.why_not, found.no_interval) == (None, None)
    # of a binomial of 40 at 3/4 the 2.5 and 97.5 % quantiles are 24 and 35: half of log(24/16) and of log(35/5)
    assert (found.scores["x"].low, found.scores["x"].high) == pytest.approx((0.203, 0.973), abs=0.09)
    assert found.scores["x"].prompts == 40


def test_few_prompts_are_cut_where_students_t_would():
    # of two models the score is half the log odds of the mean, and the bounds are those of the mean
    p_a = np.linspace(0.2, 0.9, 8)
    found = bradley_terry(["x"] * 8, ["y"] * 8, p_a, np.arange(8), **BOOT).scores["x"]
    means = np.concatenate(list(resampled(8, BOOT["resamples"], BOOT["seed"]))) @ p_a / 8
    cut = expanded(0.025, 8)
    bounds = [math.log(p / (1 - p)) / 2 for p in np.quantile(means, [cut, 1 - cut])]
    assert [found.low, found.high] == pytest.approx(bounds, abs=2e-3)  # which interpolate between two of 200


def test_a_tie_is_half_a_win_for_each_and_a_probability_its_share():
    # 2 won, 2 tied: 3 to 1
    tied = bradley_terry(*games(("x", "y", 1.0, 2), ("x", "y", 0.5, 2)), **BOOT)
    assert values(tied)["x"] == pytest.approx(math.log(3) / 2)
    told = bradley_terry(*games(("x", "y", 0.8, 4)), **BOOT)
    assert values(told)["x"] == pytest.approx(math.log(4) / 2)
    assert (told.scores["x"].low, told.scores["x"].high) == pytest.approx((math.log(4) / 2,) * 2)  # all said the same


def test_three_models_against_a_direct_fit():
    told = [("x", "y", 1.0, 12), ("y", "x", 1.0, 7), ("y", "z", 1.0, 9), ("z", "y", 1.0, 5), ("z", "x", 0.7, 8)]
    found = values(bradley_terry(*games(*told), **BOOT))

    def loss(scores):
        at = dict(zip("xyz", scores, strict=True))
        odds = [(times, p_a, at[first] - at[second]) for first, second, p_a, times in told]
        return sum(times * (p_a * np.logaddexp(0, -gap) + (1 - p_a) * np.logaddexp(0, gap)) for times, p_a, gap in odds)

    direct = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert found == pytest.approx(dict(zip("xyz", direct - direct.mean(), strict=True)), abs=1e-5)


def test_swapping_the_sides_changes_nothing_nor_do_pairs_of_one_model_or_without_a_view():
    rng = np.random.default_rng(0)
    first, second = rng.choice(list("xyz"), size=(2, 90))
    p_a, prompts = rng.choice([0.0, 0.5, 1.0], size=90), [str(at // 3) for at in range(90)]
    p_a[:5] = np.nan
    one = bradley_terry(first, second, p_a, prompts, **BOOT)
    assert bradley_terry(second, first, 1 - p_a, prompts, **BOOT) == approximately(one)
    kept = (first != second) & ~np.isnan(p_a)
    less = bradley_terry(first[kept], second[kept], p_a[kept], np.array(prompts)[kept], **BOOT)
    assert less == one


def approximately(found):
    class Alike:
        def __eq__(self, other):
            return list(found.scores) == list(other.scores) and all(
                (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-6)
                for one, two in zip(found.scores.values(), other.scores.values(), strict=True)
            )

    return Alike()


def test_a_model_that_never_lost_or_never_won_gives_no_ranking():
    found = bradley_terry(*games(("x", "y", 1.0, 9), ("y", "z", 1.0, 2), ("z", "y", 1.0, 2)), **BOOT)
    assert found.scores == {}
    assert found.why_not == "x never lost: scores would have no bound"
    both = bradley_terry(*games(("x", "y", 1.0, 9)), **BOOT)
    assert both.why_not == "x never lost; y never won: scores would have no bound"


def test_two_groups_that_never_met_give_no_ranking():
    won = [("w", "x", 1.0, 2), ("x", "w", 1.0, 2), ("y", "z", 1.0, 2), ("z", "y", 1.0, 2)]
    found = bradley_terry(*games(*won), **BOOT)
    assert found.scores == {}
    assert "never met" in found.why_not


def test_a_ranking_of_nothing_says_what_is_missing():
    assert "all pictures are of one model (x)" in bradley_terry(["x"], ["x"], np.ones(1), ["p"], **BOOT).why_not
    assert "judged no pair" in bradley_terry(["x"], ["y"], np.full(1, np.nan), ["p"], **BOOT).why_not
    found = bradley_terry(["x", "y"], ["x", "x"], np.array([1.0, np.nan]), ["p", "q"], **BOOT)
    assert "no pair of two models" in found.why_not


def test_one_loss_among_many_wins_has_a_score_without_bounds():
    # a resample of 20 lacks the one prompt that was lost in (19/20)^20 = 36 % of cases: its score is then infinite
    found = bradley_terry(*games(("x", "y", 1.0, 19), ("y", "x", 1.0, 1)), **BOOT)
    assert values(found)["x"] == pytest.approx(math.log(19) / 2)
    assert math.isnan(found.scores["x"].low)
    assert "of 60 resamples of 20 prompts" in found.no_interval


def test_one_prompt_has_no_interval():
    found = bradley_terry(["x", "x"], ["y", "y"], np.array([1.0, 0.5]), ["p", "p"], **BOOT)
    assert values(found)["x"] == pytest.approx(math.log(3) / 2)
    assert math.isnan(found.scores["x"].high)
    assert found.no_interval == "all pairs are of one prompt"
