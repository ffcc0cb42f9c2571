"""Tiny random detectors in the real formats, and runs that are asked about by GenEval's rules."""

from pathlib import Path

import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    SwinConfig,
)

from aifeedback_dpo import config
from aifeedback_dpo.compare import detectors
from aifeedback_dpo.compare.suites import Item
from aifeedback_dpo.settings import Weights
from aifeedback_dpo.store import Run
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


def opened(root: Path, detector: Path | str) -> Run:
    """Twelve pictures of the embedded world, whose own CLIP names the colours."""
    settings = (f"compare.detector={detector}", "compare.colours=shapes")
    return Run(labelled.write(root, *settings), config.load("shapes", [*settings, "prompts.train=4"]))


def asked(run: Run, **entry: object) -> dict[str, Item]:
    wanted = {"class": "person", "count": 1, **entry}
    return {row["image_id"]: Item("a person", "single_object", {"include": [wanted]}) for row in run.rows("images")}


def loads(path: Path) -> detectors.Detector:
    return detectors.load(locate(Weights(id=str(path)), "detector"))
