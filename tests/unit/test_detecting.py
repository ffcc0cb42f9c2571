"""Detectors of transformers, and the colours that a CLIP names: what they see of pictures made by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BatchFeature,
)

from aifeedback_dpo import shapes
from aifeedback_dpo.compare import colours, detectors
from aifeedback_dpo.compare.geneval import COLOURS, Detection, understood
from aifeedback_dpo.errors import ModelMissing, UserError
from aifeedback_dpo.scorers import towers
from aifeedback_dpo.settings import Weights
from tests.detected import loads, mask2former, owlv2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {"mask2former": mask2former(root / "mask2former"), "owlv2": owlv2(root / "owlv2")}


@pytest.mark.parametrize("kind", ["mask2former", "owlv2"])
def test_a_detector_in_the_real_format_looks_at_pictures_of_any_shape(tiny, kind):
    detector = loads(tiny[kind])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    objects = detector.detect(picture, ["person"])
    assert detector.kind == kind
    assert objects
    for one in objects:
        left, top, right, bottom = one.box
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        assert 0 <= one.score <= 1
        if kind == "mask2former":
            assert one.label in ("person", "dining table", "tv", "computer mouse")
            assert one.mask is not None
            assert one.mask.shape == (40, 60)
        else:
            assert one.label in detectors.CLASSES
            assert one.mask is None


def drawn(masks: torch.Tensor, chances: torch.Tensor, seen: dict[str, torch.Tensor]) -> detectors.Detector:
    """A Mask2Former that answers with these logits, of masks (queries h w) and of classes (queries classes + 1)."""
    out = SimpleNamespace(masks_queries_logits=masks[None], class_queries_logits=chances[None])

    def model(**_: object) -> SimpleNamespace:
        return out

    model.config = SimpleNamespace(id2label={0: "aeroplane", 1: "dog"})
    cpu = torch.device("cpu")
    return detectors.Detector("tiny", "mask2former", model, lambda **_: BatchFeature(seen), cpu)


def test_a_mask_gives_its_box_and_the_score_of_class_times_mask():
    """Query 0: logits log 3 and 0 among three classes, 3/5 dog; its mask is the left top quarter with logit 2, sigmoid
    0.8808. Query 1 sees nothing anywhere, though it is sure of an aeroplane."""
    masks = torch.full((2, 4, 4), -2.0)
    masks[0, :2, :2] = 2.0
    chances = torch.tensor([[0.0, np.log(3), 0.0], [5.0, 0.0, 0.0]])
    detector = drawn(masks, chances, {"pixel_values": torch.zeros(1, 3, 4, 4)})
    objects = detector.detect(Image.new("RGB", (4, 4)), ["dog"])
    (dog,) = [one for one in objects if one.label == "dog"]
    assert dog.box == (0, 0, 2, 2)
    assert dog.score == pytest.approx(0.6 * 0.8808, abs=1e-4)
    assert dog.mask is not None
    assert dog.mask.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert [one.label for one in objects] == ["dog"]


def test_what_the_processor_padded_is_no_part_of_the_picture():
    """A picture of 8 by 4 seen as 4 by 2 at the top of a square of 4: a mask over the first of two rows is y from 0 to 2."""
    masks = torch.full((1, 4, 4), -4.0)
    masks[0, 0] = 4.0
    inside = torch.zeros(1, 4, 4)
    inside[0, :2] = 1
    detector = drawn(
        masks, torch.tensor([[5.0, 0.0, 0.0]]), {"pixel_values": torch.zeros(1, 3, 4, 4), "pixel_mask": inside}
    )
    (plane,) = detector.detect(Image.new("RGB", (8, 4)), ["airplane"])
    assert (plane.label, plane.box) == ("airplane", (0, 0, 8, 2))


def test_a_class_that_was_not_trained_on_is_an_error_unless_names_are_taken(tiny):
    picture = Image.new("RGB", (32, 32))
    with pytest.raises(UserError, match="knows no 'unicorn', which the suite asks for; give an OWLv2"):
        loads(tiny["mask2former"]).detect(picture, ["unicorn"])
    free = loads(tiny["owlv2"])
    asked_for: list[str] = []

    def processor(*, text: list[list[str]], **arguments: object) -> BatchFeature:
        asked_for.extend(text[0])
        return free.processor(text=text, **arguments)

    processor.image_processor = free.processor.image_processor
    replace(free, processor=processor).detect(picture, ["unicorn", "dog"])
    assert asked_for == [f"a photo of a {name}" for name in (*detectors.CLASSES, "unicorn")]


def test_every_class_of_geneval_is_found_under_the_names_that_detectors_have():
    others = (
        "motorbike",
        "aeroplane",
        "sofa",
        "pottedplant",
        "diningtable",
        "tvmonitor",
        "mouse",
        "remote",
        "keyboard",
    )
    mine = ("motorcycle", "airplane", "couch", "potted plant", "dining table", "tv", "computer mouse", "tv remote")
    assert tuple(map(detectors.spelled, others)) == (*mine, "computer keyboard")
    assert [detectors.spelled(name) for name in detectors.CLASSES] == list(detectors.CLASSES)
    assert len(set(detectors.CLASSES)) == 80


def test_the_real_prompts_ask_for_classes_that_are_known():
    path = Path(__file__).parents[3] / "shared" / "data" / "prompts" / "geneval_metadata.jsonl"
    if not path.exists():
        pytest.skip("needs ../shared/data/prompts/geneval_metadata.jsonl")
    rows = list(map(json.loads, path.read_text().splitlines()))
    assert {one["class"] for row in rows for one in row["include"]} <= set(detectors.CLASSES)
    assert {understood(row) for row in rows} == {None}


def test_a_folder_without_a_detector_is_told(tmp_path, tiny):
    with pytest.raises(UserError, match=r"is a model of type 'clip'; known here: mask2former, owlv2"):
        loads(shapes.weights("clip"))
    (tmp_path / "config.json").write_text((tiny["owlv2"] / "config.json").read_text())
    with pytest.raises(ModelMissing, match="does not hold a owlv2 detector"):
        loads(tmp_path)


# -- colours ---------------------------------------------------------------------------------------------------------


def test_an_object_is_cut_out_by_its_box_on_grey():
    picture = Image.new("RGB", (4, 4), "red")
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1] = True
    cut = np.asarray(colours.cutting(picture, Detection("dog", (1.0, 1.0, 3.0, 2.0), 1, mask)))
    assert cut.tolist() == [[[255, 0, 0], [0x99, 0x99, 0x99]]]
    whole = np.asarray(colours.cutting(picture, Detection("dog", (1.0, 1.0, 3.0, 2.0), 1)))
    assert whole.tolist() == [[[255, 0, 0], [255, 0, 0]]]
    assert colours.cutting(picture, Detection("dog", (1.2, 1.2, 1.4, 1.4), 1)).size == (1, 1)


def test_the_colour_is_the_name_whose_sentences_lie_nearest():
    """Towers in which a sentence, and a picture, points where its colour does; the sentences for red are read in three ways."""

    class Towers:
        def embed_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
            told = [next(at for at, name in enumerate(COLOURS) if f" a {name}" in prompt) for prompt in prompts]
            assert prompts[:3] == ["a photo of a red dog", "a photo of a red-colored dog", "a photo of a red object"]
            return torch.eye(len(COLOURS))[told]

        def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
            names = [Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in COLOURS]
            return torch.eye(len(COLOURS))[[names.index(image.getpixel((0, 0))) for image in images]]

    picture = Image.new("RGB", (4, 4), "yellow")
    picture.paste("purple", (2, 0, 4, 4))
    objects = [Detection("dog", (0, 0, 2, 4), 1), Detection("dog", (2, 0, 4, 4), 1)]
    assert colours.Naming(Towers(), picture)("dog", objects) == ["yellow", "purple"]


def test_the_embedded_clip_names_colours_of_its_world():
    clip = towers.load(Weights(id="shapes"), "clip")
    picture = Image.new("RGB", (48, 48), "white")
    assert set(colours.Naming(clip, picture)("circle", [Detection("circle", (0, 0, 48, 48), 1)])) <= set(COLOURS)
