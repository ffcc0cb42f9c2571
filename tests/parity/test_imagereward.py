"""ImageReward against transformers' own BLIP, and what a checkpoint may not be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertTokenizer

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.scorers import imagereward
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.settings import ScorerWeights
from tests.parity.imagereward_reference import (
    MED_CONFIG,
    PROMPTS,
    WORDS,
    Reference,
    checkpoint,
    load,
    write,
    write_bert,
)
from tests.parity.references import pictures


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path)


def test_scores_are_those_of_transformers_blip_however_they_are_batched(folder, bert):
    scorer = load(folder, bert)
    expected = Reference(bert, heads=4, epsilon=1e-5).scores(pictures(), PROMPTS)
    scored = scorer.score(pictures(), PROMPTS)
    assert scored.dtype == np.float32
    assert scored == pytest.approx(expected, abs=1e-5)
    alone = [scorer.score([picture], [prompt])[0] for picture, prompt in zip(pictures(), PROMPTS, strict=True)]
    assert alone == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.1  # the pictures and prompts are told apart


def test_without_a_med_config_the_published_sizes_hold(folder, bert):
    (folder / "med_config.json").unlink()
    expected = Reference(bert, heads=12, epsilon=1e-12).scores(pictures(), PROMPTS)
    assert load(folder, bert).score(pictures(), PROMPTS) == pytest.approx(expected, abs=1e-5)


def test_a_preference_is_the_softmax_of_the_rewards_before_they_are_standardised(folder, bert):
    reference, scorer = Reference(bert, heads=4, epsilon=1e-5), load(folder, bert)
    rewards = torch.tensor([reference.reward(picture, "a cat") for picture in pictures()[:2]])
    a, b = scorer.score(pictures()[:2], ["a cat", "a cat"])
    assert scorer.preference(a, b) == pytest.approx(rewards.softmax(dim=0)[0].item(), abs=1e-5)


def test_a_prompt_is_read_up_to_35_tokens_and_the_cut_is_told(folder, bert):
    scorer = load(folder, bert)
    whole, more = " ".join(["cat"] * 33), " ".join(["cat"] * 34)  # and [CLS] and [SEP]
    scored = scorer.score([pictures()[0]] * 3, [whole, more, "cat"])
    assert scored[0] == scored[1] != scored[2]
    assert scorer.truncated == {more}


def test_a_picture_is_seen_once_for_all_scorers_on_the_same_weights(folder, bert, monkeypatch):
    batch, first, second = Pictures.of(pictures()), load(folder, bert), load(folder, bert)
    expected = first.score(batch, PROMPTS)
    monkeypatch.setattr(second.model.blip.visual_encoder, "forward", None)
    assert second.score(batch, PROMPTS).tolist() == expected.tolist()


def test_another_file_of_one_commit_is_another_tower_and_another_recipe(folder, bert):
    shutil.copy(folder / "ImageReward.pt", folder / "ImageReward-v2.pt")
    first, second = (load(folder, bert, file=file) for file in ("ImageReward.pt", "ImageReward-v2.pt"))
    assert first.tower != second.tower
    assert first.recipe != second.recipe


@pytest.mark.parametrize("version", ["VERSION", "BLIP_VERSION"])
def test_a_change_of_arithmetic_is_another_recipe(folder, bert, monkeypatch, version):
    before = load(folder, bert).recipe
    monkeypatch.setattr(imagereward, version, 0)
    assert load(folder, bert).recipe != before


def test_half_precision_is_another_recipe_and_near(folder, bert):
    exact, half = load(folder, bert), load(folder, bert, dtype="bfloat16")
    assert half.recipe != exact.recipe
    assert half.score(pictures(), PROMPTS) == pytest.approx(exact.score(pictures(), PROMPTS), abs=0.1)
    assert next(half.model.mlp.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "named"),
    [({"hidden_act": "relu"}, "hidden_act is relu, and only gelu is known"), ({"num_attention_heads": 5}, "5 heads")],
)
def test_a_med_config_that_does_not_fit_is_one_line(folder, bert, change, named):
    (folder / "med_config.json").write_text(json.dumps(MED_CONFIG | change))
    with pytest.raises(ModelMissing, match=rf"{named}$"):
        load(folder, bert)


def missing(state: dict[str, Tensor]) -> None:
    del state["blip.text_encoder.encoder.layer.1.crossattention.self.key.bias"]


def unknown(state: dict[str, Tensor]) -> None:
    state["blip.text_encoder.pooler.dense.bias"] = torch.zeros(1)


def reshaped(state: dict[str, Tensor]) -> None:
    state["mlp.layers.6.weight"] = torch.zeros(8, 64)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (missing, "layer.1.crossattention.self.key.bias"),
        (unknown, "pooler.dense.bias"),
        (reshaped, "mlp.layers.6.weight"),
    ],
)
def test_a_tensor_that_does_not_fit_is_one_line_with_its_name(folder, bert, spoil, named):
    state = checkpoint()
    spoil(state)
    torch.save(state, folder / "ImageReward.pt")
    with pytest.raises(ModelMissing, match=rf"does not hold ImageReward weights: .*{named}"):
        load(folder, bert)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(folder, bert):
    torch.save({"a": Trap(folder / "ran")}, folder / "ImageReward.pt")
    with pytest.raises(ModelMissing, match="does not hold ImageReward weights"):
        load(folder, bert)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("content", [{"model": {}}, [torch.zeros(1)], b"no checkpoint"])
def test_a_file_that_is_no_table_of_tensors_is_refused(folder, bert, content):
    if isinstance(content, bytes):
        (folder / "ImageReward.pt").write_bytes(content)
    else:
        torch.save(content, folder / "ImageReward.pt")
    with pytest.raises(ModelMissing, match="does not hold ImageReward weights"):
        load(folder, bert)


def test_the_tokenizer_may_lie_beside_the_checkpoint_and_must_lie_somewhere(folder, bert):
    alone = ScorerWeights(id=str(folder / "ImageReward.pt"))
    with pytest.raises(ModelMissing, match="holds no tokenizer; set `base`"):
        scorers.load("imagereward", alone)
    BertTokenizer.from_pretrained(bert).save_pretrained(folder)
    expected = load(folder, bert).score(pictures(), PROMPTS)
    assert scorers.load("imagereward", alone).score(pictures(), PROMPTS).tolist() == expected.tolist()


def test_a_tokenizer_with_more_words_than_the_checkpoint_is_refused(folder, tmp_path_factory):
    other = write_bert(tmp_path_factory.mktemp("other"), [*WORDS, *map(str, range(20))])
    with pytest.raises(ModelMissing, match=r"has 35 tokens and .* knows 20"):
        load(folder, other)
