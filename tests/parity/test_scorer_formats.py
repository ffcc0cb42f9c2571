"""Weights of scorers as folders, files and names of open_clip: read as they say, or an error and never a guess."""

import json
import os
import pickle
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from aifeedback_dpo import scorers
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.scorers import open_clip_towers, towers
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.weights import Located
from tests.parity.references import PROMPTS, open_clip_settings, pictures, with_code, write_hps, write_open_clip


def test_a_step_of_preprocessing_that_is_not_known_is_an_error_and_not_left_out(folder, tmp_path):
    at = Path(shutil.copytree(folder, tmp_path / "clip"))
    said = json.loads((at / "preprocessor_config.json").read_text())
    for key, value in (
        ("crop_size", 28),
        ("size", {"longest_edge": 32}),
        ("do_center_crop", False),
        ("do_rescale", False),
    ):
        (at / "preprocessor_config.json").write_text(json.dumps({**said, key: value}))
        with pytest.raises(UserError, match=r"crop|do_rescale"):
            towers.load(Weights(id=str(at)), "clip")


def test_preprocessing_that_is_not_said_is_that_of_openais_clip(folder, tmp_path):
    at = Path(shutil.copytree(folder, tmp_path / "clip"))
    (at / "preprocessor_config.json").unlink()
    without, with_it = (scorers.load("clip", ScorerWeights(id=str(path))) for path in (at, folder))
    assert without.towers.network.recipe == with_it.towers.network.recipe


def test_a_kind_of_model_that_is_not_known_is_an_error_that_names_those_that_are(folder, tmp_path):
    at = Path(shutil.copytree(folder, tmp_path / "blip"))
    (at / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with pytest.raises(UserError, match=r"'blip'.*clip; siglip"):
        towers.load(Weights(id=str(at)), "clip")


def test_a_tensor_that_is_not_there_is_never_made_up(folder, tmp_path):
    at = Path(shutil.copytree(folder, tmp_path / "clip"))
    tensors = load_file(at / "model.safetensors")
    save_file(
        {name: row for name, row in tensors.items() if name != "visual_projection.weight"}, at / "model.safetensors"
    )
    with pytest.raises(ModelMissing, match=r"no tensor visual_projection\.weight"):
        towers.load(Weights(id=str(at)), "clip")
    checkpoint = write_hps(tmp_path / "hps")
    saved = torch.load(checkpoint, weights_only=True)
    del saved["state_dict"]["visual.proj"]
    torch.save(saved, checkpoint)
    with pytest.raises(ModelMissing, match=r"visual\.proj"):
        scorers.load("hpsv2.1", ScorerWeights(id=str(checkpoint)))


def test_a_tensor_of_another_shape_is_one_line_with_both_shapes(folder, tmp_path):
    at = Path(shutil.copytree(folder, tmp_path / "clip"))
    tensors = load_file(at / "model.safetensors")
    save_file({**tensors, "visual_projection.weight": torch.ones(16, 24)}, at / "model.safetensors")
    with pytest.raises(ModelMissing, match=r"visual_projection\.weight has the shape \(16, 24\).* wants \(16, 32\)"):
        towers.load(Weights(id=str(at)), "clip")


@pytest.mark.parametrize("said", [{}, {"trust_remote_code": True}])
def test_the_code_of_a_folder_never_runs_and_nobody_is_asked_whether_it_may(said, folder, tmp_path, monkeypatch):
    known, unknown = Path(shutil.copytree(folder, tmp_path / "known")), write_open_clip(tmp_path / "unknown")
    settings = json.loads((unknown / "open_clip_config.json").read_text())
    settings["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "theirs", "tokenizer_kwargs": said}
    (unknown / "open_clip_config.json").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("it asked on stdin"))
    # transformers has a tokenizer of its own for a CLIP
    towers.load(Weights(id=str(with_code(known, "AutoTokenizer"))), "clip")
    with pytest.raises(ModelMissing, match="custom code"):
        towers.load(Weights(id=str(with_code(unknown, "AutoTokenizer"))), "clip")
    assert not (tmp_path / "ran").exists()


class Malice:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_pickle_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"state_dict": Malice()}, protocol=2))
    torch.save({"state_dict": Malice()}, tmp_path / "worse.pt")
    for file in ("bad.pt", "worse.pt"):
        with pytest.raises(ModelMissing) as found:
            scorers.load("hpsv2.1", ScorerWeights(id=file))
        assert "\n" not in str(found.value)
    assert not (tmp_path / "ran").exists()


def test_a_text_tower_that_only_the_hub_has_is_refused_before_anybody_asks_there(tmp_path):
    text = {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}
    for at in (tmp_path / "clip", tmp_path / "hps"):
        at.mkdir()
        (at / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip_settings(text_cfg=text)}))
    (tmp_path / "hps" / "HPS.pt").touch()
    with pytest.raises(UserError, match="has roberta-base of the hub as its text tower"):
        towers.load(Weights(id=str(tmp_path / "clip")), "clip")
    with pytest.raises(UserError, match="has roberta-base of the hub as its text tower"):
        scorers.load("hpsv2.1", ScorerWeights(id=str(tmp_path / "hps" / "HPS.pt")))


def test_hps_asks_for_the_version_where_a_folder_has_several():
    with pytest.raises(UserError, match=r"HPS_v2\.1_compressed"):
        scorers.load("hpsv2.1", ScorerWeights(id="xswu/HPSv2"))


@pytest.fixture
def tiny_in_open_clip(tmp_path, monkeypatch) -> str:
    """An architecture and a tag of it in open_clip's tables, and its weights in the hub's cache."""
    (tmp_path / "tiny-clip.json").write_text(json.dumps(open_clip_settings(quick_gelu=True)))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    tags = {"ours": {**open_clip.get_pretrained_cfg("ViT-L-14", "openai"), "hf_hub": "team/tiny/"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", tags)
    snapshot = tmp_path / "cache" / "models--team--tiny" / "snapshots" / ("c" * 40)
    write_open_clip(snapshot, quick_gelu=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return "open_clip:tiny-clip/ours"


def test_a_name_of_open_clip_is_its_architecture_and_the_weights_of_its_table(tiny_in_open_clip, tmp_path):
    at = write_open_clip(tmp_path / "same", quick_gelu=True)
    expected = scorers.load("clip", ScorerWeights(id=str(at))).score(pictures(6), PROMPTS)
    file = ScorerWeights(id="open_clip:tiny-clip", file=str(at / "open_clip_model.safetensors"))
    for weights in (ScorerWeights(id=tiny_in_open_clip), file):
        assert scorers.load("clip", weights).score(pictures(6), PROMPTS) == pytest.approx(expected, abs=1e-6)


def test_weights_of_quickgelu_never_run_with_gelu(tmp_path):
    with pytest.raises(UserError, match="write open_clip:ViT-L-14-quickgelu/openai"):
        towers.load(Weights(id="open_clip:ViT-L-14/openai"), "clip")
    at = write_open_clip(tmp_path / "clip")
    with pytest.raises(UserError, match="QuickGELU"):
        open_clip_towers.folder(Located(at, "timm/vit_large_patch14_clip_224.openai", "r"))


def test_a_file_of_an_architecture_with_two_activations_needs_one_to_be_named(tmp_path, monkeypatch):
    """The tensors are the same, so only the scores would tell."""
    for name, quick_gelu in (("tiny-two", False), ("tiny-two-quickgelu", True)):
        (tmp_path / f"{name}.json").write_text(json.dumps(open_clip_settings(quick_gelu=quick_gelu)))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    file = str(write_open_clip(tmp_path / "clip") / "open_clip_model.safetensors")
    with pytest.raises(
        UserError, match=r"write open_clip:tiny-two-quickgelu for .* open_clip:tiny-two-gelu for .*LAION"
    ):
        towers.load(ScorerWeights(id="open_clip:tiny-two", file=file), "clip")
    plain = towers.load(Weights(id=str(tmp_path / "clip")), "clip")
    gelu, quick = (
        towers.load(ScorerWeights(id=f"open_clip:tiny-two-{activation}", file=file), "clip")
        for activation in ("gelu", "quickgelu")
    )
    expected = plain.cosines(pictures(6), PROMPTS)
    assert gelu.cosines(pictures(6), PROMPTS) == pytest.approx(expected, abs=1e-6)
    assert quick.cosines(pictures(6), PROMPTS) != pytest.approx(expected, abs=1e-3)
    assert gelu.stamp != quick.stamp


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("open_clip:ViT-Z-14/openai", "no architecture"),
        ("open_clip:ViT-H-14/openai", "Known: .*laion2b_s32b_b79k"),
        ("open_clip:ViT-H-14", "names no weights"),
        ("open_clip:ViT-B-16-SigLIP/webli", "tokenizer of timm/ViT-B-16-SigLIP"),
        ("open_clip:roberta-ViT-B-32/laion2b_s12b_b32k", "has roberta-base of the hub as its text tower"),
        ("open_clip:ViT-H-14-gelu", "write open_clip:ViT-H-14/TAG"),
    ],
)
def test_a_name_that_open_clip_does_not_have_is_an_error_with_the_next_step(name, says):
    with pytest.raises(UserError, match=says):
        towers.load(Weights(id=name), "clip")
