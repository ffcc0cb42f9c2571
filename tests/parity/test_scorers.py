"""The scorers against plain transformers arithmetic, and the embedded models against their promises."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from aifeedback_dpo import scorers, shapes
from aifeedback_dpo.config import Weights
from aifeedback_dpo.shapes import grammar, oracle
from aifeedback_dpo.shapes.build import vocabulary
from aifeedback_dpo.shapes.renderer import render

pytestmark = pytest.mark.slow

PROMPTS = ["a red circle", "two green crosses", "a blue square above a cyan triangle", "a zebra " * 30]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    drawn = [render(grammar.scenes()[prompt], np.random.default_rng(at)) for at, prompt in enumerate(PROMPTS[:3])]
    return [*drawn, drawn[0].resize((90, 60))]


def reference(folder: str, pictures, prompts):
    """Cosine and temperature, one picture at a time, with nothing of ours."""
    model = CLIPModel.from_pretrained(shapes.weights(folder), dtype=torch.float32).eval()
    processor = CLIPImageProcessor.from_pretrained(shapes.weights(folder))
    tokenizer = CLIPTokenizerFast.from_pretrained(shapes.weights(folder))
    cosines, embeddings = [], []
    for picture, prompt in zip(pictures, prompts, strict=True):
        pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
        tokens = tokenizer(prompt, truncation=True, return_tensors="pt")
        with torch.no_grad():
            image = model.get_image_features(pixels).pooler_output[0].double()
            text = model.get_text_features(**tokens).pooler_output[0].double()
        embeddings.append(image / image.norm())
        cosines.append(float(image @ text / image.norm() / text.norm()))
    return np.array(cosines), model.logit_scale.exp().item(), torch.stack(embeddings)


def test_clip_is_the_cosine(pictures):
    cosines, _, _ = reference("clip", pictures, PROMPTS)
    assert scorers.load("clip", Weights(id="shapes")).score(pictures, PROMPTS) == pytest.approx(cosines, abs=1e-5)


def test_pickscore_is_the_cosine_times_its_temperature(pictures):
    cosines, temperature, _ = reference("pickscore", pictures, PROMPTS)
    scored = scorers.load("pickscore", Weights(id="shapes")).score(pictures, PROMPTS)
    assert scored / temperature == pytest.approx(cosines, abs=1e-5)


def test_the_aesthetic_score_is_one_affine_map_of_the_normalised_embedding(pictures):
    _, _, embeddings = reference("clip", pictures, PROMPTS)
    head = load_file(shapes.weights("aesthetic") / "head.safetensors")
    expected = embeddings @ head["weight"][0].double() + head["bias"].double()
    scored = scorers.load("aesthetic", Weights(id="shapes")).score(pictures, PROMPTS)
    assert scored == pytest.approx(expected.numpy(), abs=1e-4)


def test_random_scores_are_the_same_for_the_same_picture_and_differ_otherwise(pictures):
    toss = scorers.load("random", Weights(id="none"))
    scored = toss.score(pictures, PROMPTS)
    assert scored.tolist() == toss.score(pictures[:], PROMPTS).tolist()
    assert len(set(scored.tolist())) == len(scored)


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
