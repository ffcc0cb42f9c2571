"""Our step against an independent reference, written here from the paper's equations and plain diffusers."""

import copy

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from aifeedback_dpo.dpo import step
from aifeedback_dpo.dpo.losses import PairErrors, dpo_loss, squared_error, summed_beta
from aifeedback_dpo.dpo.step import Batch

PAIRS, BETA = 6, 100.0


def tiny_unet(seed: int) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )


@pytest.fixture(scope="module")
def networks():
    policy = tiny_unet(0)
    reference = copy.deepcopy(policy).requires_grad_(False)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return policy, reference


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    latents = torch.randn(2 * PAIRS, 4, 8, 8)
    noise = torch.randn(PAIRS, 4, 8, 8).repeat(2, 1, 1, 1)
    timesteps = torch.randint(0, 1000, (PAIRS,)).repeat(2)
    embeddings = torch.randn(PAIRS, 5, 12).repeat(2, 1, 1)
    noisy = DDPMScheduler().add_noise(latents, noise, timesteps)
    weight = torch.ones(2 * PAIRS)
    return Batch(
        noisy, timesteps, {"embeddings": embeddings}, 0.1 * noise, weight
    )  # errors of 0.1, about those of a trained network


def predicts(network):
    return lambda noisy, times, conditions: network(noisy, times, conditions["embeddings"]).sample


def accumulate(networks, batch, micro: int):
    policy, reference = networks
    policy.zero_grad()
    means = step.accumulate(
        batch,
        policy=predicts(policy),
        reference=predicts(reference),
        beta=BETA,
        micro_batch_size=micro,
        backward=lambda loss: loss.backward(),
    )
    return means, [parameter.grad.clone() for parameter in policy.parameters()]


def test_the_loss_is_equation_14_in_float64(networks, batch):
    """The networks run in float64 on both sides, so that what is compared is the objective and not their rounding."""
    policy, reference = exact = tuple(copy.deepcopy(network).double() for network in networks)
    embeddings = batch.conditions["embeddings"].double()
    wide = Batch(
        batch.noisy.double(), batch.times, {"embeddings": embeddings}, batch.target.double(), batch.weight.double()
    )

    def summed(network, half):  # ||eps - eps_theta(x_t, t)||^2, a sum over c, h, w
        rows = slice(half * PAIRS, (half + 1) * PAIRS)
        predicted = network(wide.noisy[rows], wide.times[rows], embeddings[rows]).sample
        return ((wide.target[rows] - predicted) ** 2).flatten(1).sum(1)

    with torch.no_grad():
        inside = (summed(policy, 0) - summed(reference, 0)) - (summed(policy, 1) - summed(reference, 1))
    beta_sum = BETA / 2 / (4 * 8 * 8)  # the paper's beta times T: a sum over 256 numbers, and no half
    assert summed_beta(BETA, 4 * 8 * 8) == beta_sum
    expected = -torch.log(torch.sigmoid(-beta_sum * inside)).mean()

    means, _ = accumulate(exact, wide, PAIRS)
    assert means[step.METRICS.index("loss")].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_gradients_of_micro_batches_add_up_to_those_of_the_whole(networks, batch, micro):
    whole_means, whole = accumulate(networks, batch, PAIRS)
    means, parts = accumulate(networks, batch, micro)
    assert torch.allclose(means, whole_means, atol=1e-6)
    scale = max(gradient.abs().max() for gradient in whole)
    for one, other in zip(parts, whole, strict=True):
        assert (one - other).abs().max() <= 1e-5 * scale


def test_one_pair_at_a_time_gives_the_losses_of_the_batch():
    torch.manual_seed(2)
    errors = torch.rand(4, 5)
    together = dpo_loss(PairErrors(errors[0], errors[1]), PairErrors(errors[2], errors[3]), beta=10.0)
    for at in range(5):
        row = errors[:, at : at + 1]
        alone = dpo_loss(PairErrors(row[0], row[1]), PairErrors(row[2], row[3]), beta=10.0)
        assert alone.item() == pytest.approx(together[at].item())


def test_a_half_precision_prediction_is_compared_in_float32():
    torch.manual_seed(3)
    predicted, target = torch.randn(3, 4, 8, 8).bfloat16(), torch.randn(3, 4, 8, 8)
    expected = ((predicted.double() - target.double()) ** 2).mean(dim=(1, 2, 3))
    assert squared_error(predicted, target).double() == pytest.approx(expected, abs=1e-6)
