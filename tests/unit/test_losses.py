"""The objective, against numbers worked out by hand."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from aifeedback_dpo.dpo.losses import (
    PairErrors,
    dpo_loss,
    implicit_accuracy,
    implicit_margin,
    squared_error,
    summed_beta,
)


def errors(win: float, lose: float) -> PairErrors:
    return PairErrors(torch.tensor([win]), torch.tensor([lose]))


def test_the_margin_is_what_the_policy_gained_on_the_winner_less_what_it_gained_on_the_loser():
    # winner: 0.3 -> 0.2, a gain of 0.1; loser: 0.3 -> 0.5, a gain of -0.2; margin 0.1 - (-0.2)
    assert implicit_margin(errors(0.2, 0.5), errors(0.3, 0.3)).item() == pytest.approx(0.3)


def test_swapping_winner_and_loser_negates_the_margin():
    policy, reference = errors(0.2, 0.5), errors(0.31, 0.27)
    swapped = implicit_margin(PairErrors(*policy[::-1]), PairErrors(*reference[::-1]))
    assert swapped.item() == pytest.approx(-implicit_margin(policy, reference).item())


def test_half_of_beta_multiplies_the_margin():
    # margin 0.3, beta 10: -log sigmoid(1.5) = log(1 + e^-1.5)
    loss = dpo_loss(errors(0.2, 0.5), errors(0.3, 0.3), beta=10.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.5)))


def test_identical_networks_have_loss_ln_2_and_accuracy_one_half():
    same = errors(0.42, 0.17)
    assert dpo_loss(same, same, beta=5000.0).item() == pytest.approx(math.log(2))
    assert implicit_accuracy(same, same).item() == 0.5


def test_the_gradient_is_minus_half_beta_times_the_chance_of_being_wrong():
    # d/dm -log sigmoid(b m / 2) = -(b / 2) sigmoid(-b m / 2), and dm/d(policy.win) = -1
    win = torch.tensor([0.2], requires_grad=True)
    dpo_loss(PairErrors(win, torch.tensor([0.5])), errors(0.3, 0.3), beta=10.0).sum().backward()
    assert win.grad is not None
    assert win.grad.item() == pytest.approx(5 / (1 + math.exp(1.5)))


def test_every_pair_has_its_own_loss():
    policy = PairErrors(torch.tensor([0.2, 0.5]), torch.tensor([0.5, 0.2]))
    reference = PairErrors(torch.tensor([0.3, 0.3]), torch.tensor([0.3, 0.3]))
    one_by_one = [
        dpo_loss(PairErrors(win[None], lose[None]), errors(0.3, 0.3), beta=10.0).item()
        for win, lose in zip(*policy, strict=True)
    ]
    assert dpo_loss(policy, reference, beta=10.0).tolist() == pytest.approx(one_by_one)


def test_errors_are_float32_means_over_everything_but_the_batch():
    prediction = torch.zeros(2, 1, 2, 2, dtype=torch.bfloat16)
    target = torch.tensor([1.0, 2.0], dtype=torch.bfloat16).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    error = squared_error(prediction, target)
    assert error.dtype == torch.float32
    assert error.tolist() == [1.0, 4.0]


def test_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError):
        squared_error(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))


def test_beta_in_the_summed_convention():
    # SD 1.5 at 512 px: 5000 / 2 / (4 * 64 * 64) = 0.1526
    assert summed_beta(5000.0, 4 * 64 * 64) == pytest.approx(0.152587890625)
