"""Intervals, duels, tests and the grid of labels by pictures, against counts made by hand and against known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifeedback_dpo.compare.bootstrap import Estimate, clear_of, cluster_sums, estimate, over_prompts, over_seeds, ratio
from aifeedback_dpo.compare.factors import effects, grid
from aifeedback_dpo.compare.winrate import duel, holm, sign_test

BOOT = {"resamples": 500, "confidence": 0.95, "seed": 1}
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_the_interval_resamples_prompts_and_not_pictures():
    # Ten prompts of fifty identical pictures each carry the information of ten, not of five hundred.
    values = np.repeat([1.0] * 6 + [0.0] * 4, 50)[None]
    clustered = over_prompts(values, [f"p{n // 50}" for n in range(500)], **BOOT)
    alone = over_prompts(values, [f"p{n}" for n in range(500)], **BOOT)
    assert clustered.value == alone.value == pytest.approx(0.6)
    assert clustered.high - clustered.low > 4 * (alone.high - alone.low)
    # a binomial of ten at 0.6 has 2.5 and 97.5 % quantiles of 0.3 and 0.9
    assert (clustered.low, clustered.high) == pytest.approx((0.3, 0.9))
    assert clustered.prompts == 10


def test_a_resampling_that_is_kept_and_one_that_is_not_are_the_same(monkeypatch):
    rows = np.stack([np.random.default_rng(0).uniform(size=30), np.ones(30)], axis=1)
    kept = estimate(rows, ratio, **BOOT)
    monkeypatch.setattr("aifeedback_dpo.compare.bootstrap.KEPT", 0)
    assert estimate(rows, ratio, **BOOT) == kept


def test_intervals_over_prompts_cover_a_known_win_rate_as_often_as_they_say():
    """400 comparisons of a policy that wins 60 % of prompts, ties 15 %, two pictures a prompt that hang together."""
    rng, covered = np.random.default_rng(5), 0
    prompts = [f"p{n // 2}" for n in range(240)]
    for _ in range(400):
        draw = np.clip(np.repeat(rng.uniform(-0.15, 0.15, 120), 2) + rng.uniform(size=240), 0, 1)
        margin = np.where(draw < 0.525, 1.0, np.where(draw < 0.675, 0.0, -1.0))  # P(win) 0.525, P(tie) 0.15
        found = duel(margin[None], np.zeros((1, 240)), prompts, resamples=300, confidence=0.95, seed=2)
        covered += found.here.win_rate.low <= 0.6 <= found.here.win_rate.high
    assert 0.93 * 400 <= covered <= 0.97 * 400


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_intervals_over_seeds_cover_what_training_would_give_again(spread):
    """400 comparisons of three training seeds that differ by `spread`, on prompts that differ and hang together."""
    rng, covered = np.random.default_rng(7), 0
    prompts = [f"p{n}" for n in range(100)]
    for _ in range(400):
        values = spread * rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(1, 100)) + 0.3 * rng.normal(size=(3, 100))
        found = over_seeds(values, prompts, confidence=0.95)
        covered += found.low <= 0 <= found.high
    assert 0.93 * 400 <= covered <= 0.97 * 400


def test_an_interval_over_prompts_alone_would_miss_what_training_seeds_do():
    values = np.repeat(np.array([[0.6], [0.6], [0.2]]), 500, axis=1) + np.tile([0.01, -0.01], 250)
    prompts = [f"p{n}" for n in range(500)]
    here, further = over_prompts(values, prompts, **BOOT), over_seeds(values, prompts, confidence=0.95)
    assert here.value == pytest.approx(1.4 / 3)
    assert further.value == pytest.approx(1.4 / 3)
    assert here.high - here.low < 0.01
    # seeds 0.6, 0.6, 0.2: sd 0.2309 / sqrt(3) = 0.1333, t of 2 degrees of freedom 4.303: 0.574 either side
    assert further.high - further.value == pytest.approx(0.574, abs=0.002)


def test_seeds_that_do_not_differ_leave_the_interval_over_prompts():
    row = np.random.default_rng(1).normal(size=(1, 50))
    found = over_seeds(np.repeat(row, 3, axis=0), [str(n) for n in range(50)], confidence=0.95)
    # t of 49 degrees of freedom is 2.0096
    assert found.high - found.value == pytest.approx(2.0096 * row.std(ddof=1) / 50**0.5, rel=1e-4)


def test_pictures_of_a_prompt_count_as_their_mean_over_seeds():
    values = np.array([[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 4.0, 8.0]])
    nested = over_seeds(values, ["p", "p", "q", "q"], confidence=0.95)
    assert nested == over_seeds(np.array([[2.0, 6.0], [2.0, 6.0]]), ["p", "q"], confidence=0.95)


def test_one_training_seed_or_one_prompt_has_no_interval_over_seeds():
    assert np.isnan(over_seeds(np.ones((1, 5)), list("abcde"), confidence=0.95).low)
    assert np.isnan(over_seeds(np.ones((3, 1)), ["a"], confidence=0.95).low)
    assert duel(np.ones((1, 4)), np.zeros((1, 4)), list("abcd"), **BOOT).over_seeds is None


def test_a_duel_counts_wins_ties_and_losses():
    ours, theirs = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.0, 2.0, 5.0, 1.0]])
    found = duel(ours, theirs, list("abcd"), **BOOT)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.here.win_rate.value == pytest.approx(0.625)  # (1 + 0.5 + 0 + 1) / 4
    assert found.here.difference.value == pytest.approx(0.5)  # (1 + 0 - 2 + 3) / 4
    assert found.sign_test == pytest.approx(1.0)  # 2 of 3: 2 * (3 + 1) / 8, at most 1


def test_the_sign_test_counts_a_prompt_once_whatever_its_pictures_and_seeds():
    # prompt a: seeds and pictures won 3 lost 1; prompt b: 2 to 2, a tie; prompt c: lost 4
    margin = np.array([[1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0, -1.0, -1.0]])
    found = duel(margin, np.zeros((2, 6)), list("aabbcc"), **BOOT)
    assert (found.prompts_won, found.prompts_tied, found.prompts_lost) == (1, 1, 1)


def test_the_sign_test_by_hand():
    # 9 of 10: 2 * (10 + 1) / 1024; 5 of 5: 2 / 32; of nothing: 1
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(0, 5) == pytest.approx(1 / 16)
    assert sign_test(0, 0) == 1.0


def test_holm_by_hand():
    # sorted 0.01 0.02 0.03 0.04 times 4 3 2 1 = 0.04 0.06 0.06 0.04, and none below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(P_VALUES)
def test_holm_keeps_the_order_and_is_never_below_the_test_itself(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_a_few_wins_out_of_a_few_are_not_certain():
    # Clopper and Pearson for n of n: the low edge is the p with p^n = 0.025: 0.3976 for 4, 0.5407 for 6
    four = duel(np.ones((1, 4)), np.zeros((1, 4)), list("abcd"), **BOOT).here.win_rate
    six = duel(np.ones((1, 6)), np.zeros((1, 6)), list("abcdef"), **BOOT).here.win_rate
    assert four.low == pytest.approx(0.3976, abs=1e-4)
    assert six.low == pytest.approx(0.5407, abs=1e-4)


@pytest.mark.parametrize("won", range(10))
def test_the_verdict_and_the_exact_test_never_disagree_where_prompts_are_few(won):
    margin = np.array([[1.0] * won + [-1.0] * (9 - won)])
    found = duel(margin, np.zeros((1, 9)), list("abcdefghi"), **BOOT)
    assert (clear_of(found.here.win_rate.to_dict(), 0.5) != 0) <= (found.sign_test <= 0.05)


def test_ties_do_not_hide_a_clear_difference():
    # 40 won, 20 lost, 452 tied: a binomial of 60 at one half leaves [20, 40] to chance with 1.4 %
    ours = np.array([[1.0] * 40 + [-1.0] * 20 + [0.0] * 452])
    found = duel(ours, np.zeros((1, 512)), [str(n) for n in range(512)], **BOOT).here
    assert clear_of(found.win_rate.to_dict(), 0.5) == clear_of(found.difference.to_dict(), 0.0) == 1


def test_identical_policies_are_one_half_of_nothing_decided():
    found = duel(np.ones((3, 6)), np.ones((3, 6)), list("abcdef"), **BOOT)
    assert (found.wins, found.ties, found.losses, found.sign_test) == (0, 18, 0, 1.0)
    assert (found.here.win_rate.low, found.here.win_rate.value, found.here.win_rate.high) == (0.5, 0.5, 0.5)
    assert found.over_seeds is not None
    assert (found.over_seeds.difference.low, found.over_seeds.difference.high) == (0.0, 0.0)


def test_swapping_the_sides_of_a_duel_mirrors_it():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(3, 40)), rng.normal(size=(1, 40))
    prompts = [str(n // 2) for n in range(40)]
    one, other = duel(ours, theirs, prompts, **BOOT), duel(theirs, ours, prompts, **BOOT)
    assert (one.prompts_won, one.prompts_lost, one.sign_test) == (
        other.prompts_lost,
        other.prompts_won,
        other.sign_test,
    )
    for mine, yours in ((one.here, other.here), (one.over_seeds, other.over_seeds)):
        assert mine.win_rate.value == pytest.approx(1 - yours.win_rate.value)
        assert (mine.win_rate.low, mine.win_rate.high) == pytest.approx(
            (1 - yours.win_rate.high, 1 - yours.win_rate.low)
        )
        assert (mine.difference.low, mine.difference.high) == pytest.approx(
            (-yours.difference.high, -yours.difference.low)
        )


def test_training_seeds_that_say_the_same_are_worth_one():
    outcome = np.array([[1.0] * 6 + [-1.0] * 4])
    once = duel(outcome, np.zeros((1, 10)), list("abcdefghij"), **BOOT)
    thrice = duel(np.repeat(outcome, 3, axis=0), np.zeros((1, 10)), list("abcdefghij"), **BOOT)
    assert once.here.win_rate == thrice.here.win_rate
    assert thrice.win_rate_by_seed == pytest.approx([0.6, 0.6, 0.6])
    assert thrice.seed_sd == 0
    assert thrice.over_seeds.win_rate.low <= once.here.win_rate.low  # never surer than of these very policies


def test_clear_of_needs_the_whole_interval():
    assert clear_of(Estimate(0.6, 0.55, 0.65, 9).to_dict(), 0.5) == 1
    assert clear_of(Estimate(0.6, 0.45, 0.75, 9).to_dict(), 0.5) == 0
    assert clear_of(Estimate(0.4, 0.35, 0.45, 9).to_dict(), 0.5) == -1


def cells(by_cell):
    """The same number on ten prompts, under two training seeds."""
    return {cell: np.full((2, 10), value) for cell, value in by_cell.items()}


def test_the_grid_tells_labels_from_pictures_by_hand():
    scores = cells({("human", "own"): 1.0, ("ai", "own"): 3.0, ("human", "set"): 5.0, ("ai", "set"): 10.0})
    found = {
        effect.effect: (effect.of, effect.difference.value) for effect in effects(scores, list("abcdefghij"), **BOOT)
    }
    assert found == {
        "labels": ("ai - human", 3.5),  # (3 - 1 + 10 - 5) / 2
        "images": ("set - own", 5.5),  # (5 - 1 + 10 - 3) / 2
        "interaction": ("(ai - human) on set - on own", 3.0),  # (10 - 5) - (3 - 1)
    }


def test_swapping_labels_turns_their_effect_and_leaves_that_of_pictures():
    rng = np.random.default_rng(2)
    scores = {(label, image): rng.normal(size=(3, 20)) for label in ("x", "y") for image in ("own", "set")}
    turned = {cell: scores[cell] for cell in sorted(scores, key=lambda cell: cell[0] == "x")}
    prompts = [str(n) for n in range(20)]
    one, other = ({e.effect: e.difference for e in effects(each, prompts, **BOOT)} for each in (scores, turned))
    assert one["labels"].value == pytest.approx(-other["labels"].value)
    assert (one["labels"].low, one["labels"].high) == pytest.approx((-other["labels"].high, -other["labels"].low))
    assert one["images"] == other["images"]


def test_a_grid_with_a_hole_has_no_row_for_it():
    assert grid([("human", "own"), ("ai", "own"), ("human", "set")]) is None
    assert grid([("human", "own"), ("ai", "own")]) is None
    full = [("human", "own"), ("ai", "own"), ("human", "set"), ("ai", "set"), ("clip", "own")]
    assert grid(full) == (["human", "ai"], ["own", "set"])


def test_cluster_sums_keep_the_order_of_first_appearance():
    assert cluster_sums(np.array([[1.0], [2.0], [4.0]]), ["b", "a", "b"]).tolist() == [[5.0], [2.0]]
