"""Agreement of judges, its tie rules, kappa, tau and parts, by hand; and their intervals, where the truth is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from aifeedback_dpo.compare import intervals
from aifeedback_dpo.compare.agreement import RULES, agreement, cohen_kappa, counted, quantile_parts, share
from aifeedback_dpo.compare.intervals import Measure
from aifeedback_dpo.compare.tau import tau, tau_b
from benchmarks.coverage_judges import World, held

BOOT = {"resamples": 300, "confidence": 0.95, "seed": 1}
# all that two judges can say of a pair: agree, oppose, a tie of the second, of the first, of both; and agree again
FIRST = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.0])
SECOND = np.array([0.9, 0.2, 0.5, 0.8, 0.5, 0.1])
PROMPTS = list("pqrstu")
COLUMNS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])] * 2, st.sampled_from("pqr")), min_size=1)


def by_rule(first, second, **given):
    return {name: found.value for name, found in agreement(first, second, PROMPTS, **given, **BOOT).rules.items()}


def test_each_rule_for_ties_by_hand():
    found = by_rule(FIRST, SECOND)
    assert set(found) == set(RULES)
    # both decided: agree, oppose, agree
    assert found["decided"] == pytest.approx(2 / 3)
    # PickScore: a half where exactly one is a tie, one where both are: (1 + 0 + 1/2 + 1/2 + 1 + 1) / 6
    assert found["half credit"] == pytest.approx(4 / 6)
    # HPSv2 calc_ImageReward: the first's two ties are dropped, the second's is wrong: (1 + 0 + 0 + 1) / 4
    assert found["ties wrong"] == pytest.approx(2 / 4)
    # HPSv2 inversion_score: only opposite sides are wrong: 1 - 1 / 6
    assert found["inversions"] == pytest.approx(5 / 6)


def test_the_order_of_judges_matters_to_one_rule_alone():
    here, there = by_rule(FIRST, SECOND), by_rule(SECOND, FIRST)
    # the other way round one tie of the second's own and one of both are dropped, one of the first is wrong: also 2 / 4;
    # without the pair that only the first calls a tie it is 2 / 3
    assert there["ties wrong"] == pytest.approx(2 / 4)
    less = [0, 1, 2, 4, 5]
    ours = agreement(FIRST[less], SECOND[less], list("pqrst"), **BOOT).rules["ties wrong"].value
    theirs = agreement(SECOND[less], FIRST[less], list("pqrst"), **BOOT).rules["ties wrong"].value
    assert (ours, theirs) == pytest.approx((2 / 4, 2 / 3))
    assert {name for name in RULES if here[name] == there[name]} >= set(RULES) - {"ties wrong"}


def test_pairs_are_counted_and_a_rule_rests_on_the_prompts_whose_pairs_it_counts():
    found = agreement(FIRST, SECOND, PROMPTS, **BOOT)
    assert (found.pairs, found.decided) == (6, 3)
    assert {name: rule.prompts for name, rule in found.rules.items()} == {
        "decided": 3,
        "half credit": 6,
        "ties wrong": 4,
        "inversions": 6,
    }


@settings(max_examples=40)
@given(COLUMNS)
def test_swapping_a_and_b_everywhere_changes_nothing(rows):
    first, second, prompts = map(np.array, zip(*rows, strict=True))
    boot = BOOT | {"resamples": 20}
    one = agreement(first, second, prompts, **boot).to_dict()
    assert agreement(1 - first, 1 - second, prompts, **boot).to_dict() == nearly(one)


@settings(max_examples=40)
@given(COLUMNS, st.lists(st.tuples(*[st.integers(0, 2)] * 3).filter(sum), min_size=50, max_size=50))
def test_a_pair_with_three_votes_is_three_pairs_with_one(rows, votes):
    _, second, prompts = map(np.array, zip(*rows, strict=True))
    cast = np.resize(votes, (len(rows), 3))
    times = cast.sum(axis=1)
    mean = cast @ [0.0, 0.5, 1.0] / times
    each = np.concatenate([np.repeat([0.0, 0.5, 1.0], three) for three in cast])
    boot = BOOT | {"resamples": 20}
    one = agreement(mean, second, prompts, votes=cast, **boot).to_dict()
    many = agreement(each, *(np.repeat(column, times) for column in (second, prompts)), **boot).to_dict()
    assert one.pop("pairs") <= many.pop("pairs")
    del one["decided"], many["decided"]  # a pair is decided by its mean, whoever of its people was not
    assert one == nearly(many)


def nearly(told):
    """The same, but for the rounding of sums."""
    if isinstance(told, dict):
        return {key: nearly(value) for key, value in told.items()}
    return pytest.approx(told, abs=1e-12) if isinstance(told, float) else told


def test_votes_move_accuracy_and_kappa_by_hand():
    # p: two for a, one for b; q: one for b. The second says a of both: of four votes it agrees with two
    first, second, votes = np.array([2 / 3, 0.0]), np.array([1.0, 1.0]), np.array([[1.0, 0, 2], [1, 0, 0]])
    found = agreement(first, second, ["p", "q"], votes=votes, **BOOT)
    assert found.rules["decided"].value == 0.5
    # observed 1/2, chance (2/4)(4/4) + (2/4)(0/4) = 1/2
    assert found.kappa.value == 0.0
    assert (found.pairs, found.decided) == (2, 2)
    # a third person who called p a tie: dropped, half right, dropped, right
    tied = agreement(first, second, ["p", "q"], votes=np.array([[1.0, 1, 2], [1, 0, 0]]), **BOOT).rules
    assert [rule.value for rule in tied.values()] == pytest.approx([2 / 4, 2.5 / 5, 2 / 4, 3 / 5])


def test_votes_on_a_pair_that_one_of_the_two_did_not_judge_do_not_count():
    votes = np.array([[0.0, 0, 2], [0, 0, 3], [0, 0, 1]])
    found = agreement(np.array([1.0, np.nan, 1.0]), np.array([1.0, 0.0, np.nan]), list("pqr"), votes=votes, **BOOT)
    assert (found.pairs, found.rules["decided"].value, found.rules["decided"].prompts) == (1, 1.0, 1)


def test_of_a_mean_of_votes_so_many_were_for_a():
    # three of four for a; one vote that is a tie; two whose mean is a tie are one for each; nobody
    found = counted(np.array([0.75, 0.5, 0.5, 0.0, np.nan]), np.array([4.0, 1.0, 2.0, 3.0, 0.0]))
    assert found.tolist() == [[1, 0, 3], [0, 1, 0], [1, 0, 1], [3, 0, 0], [0, 0, 0]]


@given(COLUMNS, st.integers(1, 5))
def test_no_vote_is_lost(rows, number):
    p_a = np.array([row[0] for row in rows])
    found = counted(p_a, np.full(len(rows), float(number)))
    assert found.sum(axis=1) == pytest.approx(np.full(len(rows), float(number)))
    assert found @ [0.0, 0.5, 1.0] == pytest.approx(number * p_a)


def test_kappa_by_hand():
    # 20 both a, 5 a/b, 10 b/a, 15 both b: observed 0.7, chance (25*30 + 25*20) / 2500 = 0.5, kappa 0.4
    cells = np.zeros((1, 9))
    cells[0, [8, 6, 2, 0]] = [20, 5, 10, 15]
    assert cohen_kappa(cells)[0] == pytest.approx(0.4)


def test_kappa_with_ties_by_hand():
    # of six: both b 1, tie/tie 1, both a 1, a/b 1, a/tie 1, tie/a 1: observed 3/6
    # first: b 1, tie 2, a 3; second: b 2, tie 2, a 2: chance (1*2 + 2*2 + 3*2) / 36 = 1/3; kappa (1/2 - 1/3) / (2/3) = 1/4
    assert agreement(FIRST, SECOND, PROMPTS, **BOOT).kappa.value == pytest.approx(0.25)


def test_a_judge_agrees_with_itself_wholly_and_is_not_certain_of_it():
    p_a = np.array([1.0, 0.0, 0.5, 1.0])
    found = agreement(p_a, p_a, list("pqrs"), **BOOT)
    assert {rule.value for rule in found.rules.values()} == {1.0}
    assert found.kappa.value == 1.0
    # Wilson for 4 of 4: 1 / (1 + 1.96^2 / 4) = 0.510; three prompts are decided: 1 / (1 + 1.96^2 / 3) = 0.438
    assert found.rules["half credit"].low == pytest.approx(0.510, abs=1e-3)
    assert found.rules["decided"].low == pytest.approx(0.438, abs=1e-3)


def test_all_ties_leave_nothing_decided_and_no_kappa():
    ties = np.full(4, 0.5)
    found = agreement(ties, ties, list("pqrs"), **BOOT)
    told = found.to_dict()
    nothing = {"value": None, "low": None, "high": None, "prompts": 0}
    assert told["rules"]["decided"] == told["rules"]["ties wrong"] == nothing
    assert found.rules["half credit"].value == found.rules["inversions"].value == 1.0
    assert (told["decided"], told["kappa"]["value"]) == (0, None)


def test_no_pair_in_common_is_nothing_and_one_prompt_has_no_interval():
    none = np.empty(0)
    empty = agreement(none, none, [], **BOOT).to_dict()
    assert empty["pairs"] == 0
    assert {rule["value"] for rule in empty["rules"].values()} == {empty["kappa"]["value"]} == {None}
    one = agreement(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), ["p"] * 3, **BOOT)
    assert (one.kappa.value, one.kappa.prompts) == (pytest.approx(0.4), 1)  # observed 2/3, chance 4/9
    assert math.isnan(one.kappa.low)
    assert one.rules["decided"].low < 0.1  # Wilson of one observation
    assert one.rules["decided"].high > 0.9


def test_the_interval_resamples_prompts_and_not_pairs():
    # Thirty prompts of fifty identical pairs carry the information of thirty, not of fifteen hundred.
    hits = np.repeat([1.0] * 18 + [0.0] * 12, 50)
    clustered = share(hits, np.ones(1500), [f"p{n // 50}" for n in range(1500)], **BOOT)
    alone = share(hits, np.ones(1500), [f"p{n}" for n in range(1500)], **BOOT)
    assert clustered.value == alone.value == pytest.approx(0.6)
    assert clustered.high - clustered.low > 5 * (alone.high - alone.low)
    # a binomial of thirty at 0.6 has 2.5 and 97.5 % quantiles of 13/30 and 23/30
    assert (clustered.low, clustered.high) == pytest.approx((13 / 30, 23 / 30), abs=0.034)


def test_ten_prompts_of_each_kind_are_enough_for_the_bootstrap_and_nine_are_not():
    def found(missed):
        hits, prompts = np.array([1.0] * (40 - missed) + [0.0] * missed), np.arange(40)
        (plain,) = intervals.estimates([Measure(np.stack([hits, np.ones(40)], axis=1))], **BOOT)
        return share(hits, np.ones(40), prompts, **BOOT), plain

    assert found(10)[0] == found(10)[1]
    wide, plain = found(9)
    # Wilson for 31 of 40: centre (0.775 + 0.048) / 1.096 = 0.7509, half width 0.1252
    assert wide.low == pytest.approx(min(0.6256, plain.low), abs=1e-3)
    assert wide.high == pytest.approx(max(0.8768, plain.high), abs=2e-3)


def test_parts_are_quarters_that_say_what_they_hold():
    values = np.array([4.0, 1.0, 3.0, 2.0, 8.0, 5.0, 7.0, 6.0])
    parts = quantile_parts(values)
    assert [(low, high) for low, high, _ in parts] == [(1, 2), (3, 4), (5, 6), (7, 8)]
    assert [sorted(values[which]) for _, _, which in parts] == [[1, 2], [3, 4], [5, 6], [7, 8]]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, 3.0, 10.0]), max_size=30))
def test_each_value_is_in_one_part_and_no_part_is_empty(values):
    parts = quantile_parts(np.array(values))
    assert len(parts) <= 4
    assert sum(which.sum() for *_, which in parts) == len(values)
    assert all(which.any() for *_, which in parts)
    assert all(one[1] < other[0] for one, other in pairwise(parts))


def test_tau_by_hand():
    # orders 1 2 3 and 1 3 2: two concordant, one discordant of three; with a tie in one: 2 / sqrt(3 * 2)
    rows = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    others = np.array([[1.0, 3.0, 2.0], [1.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    found = tau_b(rows, others)
    assert found[:2] == pytest.approx([1 / 3, 2 / 6**0.5])
    assert math.isnan(found[2])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8))
def test_tau_is_that_of_scipy(rows):
    one, other = np.array(rows, dtype=float).T
    theirs = kendalltau(one, other).statistic if len(set(one)) > 1 and len(set(other)) > 1 else math.nan
    assert tau_b(one[None], other[None])[0] == pytest.approx(theirs, nan_ok=True)


def three(prompt, *, said):
    """The three pairs of three pictures: prompts, sides, and what is said of x-y, y-z, x-z."""
    return [(prompt, f"{prompt}{a}", f"{prompt}{b}", p_a) for (a, b), p_a in zip(("xy", "yz", "xz"), said, strict=True)]


def mean_tau(first, second):
    prompts, image_a, image_b, ones = (list(column) for column in zip(*first, strict=True))
    others = [row[3] for row in second]
    return tau(np.array(ones), np.array(others), prompts, image_a, image_b, **BOOT)


def test_tau_is_a_mean_over_prompts_of_orders_within_them():
    # p: x > y > z by both: 1. q: x > y > z against x > z > y: 1/3. r: the second prefers none, so it is left out.
    first = [row for prompt in "pqr" for row in three(prompt, said=(1.0, 1.0, 1.0))]
    second = three("p", said=(0.9, 0.8, 0.7)) + three("q", said=(1.0, 0.2, 1.0)) + three("r", said=(0.5, 0.5, 0.5))
    found = mean_tau(first, second)
    assert (found.value, found.prompts) == (pytest.approx((1 + 1 / 3) / 2), 2)


def test_tau_does_not_care_which_side_is_a_nor_for_the_order_of_pairs():
    rng = np.random.default_rng(0)
    said = rng.choice([0.0, 0.3, 0.5, 1.0], size=(2, 20, 3))
    first, second = ([row for at in range(20) for row in three(str(at), said=each[at])] for each in said)
    swapped = [[(prompt, b, a, 1 - p_a) for prompt, a, b, p_a in rows] for rows in (first, second)]
    found = mean_tau(first, second)
    assert mean_tau(*swapped) == found
    back = mean_tau(first[::-1], second[::-1])
    assert (back.value, back.prompts) == (pytest.approx(found.value), found.prompts)


def test_prompts_with_one_pair_have_no_order():
    found = tau(np.ones(2), np.ones(2), ["p", "q"], ["a", "c"], ["b", "d"], **BOOT)
    assert (math.isnan(found.value), found.prompts) == (True, 0)
    assert tau(np.empty(0), np.empty(0), [], [], [], **BOOT).prompts == 0


def test_intervals_hold_the_truth_as_often_as_they_say():
    # 400 comparisons at 95 %: 380, and within 8 of it with 93 to 97 %
    found = held(World("", prompts=60, band=0.4, votes=True), 400, resamples=200)
    assert 372 <= 400 * found["accuracy"] <= 388
    assert 372 <= 400 * found["kappa"] <= 388
