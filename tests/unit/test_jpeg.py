"""The compressibility score is Pillow's own file size."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo import scorers
from aifeedback_dpo.scorers import jpeg
from aifeedback_dpo.settings import ScorerWeights

FLAT = Image.new("RGB", (64, 48), "teal")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.fixture
def scorer():
    return scorers.load("jpeg", ScorerWeights(id="none"))


def test_the_score_is_minus_the_kilobytes_that_pillow_writes_at_quality_95(scorer):
    sizes = []
    for picture in (FLAT, NOISE):
        file = BytesIO()
        picture.save(file, "JPEG", quality=95)
        sizes.append(-len(file.getvalue()) / 1000)
    scored = scorer.score([FLAT, NOISE], ["", "a cat"])
    assert scored.dtype == np.float32
    assert scored == pytest.approx(sizes)


def test_a_flat_picture_scores_above_noise(scorer):
    flat, noise = scorer.score([FLAT, NOISE], ["", ""])
    assert noise < flat < 0


def test_a_transparent_picture_is_scored_as_its_rgb(scorer):
    assert scorer.score([FLAT.convert("RGBA")], [""]) == scorer.score([FLAT], [""])


def test_another_pillow_is_another_recipe(scorer, monkeypatch):
    monkeypatch.setattr(jpeg, "__version__", "0")
    assert scorers.load("jpeg", ScorerWeights(id="none")).recipe != scorer.recipe


def test_a_change_of_arithmetic_is_another_recipe(scorer, monkeypatch):
    monkeypatch.setattr(jpeg, "VERSION", 0)
    assert scorers.load("jpeg", ScorerWeights(id="none")).recipe != scorer.recipe
