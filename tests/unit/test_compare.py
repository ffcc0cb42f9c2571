"""Agreement, win rates and intervals, against counts made by hand."""

import numpy as np
import pytest

from aifeedback_dpo.compare.agreement import agreement, cohen_kappa
from aifeedback_dpo.compare.bootstrap import Estimate, cluster_sums, crossed, estimate, ratio
from aifeedback_dpo.compare.winrate import duel

BOOT = {"resamples": 500, "confidence": 0.95, "seed": 1}


def test_accuracy_leaves_ties_out_and_says_how_many_are_left():
    first = np.array([1.0, 1.0, 0.0, 0.5, 1.0])
    second = np.array([0.9, 0.2, 0.1, 0.8, 0.5])
    found = agreement(first, second, second - 0.5, ["p", "q", "r", "s", "t"], **BOOT)
    # decided by both: the first three, of which the first and third agree
    assert (found.pairs, found.decided) == (5, 3)
    assert found.accuracy.value == pytest.approx(2 / 3)
    # half credit for the two one-sided ties: (1 + 0 + 1 + 0.5 + 0.5) / 5
    assert found.accuracy_with_ties.value == pytest.approx(0.6)


def test_swapping_a_and_b_everywhere_changes_nothing():
    rng = np.random.default_rng(0)
    first, second = rng.choice([0.0, 0.5, 1.0], size=(2, 60))
    prompts = [f"p{n // 3}" for n in range(60)]
    one = agreement(first, second, second - 0.5, prompts, **BOOT).to_dict()
    other = agreement(1 - first, 1 - second, 0.5 - second, prompts, **BOOT).to_dict()
    assert one == other


def test_kappa_by_hand():
    # 20 both a, 5 a/b, 10 b/a, 15 both b: observed 0.7, chance (25*30 + 25*20) / 2500 = 0.5, kappa 0.4
    cells = np.zeros((1, 9))
    cells[0, [8, 6, 2, 0]] = [20, 5, 10, 15]
    assert cohen_kappa(cells)[0] == pytest.approx(0.4)


def test_the_interval_resamples_prompts_and_not_pairs():
    # Ten prompts of fifty identical pairs each carry the information of ten, not of five hundred.
    rows = np.repeat(np.array([[1.0, 1.0]] * 6 + [[0.0, 1.0]] * 4), 50, axis=0)
    clustered = estimate(cluster_sums(rows, [f"p{n // 50}" for n in range(500)]), ratio, **BOOT)
    alone = estimate(cluster_sums(rows, [f"p{n}" for n in range(500)]), ratio, **BOOT)
    assert clustered.value == alone.value == pytest.approx(0.6)
    assert clustered.high - clustered.low > 4 * (alone.high - alone.low)
    # a binomial of ten at 0.6 has 2.5 and 97.5 % quantiles of 0.3 and 0.9
    assert (clustered.low, clustered.high) == pytest.approx((0.3, 0.9))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        rows = np.stack([rng.uniform(size=100) < 0.6, np.ones(100)], axis=1).astype(float)
        found = estimate(rows, ratio, resamples=400, confidence=0.95, seed=trial)
        covered += found.low <= 0.6 <= found.high
    assert 180 <= covered <= 199


def test_one_training_seed_resamples_prompts_alone():
    values = np.random.default_rng(0).uniform(size=(1, 40))
    prompts = [f"p{n}" for n in range(40)]
    rows = np.stack([values[0], np.ones(40)], axis=1)
    alone, both = estimate(rows, ratio, **BOOT), crossed(values, prompts, **BOOT)
    assert (both.value, both.high - both.low) == pytest.approx((alone.value, alone.high - alone.low), rel=0.15)


def test_training_seeds_that_disagree_widen_the_interval_to_hold_them():
    # three policies that differ on all prompts alike, 0.6, 0.6 and 0.2: all three draws are the last in 1 of 27 resamples
    values = np.repeat(np.array([[0.6], [0.6], [0.2]]), 500, axis=1)
    found = crossed(values, [f"p{n}" for n in range(500)], **BOOT | {"resamples": 4000})
    assert (found.value, found.low, found.high) == pytest.approx((1.4 / 3, 0.2, 0.6))


def test_a_cover_test_of_prompts_and_seeds_that_both_vary():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        values = 0.5 + 0.1 * rng.normal(size=(8, 1)) + 0.3 * rng.normal(size=(1, 60)) + 0.1 * rng.normal(size=(8, 60))
        found = crossed(values, [f"p{n}" for n in range(60)], resamples=400, confidence=0.95, seed=trial)
        covered += found.low <= 0.5 <= found.high
    assert 178 <= covered <= 199


def test_a_duel_counts_wins_ties_and_losses():
    ours, theirs = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.0, 2.0, 5.0, 1.0]])
    found = duel(ours, theirs, list("abcd"), **BOOT)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.win_rate.value == pytest.approx(0.625)  # (1 + 0.5 + 0 + 1) / 4
    assert found.difference.value == pytest.approx(0.5)  # (1 + 0 - 2 + 3) / 4


def test_a_few_wins_out_of_a_few_are_not_certain():
    # Wilson at 95 % for 4 of 4: z = 1.96, low = 1 / (1 + z^2 / 4) = 0.510; for 3 of 3: 1 / (1 + z^2 / 3) = 0.438
    assert duel(np.ones((1, 4)), np.zeros((1, 4)), list("abcd"), **BOOT).win_rate.low == pytest.approx(0.510, abs=1e-3)
    assert duel(np.ones((1, 3)), np.zeros((1, 3)), list("abc"), **BOOT).win_rate.clear_of(0.5) == 0


def test_ties_do_not_hide_a_clear_difference():
    # 40 won, 20 lost, 452 tied: a binomial of 60 at one half leaves [20, 40] to chance with 1.4 %
    ours = np.array([[1.0] * 40 + [-1.0] * 20 + [0.0] * 452])
    found = duel(ours, np.zeros((1, 512)), [str(n) for n in range(512)], **BOOT)
    assert found.win_rate.clear_of(0.5) == found.difference.clear_of(0.0) == 1


def test_swapping_the_sides_of_a_duel_mirrors_it():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(3, 40)), rng.normal(size=(1, 40))
    prompts = [str(n) for n in range(40)]
    one, other = duel(ours, theirs, prompts, **BOOT), duel(theirs, ours, prompts, **BOOT)
    assert one.win_rate.value == pytest.approx(1 - other.win_rate.value)
    assert (one.win_rate.low, one.win_rate.high) == pytest.approx((1 - other.win_rate.high, 1 - other.win_rate.low))


def test_training_seeds_of_one_prompt_are_drawn_together():
    # Three seeds that all say the same are worth one: the interval does not shrink.
    outcome = np.array([[1.0] * 6 + [-1.0] * 4])
    once = duel(outcome, np.zeros((1, 10)), list("abcdefghij"), **BOOT)
    thrice = duel(np.repeat(outcome, 3, axis=0), np.zeros((1, 10)), list("abcdefghij"), **BOOT)
    assert once.win_rate == thrice.win_rate
    assert thrice.seed_win_rates == pytest.approx([0.6, 0.6, 0.6])


def test_clear_of_needs_the_whole_interval():
    assert Estimate(0.6, 0.55, 0.65, 9).clear_of(0.5) == 1
    assert Estimate(0.6, 0.45, 0.75, 9).clear_of(0.5) == 0
    assert Estimate(0.4, 0.35, 0.45, 9).clear_of(0.5) == -1
