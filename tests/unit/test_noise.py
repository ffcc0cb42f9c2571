"""Draws depend on seed, pair and visit, and on nothing else."""

import torch
from diffusers import DDPMScheduler

from aifeedback_dpo.dpo import noise
from aifeedback_dpo.models.schedules import Steps

STEPS = Steps(DDPMScheduler(num_train_timesteps=1000)).times("uniform", 1.0, (3, 3))
TEN = Steps(DDPMScheduler(num_train_timesteps=10)).times("uniform", 1.0, (1, 1))


def test_a_draw_is_the_same_alone_and_in_any_batch():
    visits = [("a", 0), ("b", 0), ("a", 1)]
    steps, drawn = noise.draw(7, visits, shape=(2, 3, 3), time=STEPS)
    for at, visit in enumerate(visits):
        step, alone = noise.draw(7, [visit], shape=(2, 3, 3), time=STEPS)
        assert step.item() == steps[at].item()
        assert torch.equal(alone[0], drawn[at])


def test_seed_pair_and_visit_each_change_the_draw():
    base = noise.draw(7, [("a", 0)], shape=(2, 3, 3), time=STEPS)[1]
    for seed, visit in ((8, ("a", 0)), (7, ("b", 0)), (7, ("a", 1))):
        assert not torch.equal(base, noise.draw(seed, [visit], shape=(2, 3, 3), time=STEPS)[1])


def test_timesteps_cover_the_whole_range_evenly():
    steps, _ = noise.draw(0, [("pair", visit) for visit in range(4000)], shape=(1, 1, 1), time=TEN)
    counts = torch.bincount(steps, minlength=10)
    assert (counts - 400).abs().max() < 114  # 400 expected in each; six standard deviations


def test_caption_dropout_hits_the_stated_share():
    gone = noise.dropped(0, [("pair", visit) for visit in range(4000)], 0.2)
    assert 0.15 < sum(gone) / len(gone) < 0.25
    assert not any(noise.dropped(0, [("pair", visit) for visit in range(100)], 0.0))
