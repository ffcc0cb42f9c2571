"""Aesthetic heads: LAION's published numbers, and files that are not its heads or not for this CLIP."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from aifeedback_dpo.scorers import aesthetic
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import LocatedFile
from tests.parity.references import published_head

LAION = Path(__file__).parents[3] / "shared" / "data" / "laion"


@pytest.mark.skipif(not LAION.is_dir(), reason="LAION's published head is not on this machine")
def test_laions_published_head_gives_its_published_numbers():
    file = LAION / "sac+logos+ava1-l14-linearMSE.pth"
    vectors = torch.from_numpy(np.stack([np.load(LAION / f"vit_l_14_embeddings/rating{at}.npy") for at in range(10)]))
    layers = aesthetic.read_head(LocatedFile(file, str(file), "r"))
    rated = aesthetic.rate(layers, vectors.float().reshape(10, 768))
    assert rated.tolist() == pytest.approx(
        [1.6555, 2.3593, 3.0698, 3.6725, 4.2380, 4.7010, 5.0731, 5.3654, 5.5767, 5.7468], abs=1e-4
    )


def test_a_published_head_that_has_changed_is_an_error(tmp_path):
    file = tmp_path / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(published_head("v2", 768).state_dict(), file)
    with pytest.raises(DataError, match="21dd590f3ccd"):
        aesthetic.read_head(LocatedFile(file, str(file), "r"))


def test_a_head_for_another_clip_is_an_error_with_both_widths(folder, tmp_path):
    torch.save(published_head("v1", 24).state_dict(), tmp_path / "v1.pth")
    with pytest.raises(UserError, match=r"24 numbers.*16"):
        scorers.load("aesthetic", ScorerWeights(id=str(tmp_path / "v1.pth"), base=Weights(id=str(folder))))


def test_a_file_that_is_no_head_is_an_error(tmp_path):
    torch.save({"layers.0.weight": torch.ones(1, 16), "layers.0.bias": torch.ones(1)}, tmp_path / "odd.pth")
    with pytest.raises(ModelMissing, match="no aesthetic head"):
        aesthetic.read_head(LocatedFile(tmp_path / "odd.pth", "odd", "r"))
