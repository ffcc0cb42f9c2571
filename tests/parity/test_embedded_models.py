"""The embedded models and the scorers without weights against plain transformers and their promises."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from aifeedback_dpo import scorers, shapes
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.settings import ScorerWeights
from aifeedback_dpo.shapes import grammar, oracle
from aifeedback_dpo.shapes.build import vocabulary
from aifeedback_dpo.shapes.renderer import render
from tests.parity.references import half_cosines, transformers_images, transformers_texts

SHAPES = ["a red circle", "two green crosses", "a blue square above a cyan triangle", "a zebra " * 30, "a red circle"]


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    rendered = [render(grammar.scenes()[prompt], np.random.default_rng(at)) for at, prompt in enumerate(SHAPES[:3])]
    return [*rendered, rendered[0].resize((90, 60)), rendered[1].resize((51, 133))]


@pytest.mark.parametrize("name", ["clip", "pickscore"])
def test_the_embedded_scorers_are_what_plain_transformers_makes_of_their_folders(drawn, name):
    folder = shapes.weights(name)
    cosines = half_cosines(transformers_images(folder, drawn), transformers_texts(folder, SHAPES))
    scorer = scorers.load(name, ScorerWeights(id="shapes"))
    scale = scorer.towers.logit_scale if name == "pickscore" else 1.0
    assert scorer.score(drawn, SHAPES) / scale == pytest.approx(cosines, abs=1e-5)


def test_the_embedded_aesthetic_head_is_one_affine_map_of_the_normalised_embedding(drawn):
    embeddings = transformers_images(shapes.weights("clip"), drawn)
    head = load_file(shapes.weights("aesthetic") / "head.safetensors")
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    expected = unit @ head["weight"][0].double() + head["bias"].double()
    scored = scorers.load("aesthetic", ScorerWeights(id="shapes")).score(drawn, SHAPES)
    assert scored == pytest.approx(expected.numpy(), abs=1e-4)


def test_the_embedded_scores_are_what_they_were():
    """Pictures of the model's own size need no resizing, so no change of preprocessing can move them."""
    prompts = grammar.prompts("eval", 3)
    seen = [render(grammar.scenes()[prompt], np.random.default_rng(at)) for at, prompt in enumerate(prompts)]
    for name, expected in WERE.items():
        assert scorers.load(name, ScorerWeights(id="shapes")).score(seen, prompts) == pytest.approx(expected, abs=2e-5)


WERE = {
    "clip": [0.8974464, 0.89426506, 0.9734117],
    "pickscore": [10.454297, 10.056086, 11.641824],
    "aesthetic": [5.1235647, 6.203274, 7.3039403],
}


def test_random_scores_are_the_same_for_the_same_picture_and_differ_otherwise(drawn):
    toss = scorers.load("random", ScorerWeights(id="none"))
    scored = toss.score(drawn, SHAPES)
    assert scored.tolist() == toss.score(drawn[:], SHAPES).tolist()
    assert len(set(scored.tolist())) == len(scored)


def test_random_scores_are_of_the_rgb_pixels_and_arrays_will_do(drawn):
    toss = scorers.load("random", ScorerWeights(id="none"))
    expected = toss.score(drawn, SHAPES).tolist()
    assert toss.score([image.convert("RGBA") for image in drawn], SHAPES).tolist() == expected
    assert toss.score([np.asarray(image) for image in drawn], SHAPES).tolist() == expected


@pytest.mark.parametrize("name", ["random", "jpeg"])
def test_weights_for_a_scorer_that_has_none_are_refused(name):
    with pytest.raises(UserError, match=rf"{name} takes no weights, and id is 'own'; leave it out, or write 'none'"):
        scorers.load(name, ScorerWeights(id="own"))


@pytest.mark.slow
def test_the_autoencoder_keeps_what_the_oracle_reads():
    pipeline = StableDiffusionPipeline.from_pretrained(shapes.weights("pipeline"), safety_checker=None)
    prompts = grammar.prompts("eval", 100)
    drawn = [render(grammar.scenes()[prompt], np.random.default_rng(at)) for at, prompt in enumerate(prompts)]
    pixels = (
        torch.from_numpy(np.stack([np.asarray(picture) for picture in drawn])).permute(0, 3, 1, 2).float() / 127.5 - 1
    )
    with torch.no_grad():
        rebuilt = pipeline.vae.decode(pipeline.vae.encode(pixels).latents).sample.clamp(-1, 1)
    arrays = ((rebuilt + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    right = [
        oracle.read(Image.fromarray(array)).correct(grammar.scenes()[prompt])
        for array, prompt in zip(arrays, prompts, strict=True)
    ]
    assert sum(right) >= 95  # 98.6 % on 2,000; 95 of 100 is three standard deviations below


def test_the_vocabulary_is_the_same_however_often_it_is_learnt():
    for file in ("clip/tokenizer.json", "pickscore/tokenizer.json", "pipeline/tokenizer/tokenizer.json"):
        shipped = json.loads(shapes.weights(file).read_text())["model"]
        assert vocabulary.tokenizer().get_vocab() == shipped["vocab"]
        assert [list(merge) for merge in shipped["merges"]] == json.loads(
            vocabulary.tokenizer().backend_tokenizer.to_str()
        )["model"]["merges"]


def test_the_shipped_weights_are_small_and_the_card_has_their_figures():
    files = [path for path in shapes.weights("").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
    configs = [json.loads(path.read_text()) for path in files if path.name == "config.json"]
    assert {config.get("_name_or_path", "shapes") for config in configs} <= {"shapes", ""}
    figures = json.loads(shapes.weights("figures.json").read_text())
    assert figures["oracle_agrees_with_renderer"] >= 0.99
    assert figures["oracle_agrees_with_reconstruction"] >= 0.97
    assert f"{figures['base_correct']:.1%}" in shapes.weights("README.md").read_text()
