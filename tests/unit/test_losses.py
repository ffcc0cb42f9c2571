"""The objectives, against numbers worked out by hand, their closed-form gradients and the laws they obey.

Most numbers are of one pair: winner 0.3 -> 0.2, loser 0.3 -> 0.5, so the margin is 0.1 - (-0.2) = 0.3, and beta 10 makes
z = 10 / 2 * 0.3 = 1.5.
"""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from aifeedback_dpo.dpo import losses
from aifeedback_dpo.dpo.losses import NAMES, PairErrors, implicit_margin, objective
from aifeedback_dpo.settings.training import PAIRWISE, REFERENCE_FREE

BETA, ALPHA, FLIPPED = 10.0, 2.0, 0.1


def errors(win, lose, dtype=torch.float64) -> PairErrors:
    return PairErrors(*(torch.tensor(part, dtype=dtype).reshape(-1) for part in (win, lose)))


POLICY, REFERENCE = errors(0.2, 0.5), errors(0.3, 0.3)


def at_logit(z: float) -> PairErrors:
    """A policy with this z against REFERENCE: the margin is z / 5, here all on the winner."""
    return errors(0.3 - z / 5, 0.3)


def swapped(pair: PairErrors) -> PairErrors:
    return PairErrors(pair.lose, pair.win)


def bound(name: str, *, beta: float = BETA) -> losses.Objective:
    """Each objective with hyperparameters that it takes."""
    return objective(name, beta=beta, alpha=ALPHA, smoothing=FLIPPED if name == "robust" else 0.0)


def loss_of(found, policy=POLICY, reference=REFERENCE, *, preferred=1.0, zero=0.0):
    return found(policy, reference, torch.full_like(policy.win, preferred), torch.tensor(zero, dtype=policy.win.dtype))


def gradient(found, policy=POLICY, reference=REFERENCE, **arguments) -> list[list[float]]:
    """Of the summed loss, in the policy's errors on winners and losers."""
    leaves = PairErrors(*(part.clone().requires_grad_() for part in policy))
    loss = loss_of(found, leaves, reference, **arguments).sum()
    return [part.tolist() for part in torch.autograd.grad(loss, leaves, materialize_grads=True)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def log_loss(z: float) -> float:
    return math.log1p(math.exp(-z))


def test_the_margin_is_what_the_policy_gained_on_the_winner_less_what_it_gained_on_the_loser():
    # winner: 0.3 -> 0.2, a gain of 0.1; loser: 0.3 -> 0.5, a gain of -0.2; margin 0.1 - (-0.2)
    assert implicit_margin(POLICY, REFERENCE).item() == pytest.approx(0.3)


@given(*[st.floats(0, 2)] * 4)
@settings(deadline=None)
def test_swapping_winner_and_loser_negates_the_margin(win, lose, held_win, held_lose):
    policy, reference = errors(win, lose), errors(held_win, held_lose)
    assert implicit_margin(swapped(policy), swapped(reference)).item() == -implicit_margin(policy, reference).item()


FORMULAS = {  # the losses at z = 1.5 and, with the images swapped, at z = -1.5
    "dpo": (log_loss(1.5), log_loss(-1.5)),
    "ipo": (1.0, 4.0),  # (1.5 - 0.5)**2 and (-1.5 - 0.5)**2
    "hinge": (0.0, 2.5),  # max(0, 1 - 1.5) and 1 + 1.5
    "poly": (log_loss(1.5) + 2 * sigmoid(-1.5), log_loss(-1.5) + 2 * sigmoid(1.5)),  # alpha 2 times 1 - p
    # ((1 - 0.1) l(z) - 0.1 l(-z)) / (1 - 0.2)
    "robust": ((0.9 * log_loss(1.5) - 0.1 * log_loss(-1.5)) / 0.8, (0.9 * log_loss(-1.5) - 0.1 * log_loss(1.5)) / 0.8),
    # q = 0.1 and -0.2, times 5: utilities sigma(0.5) and sigma(1.0); swapped they are sigma(-1.0) and sigma(-0.5)
    "kto": (1 - (sigmoid(0.5) + sigmoid(1.0)) / 2, 1 - (sigmoid(-1.0) + sigmoid(-0.5)) / 2),
    "sft": (0.2, 0.5),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_the_number_of_its_formula(name):
    right, wrong = FORMULAS[name]
    assert loss_of(bound(name)).item() == pytest.approx(right)
    assert loss_of(bound(name), swapped(POLICY), swapped(REFERENCE)).item() == pytest.approx(wrong)


def test_mapo_is_the_winners_error_and_the_log_of_its_bounded_ratio():
    # c x = ln 2: h = ln 2 / (2 - 1); c x = ln 3: h = ln 3 / (3 - 1). A loser that fits better costs
    # beta * 1000 * (ln 2 - ln 3 / 2), as -log sigma(-x) is x to e**-143; one that fits as well costs beta * ln 2.
    low, high, found = 2 * math.log(2), 2 * math.log(3), objective("mapo", beta=0.1)
    gap = 1000 * (math.log(2) - math.log(3) / 2)
    assert loss_of(found, errors(high, low), None).item() == pytest.approx(high + 0.1 * gap)
    assert loss_of(found, errors(low, high), None).item() == pytest.approx(low)
    assert loss_of(found, errors(low, low), None).item() == pytest.approx(low + 0.1 * math.log(2))


@given(win=st.floats(0.01, 1.0), lose=st.floats(0.01, 1.0))
@settings(deadline=None)
def test_mapo_is_its_formula_on_both_sides_of_where_it_takes_a_series(win, lose):
    ratio = 1000 * (0.5 * win / math.expm1(0.5 * win) - 0.5 * lose / math.expm1(0.5 * lose))
    expected = win + 0.1 * (max(-ratio, 0) + math.log1p(math.exp(-abs(ratio))))  # -log sigma without overflow
    assert loss_of(objective("mapo", beta=0.1), errors(win, lose), None).item() == pytest.approx(expected, abs=1e-7)


COINS = {"dpo": math.log(2), "ipo": 0.25, "hinge": 1.0, "poly": math.log(2) + 1, "robust": math.log(2), "kto": 0.5}


@pytest.mark.parametrize("name", COINS)
def test_identical_networks_have_the_loss_of_a_coin(name):
    same = errors(0.42, 0.17)  # z = 0, and both utilities are sigma(0)
    assert loss_of(bound(name, beta=5000.0), same, same).item() == pytest.approx(COINS[name])
    assert losses.implicit_accuracy(same, same).item() == 0.5
    assert losses.gradient_factor(same, same, beta=5000.0).item() == 0.5


def slopes(name: str) -> tuple[float, float]:
    """d loss / d (policy's error on the winner, on the loser), by hand, of the swapped pair: z = -1.5, dz / d both (-5, 5)."""
    p, half = sigmoid(-1.5), BETA / 2
    in_z = {
        "dpo": -(1 - p),
        "ipo": 2 * (-1.5 - 0.5),
        "hinge": -1.0,
        "poly": -(1 - p) - ALPHA * p * (1 - p),
        "robust": -(0.9 * (1 - p) + 0.1 * p) / 0.8,
    }
    if name in in_z:
        return -half * in_z[name], half * in_z[name]
    if name == "kto":  # sigma' = sigma (1 - sigma), with a half each from beta and from the mean of two images
        win, lose = sigmoid(half * -0.2), sigmoid(half * -0.1)
        return half / 2 * win * (1 - win), -half / 2 * lose * (1 - lose)
    if name == "mapo":  # h'(x) = c (e**y - 1 - y e**y) / (e**y - 1)**2, y = c x; sigma(-1000 (h(0.5) - h(0.2))) is 1
        y = torch.tensor([0.25, 0.1], dtype=torch.float64)
        win, lose = (0.5 * (torch.expm1(y) - y * y.exp()) / torch.expm1(y) ** 2).tolist()
        return 1 - BETA * 1000 * win, BETA * 1000 * lose
    return 1.0, 0.0  # sft


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_formula(name):
    (win,), (lose,) = gradient(bound(name), swapped(POLICY), swapped(REFERENCE))
    assert (win, lose) == pytest.approx(slopes(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preferred", [1.0, 0.7])
def test_the_gradient_is_that_of_finite_differences(name, preferred):
    policy, reference = errors([0.2, 0.4, 0.0], [0.5, 0.21, 0.2]), errors([0.3, 0.3, 0.1], [0.3, 0.28, 0.3])
    found = bound(name, beta=1e-3 if name == "mapo" else BETA)
    inputs = [part.requires_grad_() for part in policy]
    assert torch.autograd.gradcheck(
        lambda win, lose: loss_of(found, PairErrors(win, lose), reference, preferred=preferred, zero=0.03), inputs
    )


def test_the_gradient_factor_is_the_share_of_half_beta_that_dpo_pulls_with():
    factor = losses.gradient_factor(POLICY, REFERENCE, beta=BETA).item()
    assert factor == pytest.approx(sigmoid(-1.5))
    assert gradient(bound("dpo"))[0] == pytest.approx([BETA / 2 * factor])


def test_ipo_rests_at_a_margin_of_one_over_beta():
    there = errors(0.2, 0.3)  # beta 10: a margin of 0.1, here all on the winner
    assert loss_of(bound("ipo"), there).item() == pytest.approx(0.0)
    assert gradient(bound("ipo"), there)[0] == pytest.approx([0.0], abs=1e-12)


RESTS = {"dpo": math.log(4), "ipo": 0.3}  # logit(P); P 2 (z - 1/2) + (1 - P) 2 (z + 1/2) = 2 z - (2 P - 1) = 0


@pytest.mark.parametrize("name", RESTS)
@pytest.mark.parametrize(("preferred", "smoothing"), [(0.8, 0.0), (1.0, 0.2), (0.875, 0.1)])
def test_a_soft_or_smoothed_label_sets_a_margin_to_rest_at(name, preferred, smoothing):
    found = objective(name, beta=BETA, smoothing=smoothing)  # P = 0.8 each time: 0.9 * 0.875 + 0.1 * 0.125
    assert gradient(found, at_logit(RESTS[name]), preferred=preferred)[0] == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize("name", sorted(PAIRWISE))
def test_a_label_of_one_half_pulls_nowhere_from_no_margin(name):
    assert gradient(bound(name), REFERENCE, preferred=0.5)[0] == pytest.approx([0.0], abs=1e-12)


def test_a_soft_label_weighs_the_losses_of_both_orders():
    # 0.9 * 0.8 + 0.1 * 0.2 = 0.74
    found = objective("hinge", beta=BETA, smoothing=0.1)
    assert loss_of(found, preferred=0.8).item() == pytest.approx(0.74 * 0.0 + 0.26 * 2.5)


def test_poly_without_alpha_and_robust_without_flips_are_dpo():
    plain = loss_of(bound("dpo")).item()
    assert loss_of(objective("poly", beta=BETA, alpha=0.0)).item() == plain
    assert loss_of(objective("robust", beta=BETA, smoothing=1e-12)).item() == pytest.approx(plain, abs=1e-10)


@given(z=st.floats(-20, 20), rate=st.floats(0.01, 0.45))
@settings(deadline=None)
def test_over_flipped_labels_robust_is_on_average_the_loss_of_the_true_ones(z, rate):
    found, policy = objective("robust", beta=BETA, smoothing=rate), at_logit(z)
    mean = (1 - rate) * loss_of(found, policy) + rate * loss_of(found, swapped(policy), swapped(REFERENCE))
    assert mean.item() == pytest.approx(loss_of(bound("dpo"), policy).item(), abs=1e-9)


def test_mapo_is_finite_with_its_gradient_from_no_error_to_overflow():
    # h(0) = 1, h'(0) = -c / 2 = -1/4: the winner's gradient is 1 + 0.1 * 1000 * sigma(0) / 4 = 13.5, the loser's -12.5
    found, policy = objective("mapo", beta=0.1), errors(*[[0.0, 1e-9, 2000.0]] * 2, dtype=torch.float32)
    coin = 0.1 * math.log(2)
    assert loss_of(found, policy, None).tolist() == pytest.approx([coin, coin, 2000 + coin])
    win, lose = gradient(found, policy, None)
    assert win == pytest.approx([13.5, 13.5, 1.0])
    assert lose == pytest.approx([-12.5, -12.5, 0.0])


def test_ktos_zero_point_moves_both_utilities():
    # q = 0.1 - 0.05 and -0.2 - 0.05, times 5
    assert loss_of(bound("kto"), zero=0.05).item() == pytest.approx(1 - (sigmoid(0.25) + sigmoid(1.25)) / 2)


rows_of_pairs = st.lists(st.tuples(*[st.floats(0.0, 2.0)] * 4, st.floats(0.5, 1.0)), min_size=1, max_size=5)


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_of_pairs)
@settings(deadline=None)
def test_a_batch_has_the_losses_of_its_pairs_one_by_one(name, rows):
    def loss(table):
        win, lose, held_win, held_lose, preferred = table.T
        policy, reference = PairErrors(win, lose), PairErrors(held_win, held_lose)
        return bound(name)(policy, reference, preferred, torch.tensor(0.1, dtype=torch.float64)).tolist()

    table = torch.tensor(rows, dtype=torch.float64)
    alone = [one for row in table for one in loss(row[None])]
    assert alone == pytest.approx(loss(table), rel=1e-12, abs=1e-12)


def test_the_loss_of_a_batch_is_no_loss_of_the_mean_margin():
    # margins 0.3 and -0.3: their mean, 0, would cost ln 2 = 0.69; the pairs cost (l(1.5) + l(-1.5)) / 2 = 0.95
    both = loss_of(bound("dpo"), errors([0.2, 0.5], [0.5, 0.2]), errors([0.3, 0.3], [0.3, 0.3]))
    assert both.mean().item() == pytest.approx((log_loss(1.5) + log_loss(-1.5)) / 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_keep_the_errors_dtype_and_ask_for_a_reference_where_they_need_one(name, dtype):
    policy, reference = errors(0.2, 0.5, dtype), errors(0.3, 0.3, dtype)
    assert loss_of(bound(name), policy, reference).dtype == dtype
    if name in REFERENCE_FREE:
        assert loss_of(bound(name), policy, None).item() == loss_of(bound(name), policy, reference).item()
    else:
        with pytest.raises(AssertionError):
            loss_of(bound(name), policy, None)


@pytest.mark.parametrize(
    ("name", "smoothing"), [("cpo", 0.0), ("robust", 0.0), ("dpo", 0.5), ("dpo", -0.1), ("kto", 0.1), ("sft", 0.1)]
)
def test_what_is_no_objective_is_refused(name, smoothing):
    with pytest.raises(AssertionError):
        objective(name, beta=BETA, smoothing=smoothing)


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_has_the_protocols_arguments(name):
    expected = list(inspect.signature(losses.Objective.__call__).parameters)[1:]
    found = inspect.signature(bound(name)).parameters.values()
    assert [one.name for one in found if one.kind is one.POSITIONAL_OR_KEYWORD] == expected


def test_errors_are_float32_means_over_everything_but_the_batch():
    target = torch.tensor([1.0, 2.0], dtype=torch.bfloat16).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    error = losses.squared_error(torch.zeros(2, 1, 2, 2, dtype=torch.bfloat16), target)
    assert error.dtype == torch.float32
    assert error.tolist() == [1.0, 4.0]


def test_a_wrong_shape_is_refused():
    two = errors([1.0, 1.0], [1.0, 1.0], torch.float32)
    with pytest.raises(TypeCheckError):
        losses.squared_error(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    with pytest.raises(TypeCheckError):  # one label would be spread over two pairs
        bound("dpo")(two, two, torch.ones(1), torch.tensor(0.0))
    with pytest.raises(TypeCheckError):  # each pair would have a zero point of its own
        bound("kto")(two, two, torch.ones(2), torch.zeros(2))


def test_beta_in_the_summed_convention():
    # 5000 / 2 over c * h * w: SD 1.5 at 512 px, 2500 / 16384; SDXL at 1024 px, 2500 / 65536, a quarter of it
    assert losses.summed_beta(5000.0, 4 * 64 * 64) == pytest.approx(0.152587890625)
    assert losses.summed_beta(5000.0, 4 * 128 * 128) == pytest.approx(0.03814697265625)
