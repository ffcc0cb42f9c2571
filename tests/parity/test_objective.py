"""Our step against an independent reference, written here from the paper's equations and plain diffusers."""

import copy

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from aifeedback_dpo.dpo import step
from aifeedback_dpo.dpo.losses import PairErrors, objective, squared_error, summed_beta
from aifeedback_dpo.dpo.step import Batch, Labels
from aifeedback_dpo.settings.training import Train

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
    ones = torch.ones(2 * PAIRS)
    # errors of 0.1, about those of a trained network
    return Batch(noisy, timesteps, {"embeddings": embeddings}, 0.1 * noise, ones, 0 * ones)


def predicts(network):
    return lambda noisy, times, conditions: network(noisy, times, conditions["embeddings"]).sample


def only(batch, pairs):
    """These pairs of it."""
    rows = torch.cat([pairs, pairs + len(batch)])
    conditions = {name: value[rows] for name, value in batch.conditions.items()}
    return Batch(
        batch.noisy[rows], batch.times[rows], conditions, batch.target[rows], batch.weight[rows], batch.depth[rows]
    )


def accumulate(networks, batch, micro: int):
    """The mean loss and its gradient, with a the winner of every pair, `micro` pairs at a time."""
    policy, reference = networks
    policy.zero_grad()
    total = 0.0
    for rows in torch.arange(PAIRS).split(micro):
        part = only(batch, rows)
        labels = Labels(torch.arange(len(rows)), torch.ones(len(rows), dtype=torch.bool), torch.ones(len(rows)))
        with torch.no_grad():
            held = step.errors(predicts(reference), part)
        sums = step.backpropagate(
            part,
            labels,
            predict=predicts(policy),
            reference=held,
            objective=objective("dpo", beta=BETA),
            zero_point=torch.zeros(()),
            settings=Train(beta=BETA),
            total=PAIRS,
            backward=lambda loss: loss.backward(),
        )
        total += step.means(sums.tolist(), PAIRS)["loss"]
    return total, [parameter.grad.clone() for parameter in policy.parameters()]


def test_the_loss_is_equation_14_in_float64(networks, batch):
    """The networks run in float64 on both sides, so that what is compared is the objective and not their rounding."""
    policy, reference = exact = tuple(copy.deepcopy(network).double() for network in networks)
    embeddings = batch.conditions["embeddings"].double()
    wide = Batch(
        batch.noisy.double(),
        batch.times,
        {"embeddings": embeddings},
        batch.target.double(),
        batch.weight.double(),
        batch.depth,
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

    loss, _ = accumulate(exact, wide, PAIRS)
    assert loss == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_gradients_of_micro_batches_add_up_to_those_of_the_whole(networks, batch, micro):
    whole_loss, whole = accumulate(networks, batch, PAIRS)
    loss, parts = accumulate(networks, batch, micro)
    assert loss == pytest.approx(whole_loss, abs=1e-6)
    scale = max(gradient.abs().max() for gradient in whole)
    for one, other in zip(parts, whole, strict=True):
        assert (one - other).abs().max() <= 1e-5 * scale


def test_a_batch_is_turned_round_by_the_labels_and_weighted_by_its_times(batch):
    labels = Labels(torch.arange(2), torch.tensor([True, False]), torch.ones(2))
    part = only(batch, torch.arange(2))
    weighted = Batch(part.noisy, part.times, part.conditions, part.target, torch.tensor([1.0, 2.0] * 2), part.depth)
    found = torch.tensor([[0.1, 0.2], [0.3, 0.4]])  # on a, on b
    win, lose = step.turned(found, weighted, labels)
    assert win.tolist() == pytest.approx([0.1, 0.8])  # a won the first pair, b the second, whose weight is 2
    assert lose.tolist() == pytest.approx([0.3, 0.4])


def test_swapping_all_labels_negates_the_margin_and_turns_the_accuracy(batch):
    found, held = torch.rand(2, PAIRS), torch.rand(2, PAIRS)
    told = []
    for wins in (torch.tensor([True, False] * 3), torch.tensor([False, True] * 3)):
        labels = Labels(torch.arange(PAIRS), wins, torch.ones(PAIRS))
        pair = step.turned(found, batch, labels), step.turned(held, batch, labels)
        sums = step.measure(torch.zeros(PAIRS), *pair, batch.depth[:PAIRS], beta=BETA)
        told.append(step.means(sums.tolist(), PAIRS))
    assert told[0]["margin"] == pytest.approx(-told[1]["margin"], abs=1e-7)
    assert told[0]["implicit_accuracy"] == pytest.approx(1 - told[1]["implicit_accuracy"])
    assert told[0]["winner_drift"] == pytest.approx(told[1]["loser_drift"], abs=1e-7)


def test_accuracy_is_told_by_depth_and_null_where_no_pair_fell():
    policy, reference = PairErrors(*torch.tensor([[0.1, 0.3, 0.1], [0.2] * 3])), PairErrors(*torch.full((2, 3), 0.2))
    sums = step.measure(torch.zeros(3), policy, reference, torch.tensor([0.0, 0.2, 0.99]), beta=1.0)
    told = step.means(sums.tolist(), 3)
    assert told["accuracy_by_depth"] == [0.5, None, None, 1.0]  # one right and one wrong below 1/4, one right above 3/4
    assert told["pairs_by_depth"] == [2, 0, 0, 1]


def test_a_half_precision_prediction_is_compared_in_float32():
    torch.manual_seed(3)
    predicted, target = torch.randn(3, 4, 8, 8).bfloat16(), torch.randn(3, 4, 8, 8)
    expected = ((predicted.double() - target.double()) ** 2).mean(dim=(1, 2, 3))
    assert squared_error(predicted, target).double() == pytest.approx(expected, abs=1e-6)
