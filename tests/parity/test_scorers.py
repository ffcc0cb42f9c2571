"""The scorers against plain transformers and open_clip, on towers that they share, and what makes another recipe of one."""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from aifeedback_dpo import provenance, scorers
from aifeedback_dpo.errors import ModelMissing
from aifeedback_dpo.scorers import aesthetic, clip, hps, open_clip_towers, pickscore, towers
from aifeedback_dpo.scorers.catalogue import CATALOGUE
from aifeedback_dpo.scorers.network import open_clip_tokens
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import LocatedFile
from tests.parity.references import CASES, LONG, PROMPTS, Case, pictures, published_head, write_clip, write_hps

ON_CLIP = [name for name in CASES if not name.startswith("aesthetic")]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Callable[[str], Case]:
    """A case by name, made once."""
    made: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in made:
            made[name] = CASES[name](tmp_path_factory.mktemp("models"))
        return made[name]

    return get


def forget(scorer: Any) -> None:
    """Makes it read each prompt anew, in the company it has now."""
    scorer.towers._read.clear()


@pytest.mark.parametrize("name", CASES)
def test_a_scorer_gives_the_numbers_of_its_reference(case, name):
    assert case(name).difference(pictures(6), PROMPTS) <= 1e-5
    forget(case(name).scorer)
    assert case(name).difference(pictures(6)[5:], PROMPTS[5:]) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_a_batch_scores_as_one_by_one(case, name):
    scorer, unit = case(name).scorer, case(name).unit
    forget(scorer)
    together = scorer.score(pictures(6), PROMPTS)
    forget(scorer)
    alone = [scorer.score([image], [prompt])[0] for image, prompt in zip(pictures(6), PROMPTS, strict=True)]
    assert together / unit == pytest.approx(np.array(alone) / unit, abs=1e-6)
    assert together.dtype == np.float32
    assert scorer.score([], []).shape == (0,)


@pytest.mark.parametrize("name", ON_CLIP)
def test_a_long_prompt_is_cut_with_its_end_token_kept_and_is_named(case, name):
    """Cut without it, all long prompts would be read at the same place, or have the same vector."""
    scorer, image = case(name).scorer, pictures(1)[0]
    prompts = [f"a blue whale, {LONG}", f"an old red tractor, {LONG}"]
    one, other = scorer.score([image, image], prompts)
    assert abs(one - other) > 1e-3
    scorer.score([image], ["a short one"])
    assert {*prompts} <= scorer.truncated
    assert "a short one" not in scorer.truncated


def test_a_word_whose_id_is_that_of_padding_costs_no_end_token():
    tokenizer = open_clip.SimpleTokenizer()
    ids, cut = open_clip_tokens(tokenizer, 77, to_limit=False)(["a cat !="])
    assert ids.tolist() == [[49406, 320, 2368, 0, 284, 49407]]  # start, a, cat, !, =, end
    assert cut == [False]


def test_a_prompt_that_just_fits_is_not_cut(case):
    for name in ("clip, QuickGELU", "clip, open_clip"):
        scorer, image = case(name).scorer, pictures(1)[0]
        fits, cut = " ".join(["cat"] * 75), " ".join(["cat"] * 76)  # 77 tokens with the first and the last
        scorer.score([image, image], [fits, cut])
        assert {fits, cut} & scorer.truncated == {cut}


def test_bfloat16_towers_do_not_make_cosines_tie(folder):
    scorer = scorers.load("clip", ScorerWeights(id=str(folder), dtype="bfloat16"))
    scored = scorer.score(pictures(64), ["a red circle"] * 64)
    assert len(set(scored.tolist())) == 64
    assert len(set(torch.from_numpy(scored).bfloat16().tolist())) < 64
    exact = scorers.load("clip", ScorerWeights(id=str(folder))).score(pictures(64), ["a red circle"] * 64)
    assert scored == pytest.approx(exact, abs=0.05)


def test_scorers_on_the_same_weights_share_one_tower_that_runs_once_a_batch_and_reads_a_prompt_once(folder, tmp_path):
    torch.save(published_head("v2").state_dict(), tmp_path / "v2.pth")
    clip = scorers.load("clip", ScorerWeights(id=str(folder)))
    rating = scorers.load("aesthetic", ScorerWeights(id=str(tmp_path / "v2.pth"), base=Weights(id=str(folder))))
    assert rating.towers is clip.towers
    model, passes = clip.towers.network.module, {"image": 0, "text": 0}

    def counting(tower: str) -> Callable[..., None]:
        return lambda *_: passes.update({tower: passes[tower] + 1})

    hooks = [
        model.vision_model.register_forward_hook(counting("image")),
        model.text_model.register_forward_hook(counting("text")),
    ]
    texts = ["a prompt that nobody has read", "another one", "another one"]
    batch = Pictures.of(pictures(3))
    clip.score(batch, texts)
    rating.score(batch, texts)
    assert passes == {"image": 1, "text": 1}
    clip.score(pictures(3), texts)
    assert passes == {"image": 2, "text": 1}
    for hook in hooks:
        hook.remove()


@pytest.mark.slow
def test_towers_are_let_go_when_nobody_holds_them(tmp_path):
    weights = Weights(id=str(write_clip(tmp_path / "clip", seed=9)))
    held = towers.load(weights, "clip")
    assert towers.load(weights, "clip") is held
    assert towers.load(weights.model_copy(update={"dtype": "bfloat16"}), "clip") is not held
    known = len(towers._SHARED)
    del held
    gc.collect()
    assert len(towers._SHARED) < known


def test_prompts_are_kept_up_to_a_bound_and_the_oldest_go_first(folder, monkeypatch):
    monkeypatch.setattr(towers, "PROMPTS_KEPT", 2)
    loaded = towers.load(Weights(id=str(folder)), "clip")
    rows = loaded.embed_prompts(["one", "two", "three"])
    assert list(loaded._read) == ["two", "three"]
    assert loaded.embed_prompts(["two", "one"]) == pytest.approx(rows[[1, 0]], abs=1e-6)
    assert list(loaded._read) == ["two", "one"]


@pytest.mark.slow
def test_a_recipe_tells_weights_dtype_and_preprocessing_apart_and_nothing_else(folder, tmp_path):
    def recipe(at: Path, **how: str) -> str:
        return scorers.load("clip", ScorerWeights(id=str(at), **how)).recipe

    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    assert recipe(moved) == recipe(folder)
    assert recipe(folder, dtype="bfloat16") != recipe(folder)
    said = json.loads((moved / "preprocessor_config.json").read_text())
    smooth = Path(shutil.copytree(folder, tmp_path / "bilinear"))
    (smooth / "preprocessor_config.json").write_text(json.dumps({**said, "resample": 2}))
    assert recipe(smooth) != recipe(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "logit_scale": tensors["logit_scale"] + 1}, moved / "model.safetensors")
    provenance.fingerprint.cache_clear()
    assert recipe(moved) != recipe(folder)
    checkpoint = str(write_hps(tmp_path / "hps"))
    today, legacy = (scorers.load(name, ScorerWeights(id=checkpoint)).recipe for name in ("hpsv2.1", "hpsv2.1-legacy"))
    assert today != legacy


@pytest.mark.parametrize(
    ("name", "module"),
    [("clip", clip), ("pickscore", pickscore), ("aesthetic", aesthetic), ("hpsv2.1", hps), ("clip", towers)],
)
def test_a_change_of_arithmetic_is_another_recipe(name, module, tmp_path, monkeypatch):
    weights = ScorerWeights(id=str(write_hps(tmp_path)) if name == "hpsv2.1" else "shapes")
    before = scorers.load(name, weights).recipe
    monkeypatch.setattr(module, "VERSION", 0)
    assert scorers.load(name, weights).recipe != before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_temperature_is_read_in_full_whatever_the_towers_run_in(folder, dtype):
    exact, half = (towers.load(Weights(id=str(folder), dtype=each), "clip") for each in ("float32", dtype))
    assert half.logit_scale == exact.logit_scale
    assert {parameter.dtype for parameter in half.network.module.parameters()} == {getattr(torch, dtype)}


def test_two_files_of_one_commit_are_two_models(tmp_path):
    old, new = (LocatedFile(tmp_path / name, "xswu/HPSv2", "c" * 40) for name in ("HPS_v2.pt", "HPS_v2.1.pt"))
    identities = {open_clip_towers.architecture_beside(file, "ViT-H-14").identity for file in (old, new)}
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("name", "slope"),
    [("pickscore", 1.0), ("clip", None), ("clip-h", None), ("hpsv2", 100.0), ("hpsv2.1-legacy", 100.0)],
)
def test_a_preference_is_defined_only_where_a_model_was_trained_on_preferences(name, slope):
    module, _, attribute = CATALOGUE[name].code.partition(":")
    code = getattr(__import__(module, fromlist=[attribute]), attribute)
    assert code.preference.slope == slope


@pytest.mark.parametrize("name", ["pickscore", "clip", "clip-h", "aesthetic", "hpsv2", "hpsv2.1-legacy"])
def test_without_its_weights_a_published_scorer_says_what_to_fetch_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelMissing, match="hf download") as found:
        scorers.load(name, CATALOGUE[name].weights)
    assert "\n" not in str(found.value)
