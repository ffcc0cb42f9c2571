"""Detectors of transformers for GenEval: boxes and scores by hand, tiny networks in the real format, a cache."""

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
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    SwinConfig,
)

from aifeedback_dpo import config, engine, shapes
from aifeedback_dpo.compare import colours, detecting, detectors
from aifeedback_dpo.compare.geneval import COLOURS, Detection, Rules, understood
from aifeedback_dpo.compare.suites import Item
from aifeedback_dpo.errors import DataError, ModelMissing, UserError
from aifeedback_dpo.scorers import towers
from aifeedback_dpo.settings import Weights
from aifeedback_dpo.shapes import oracle
from aifeedback_dpo.store import Run, decode_image
from aifeedback_dpo.weights import locate
from tests import labelled
from tests.tiny import tokenizer

NAMES = ("person", "diningtable", "tvmonitor", "mouse")  # as facebook's Mask2Former spells them


def mask2former(folder: Path) -> Path:
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    made = Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=4,
        id2label=dict(enumerate(NAMES)),
        label2id={name: at for at, name in enumerate(NAMES)},
    )
    Mask2FormerForUniversalSegmentation(made).save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    torch.manual_seed(0)
    words = tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": len(words), "max_position_embeddings": words.model_max_length}
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    made = Owlv2Config(
        text_config={**text, **ids}, vision_config={**tower, "image_size": 32, "patch_size": 16}, projection_dim=16
    )
    model = Owlv2ForObjectDetection(made)
    for last in (model.box_head.dense2.weight, model.box_head.dense2.bias):
        torch.nn.init.zeros_(last)  # a box on each patch, and not one without height
    model.save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(image_processor=images, tokenizer=words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("detectors")
    return {"mask2former": mask2former(root / "mask2former"), "owlv2": owlv2(root / "owlv2")}


def opened(root: Path, detector: Path | str) -> Run:
    """Twelve pictures of the embedded world, whose own CLIP names the colours."""
    settings = (f"compare.detector={detector}", "compare.colours=shapes")
    return Run(labelled.write(root, *settings), config.load("shapes", [*settings, "prompts.train=4"]))


def asked(run: Run, **entry: object) -> dict[str, Item]:
    wanted = {"class": "person", "count": 1, **entry}
    return {row["image_id"]: Item("a person", "single_object", {"include": [wanted]}) for row in run.rows("images")}


def loads(path: Path) -> detectors.Detector:
    return detectors.load(locate(Weights(id=str(path)), "detector"))


# -- networks --------------------------------------------------------------------------------------------------------


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


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mask2former", "owlv2"])
def test_a_picture_is_looked_at_once_ever(tmp_path, tiny, kind, monkeypatch):
    run = opened(tmp_path / "run", tiny[kind])
    # every random network finds a person somewhere, and is sure of nothing
    monkeypatch.setitem(detectors.RULES, kind, Rules(score=0, overlap=0.3))
    wanted = asked(run, color="red")
    first = detecting.measure(run, wanted, engine.Silent())
    assert first.keys() == wanted.keys()
    assert set(first.values()) <= {0.0, 1.0}
    monkeypatch.setattr(detectors, "load", refuse)
    assert detecting.measure(run, wanted, engine.Silent()) == first


def refuse(*_: object) -> None:
    raise AssertionError("nothing needs a network")


class Sees:
    """A detector that reads the embedded world by its oracle, a shape being the class; it counts what it looked at."""

    kind = "mask2former"

    def __init__(self) -> None:
        self.looked = 0

    def detect(self, picture: Image.Image, classes: Sequence[str]) -> list[Detection]:
        self.looked += 1
        return [
            Detection(
                one.kind.shape, (one.x - one.radius, one.y - one.radius, one.x + one.radius, one.y + one.radius), 1.0
            )
            for one in oracle.read(picture.resize((48, 48))).objects
        ]


@pytest.fixture
def sees(monkeypatch) -> Sees:
    found = Sees()
    monkeypatch.setattr(detectors, "load", lambda _: found)
    return found


def test_a_verdict_is_of_the_picture_and_of_what_was_asked(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    circles = {
        image_id: float(
            any(one.kind.shape == "circle" for one in oracle.read(decode_image(data).resize((48, 48))).objects)
        )
        for image_id, data in run.images(asked(run))
    }
    assert set(circles.values()) == {0.0, 1.0}
    some = dict(list(asked(run, **{"class": "circle"}).items())[:5])
    assert detecting.measure(run, some, engine.Silent()) == {image_id: circles[image_id] for image_id in some}
    assert sees.looked == 5
    assert detecting.measure(run, asked(run, **{"class": "circle"}), engine.Silent()) == circles
    assert sees.looked == 12  # those that had been looked at before were not
    many = detecting.measure(run, asked(run, **{"class": "circle", "count": 9}), engine.Silent())
    assert (set(many.values()), sees.looked) == ({0.0}, 24)  # another question


def test_another_detector_or_clip_is_another_cache(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    detecting.measure(run, asked(run), engine.Silent())
    detecting.measure(opened(tmp_path / "run", tiny["owlv2"]), asked(run), engine.Silent())
    assert sees.looked == 24
    assert len(list(run.cache.glob("geneval-*/part-*.jsonl"))) == 2


def test_what_cannot_be_looked_at_is_one_line(tmp_path, tiny, sees):
    run = opened(tmp_path / "run", tiny["mask2former"])
    plain = {image_id: Item("a cat") for image_id in asked(run)}
    with pytest.raises(UserError, match=r"cannot check the prompt 'a cat': its row has no `include`"):
        detecting.measure(run, plain, engine.Silent())
    with pytest.raises(DataError, match="1 images of the pairs are not in the run"):
        detecting.measure(run, {"absent": next(iter(asked(run).values()))}, engine.Silent())
    detecting.measure(run, asked(run), engine.Silent())
    next(run.cache.glob("geneval-*/part-*.jsonl")).write_text("{")
    with pytest.raises(DataError, match=r"is corrupted .* delete it and run `ddpo compare` again"):
        detecting.measure(run, asked(run), engine.Silent())


def test_a_detector_that_is_not_here_is_one_line_with_the_command(tmp_path, cache):
    run = opened(tmp_path / "run", "team/absent")
    with pytest.raises(ModelMissing, match="`hf download team/absent"):
        detecting.measure(run, asked(run), engine.Silent())


def test_what_is_told_names_the_detector_and_how_it_differs(tmp_path, tiny):
    told = {kind: detecting.about(opened(tmp_path / kind, tiny[kind])) for kind in tiny}
    assert all(str(tiny[kind]) in told[kind] and "the original has mmdetection's" in told[kind] for kind in tiny)
    assert "boxes without masks" in told["owlv2"]
    assert "boxes without masks" not in told["mask2former"]
    bare = Run(tmp_path / "bare", config.load("shapes"))
    assert detecting.DETECTOR in detecting.about(bare)
