"""A picture is decided by its prompt and its seed, and by nothing around it."""

from dataclasses import replace

import numpy as np
import pytest

from aifeedback_dpo import config, models
from aifeedback_dpo.models import sampling
from aifeedback_dpo.models import shots as shooting
from aifeedback_dpo.settings import Model

pytestmark = pytest.mark.slow

PROMPTS = ["a red circle", "three green squares", "a blue cross above a red square"]
SOURCE = shooting.source(config.load("shapes", ["generate.steps=6", "generate.guidance=2.5"]))


@pytest.fixture(scope="module")
def model():
    return models.load(Model(id="shapes"))


@pytest.fixture(scope="module")
def shots():
    return shooting.plan(PROMPTS, [SOURCE], run_seed=0, candidates=3)


def pixels(pictures):
    return np.stack([np.asarray(picture, dtype=np.int16) for picture in pictures])


def test_neither_batch_size_nor_order_changes_a_picture(model, shots):
    whole = pixels(sampling.sample(model, shots))
    backwards = pixels(sampling.sample(model, shots[::-1]))[::-1]
    single = np.concatenate([pixels(sampling.sample(model, [shot])) for shot in shots])
    for other in (backwards, single):
        # float32 sums are not associative, so a value that lies on a rounding edge may fall one level (1/255) apart
        assert np.abs(whole - other).max() <= 1
        assert (whole != other).mean() < 1e-3


def test_candidates_and_prompts_have_seeds_of_their_own(shots):
    assert len({shot.seed for shot in shots}) == len(shots)
    assert len({shot.image_id for shot in shots}) == len(shots)


def test_policies_start_from_the_same_noise_and_have_ids_of_their_own(shots):
    policy = replace(SOURCE, policy="human/seed-0", policy_revision="hash")
    tuned = shooting.plan(PROMPTS, [policy], run_seed=0, candidates=3)
    assert [shot.seed for shot in tuned] == [shot.seed for shot in shots]
    assert not {shot.image_id for shot in tuned} & {shot.image_id for shot in shots}


def test_more_prompts_do_not_change_the_pictures_of_the_first(shots):
    fewer = shooting.plan(PROMPTS[:1], [SOURCE], run_seed=0, candidates=3)
    assert list(fewer) == shots[:3]
