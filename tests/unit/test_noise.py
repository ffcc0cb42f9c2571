"""Draws depend on seed, pair and number, and on nothing else."""

import torch
from diffusers import DDPMScheduler

from aifeedback_dpo.dpo import noise
from aifeedback_dpo.models.schedules import Steps

STEPS = Steps(DDPMScheduler(num_train_timesteps=1000)).times("uniform", 1.0, (3, 3))
TEN = Steps(DDPMScheduler(num_train_timesteps=10)).times("uniform", 1.0, (1, 1))
MANY = [("pair", number) for number in range(4000)]


def test_a_draw_is_the_same_alone_and_in_any_batch():
    draws = [("a", 0), ("b", 0), ("a", 1)]
    steps, drawn = noise.draw(7, draws, shape=(2, 3, 3), time=STEPS)
    for at, one in enumerate(draws):
        step, alone = noise.draw(7, [one], shape=(2, 3, 3), time=STEPS)
        assert step.item() == steps[at].item()
        assert torch.equal(alone[0], drawn[at])


def test_seed_pair_and_number_each_change_the_draw():
    base = noise.draw(7, [("a", 0)], shape=(2, 3, 3), time=STEPS)[1]
    for seed, one in ((8, ("a", 0)), (7, ("b", 0)), (7, ("a", 1))):
        assert not torch.equal(base, noise.draw(seed, [one], shape=(2, 3, 3), time=STEPS)[1])


def test_timesteps_cover_the_whole_range_evenly():
    steps, _ = noise.draw(0, MANY, shape=(1, 1, 1), time=TEN)
    counts = torch.bincount(steps, minlength=10)
    assert (counts - 400).abs().max() < 114  # 400 expected in each; six standard deviations


def test_caption_dropout_hits_the_stated_share():
    gone = noise.dropped(0, MANY, 0.2)
    assert 0.15 < sum(gone) / len(gone) < 0.25
    assert not any(noise.dropped(0, MANY[:100], 0.0))


def test_half_of_the_draws_are_mirrored_whatever_is_dropped():
    mirrored, gone = noise.flipped(0, MANY), noise.dropped(0, MANY, 0.5)
    assert 0.46 < sum(mirrored) / len(mirrored) < 0.54  # five standard deviations of a fair coin are 0.04
    both = sum(one and other for one, other in zip(mirrored, gone, strict=True))
    assert 0.21 < both / len(mirrored) < 0.29
