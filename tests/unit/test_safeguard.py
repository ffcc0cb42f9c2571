"""The safeguard of winners (Diffusion-SDPO): what it scales, by how much, and the law that it keeps."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aifeedback_dpo.dpo import losses
from aifeedback_dpo.dpo.losses import PairErrors, objective

REFERENCE = PairErrors(*torch.full((2, 1), 0.3, dtype=torch.float64))


def residuals(*values: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(one, dtype=torch.float64).view(1, 1, 1, -1) for one in values]


def mean_square(residual: torch.Tensor) -> torch.Tensor:
    return residual.square().mean(dim=(1, 2, 3))


def pulls(images, *, mu: float | None, name: str = "dpo") -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of the objective in the outputs for winner and loser, with the safeguard or (None) without."""
    images = [one.clone().requires_grad_() for one in images]
    policy = PairErrors(*map(mean_square, images))
    kept = policy if mu is None else losses.safeguarded(policy, losses.overlap(*images), mu=mu)
    assert [part.tolist() for part in kept] == [part.tolist() for part in policy]  # values stay, gradients change
    found = objective(name, beta=10.0, smoothing=0.1 if name == "robust" else 0.0)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    return torch.autograd.grad(found(kept, REFERENCE, one, zero).sum(), images)


@pytest.mark.parametrize("loser", [[0.0, 3.0], [-1.0, 0.5], [0.0, 0.0]])  # orthogonal to (1, 0), opposed, none
def test_the_safeguard_leaves_a_loser_that_does_not_pull_against_the_winner(loser):
    free, kept = (pulls(residuals([1.0, 0.0], loser), mu=mu) for mu in (None, 0.9))
    assert [part.tolist() for part in kept] == [part.tolist() for part in free]


def test_the_safeguard_scales_the_losers_gradient_by_its_closed_form():
    # winner (1, 0), loser (2, 1): error (1 + 0) / 2 = 0.5, overlap (2 + 0) / 2 = 1; (1 - 0.9) * 0.5 / 1 = 0.05
    images = residuals([1.0, 0.0], [2.0, 1.0])
    free, kept = (pulls(images, mu=mu) for mu in (None, 0.9))
    assert kept[0].tolist() == free[0].tolist()
    assert torch.allclose(kept[1], 0.05 * free[1])


def test_the_safeguards_scale_is_of_each_pair_and_at_most_one():
    # 0.1 * 0.5 / 0.001 = 50 becomes 1; 0.1 * 0.5 / 0.1 = 0.5 stays; no error on the winner leaves the loser nothing
    found = losses.safeguard_scale(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([1e-3, 0.1, 0.1]), mu=0.9)
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.0])


outputs = st.lists(st.floats(-2, 2).filter(lambda value: value == 0 or abs(value) > 1e-3), min_size=4, max_size=4)


@pytest.mark.parametrize("name", ["dpo", "robust"])
@given(winner=outputs, loser=outputs, mu=st.floats(0.1, 1.0))
@settings(deadline=None)
def test_a_small_step_along_the_safeguarded_gradient_lowers_the_winners_error(name, winner, loser, mu):
    """To first order by at least mu of what the winner's gradient alone would give, where both images share the step."""
    assume(any(winner))
    images = residuals(winner, loser)
    pull, push = pulls(images, mu=mu, name=name)
    assert ((pull + push) * pull).sum() >= mu * pull.square().sum() * (1 - 1e-9)
    rate = 0.1 * mu * images[0].norm() / (pull.norm() * (1 + (push.norm() / pull.norm()) ** 2))  # small in any case
    after = images[0] - rate * (pull + push)
    assert mean_square(after).item() < mean_square(images[0]).item()


def test_without_the_safeguard_the_same_step_can_raise_the_winners_error():
    # loser = 2 * winner: r_w - 2 r_w = -r_w
    pull, push = pulls(residuals([1.0, 0.5], [2.0, 1.0]), mu=None)
    assert ((pull + push) * pull).sum() < 0
