"""The scorers that are known by name, and what is published about them. Loads nothing heavy."""

from dataclasses import dataclass

from aifeedback_dpo.settings import ScorerWeights, Weights

CLIP_L = Weights(id="openai/clip-vit-large-patch14")


@dataclass(frozen=True)
class Entry:
    """One scorer: its code as `module:Class`, its published weights, and what to know before using it.

    `accuracy` is the published share of human choices it agrees with, and where; None where none is published.
    `extra` is the optional dependency it needs.
    """

    code: str
    weights: ScorerWeights
    about: str
    licence: str
    size: str
    range: str
    preference: str
    accuracy: str | None = None
    pairwise: bool = False
    extra: str | None = None


_HERE = "aifeedback_dpo.scorers"
_PAPER = "Pick-a-Pic v2 validation, Wallace et al. 2023, Tab. 2"

CATALOGUE = {
    "pickscore": Entry(
        code=f"{_HERE}.pickscore:PickScore",
        weights=ScorerWeights(id="yuvalkirstain/PickScore_v1"),
        about="CLIP ViT-H/14 fine-tuned on Pick-a-Pic choices",
        licence="MIT (code)",
        size="986 M parameters",
        range="100 x cosine, mostly 17 to 25",
        preference="softmax of two scores, as trained",
        accuracy=f"64.2 % ({_PAPER}; it has seen the data)",
    ),
    "clip": Entry(
        code=f"{_HERE}.clip:Clip",
        weights=ScorerWeights(id="openai/clip-vit-large-patch14"),
        about="how well a picture fits its prompt; any CLIP or SigLIP, in transformers' or open_clip's format",
        licence="MIT",
        size="428 M parameters",
        range="cosine, mostly 0.1 to 0.4",
        preference="not defined: trained to match captions",
    ),
    "clip-h": Entry(
        code=f"{_HERE}.clip:Clip",
        weights=ScorerWeights(id="open_clip:ViT-H-14/laion2b_s32b_b79k"),
        about="the same with the CLIP of the Diffusion-DPO paper's AI feedback",
        licence="MIT",
        size="986 M parameters",
        range="cosine, mostly 0.1 to 0.4",
        preference="not defined: trained to match captions",
        accuracy=f"57.1 % ({_PAPER})",
    ),
    "aesthetic": Entry(
        code=f"{_HERE}.aesthetic:Aesthetic",
        weights=ScorerWeights(id="trl-lib/ddpo-aesthetic-predictor", file="aesthetic-model.pth", base=CLIP_L),
        about="LAION's improved aesthetic predictor (V2), blind to the prompt",
        licence="Apache-2.0",
        size="4 MB head on CLIP ViT-L/14",
        range="a rating, mostly 4.5 to 6.5",
        preference="not defined: a regression of ratings",
        accuracy=f"51.4 % ({_PAPER})",
    ),
    "hpsv2": Entry(
        code=f"{_HERE}.hps:Hps",
        weights=ScorerWeights(id="xswu/HPSv2", file="HPS_v2_compressed.pt"),
        about="CLIP ViT-H/14 fine-tuned on HPD v2",
        licence="Apache-2.0",
        size="986 M parameters",
        range="cosine, mostly 0.2 to 0.35; comparable within one prompt",
        preference="softmax of two scores times 100, as trained",
        accuracy=f"59.3 % ({_PAPER})",
    ),
    "hpsv2.1": Entry(
        code=f"{_HERE}.hps:Hps",
        weights=ScorerWeights(id="xswu/HPSv2", file="HPS_v2.1_compressed.pt"),
        about="the same, trained further; not comparable with v2.0",
        licence="Apache-2.0",
        size="986 M parameters",
        range="cosine, mostly 0.2 to 0.35; comparable within one prompt",
        preference="softmax of two scores times 100, as trained",
    ),
    "hpsv2-legacy": Entry(
        code=f"{_HERE}.hps:HpsLegacy",
        weights=ScorerWeights(id="xswu/HPSv2", file="HPS_v2_compressed.pt"),
        about="v2.0 resized without antialias, as its package did with torchvision up to 0.16",
        licence="Apache-2.0",
        size="986 M parameters",
        range="cosine, mostly 0.2 to 0.35; comparable within one prompt",
        preference="softmax of two scores times 100, as trained",
    ),
    "hpsv2.1-legacy": Entry(
        code=f"{_HERE}.hps:HpsLegacy",
        weights=ScorerWeights(id="xswu/HPSv2", file="HPS_v2.1_compressed.pt"),
        about="v2.1 resized without antialias, as its package did with torchvision up to 0.16",
        licence="Apache-2.0",
        size="986 M parameters",
        range="cosine, mostly 0.2 to 0.35; comparable within one prompt",
        preference="softmax of two scores times 100, as trained",
    ),
    "imagereward": Entry(
        code=f"{_HERE}.imagereward:ImageReward",
        weights=ScorerWeights(
            id="zai-org/ImageReward", file="ImageReward.pt", base=Weights(id="google-bert/bert-base-uncased")
        ),
        about="BLIP with a reward head, trained on ImageRewardDB; reads 35 tokens of the prompt",
        licence="Apache-2.0",
        size="about 450 M parameters",
        range="about N(0, 1)",
        preference="sigmoid of 1.033 times the difference, as trained",
    ),
    "ocr": Entry(
        code=f"{_HERE}.ocr:Ocr",
        weights=ScorerWeights(id="rapidocr"),
        about="whether the quoted text of the prompt can be read in the picture; no quotes, no score",
        licence="Apache-2.0",
        size="31 MB, in the package",
        range="0 to 1",
        preference="not defined: an edit distance",
        extra="ocr",
    ),
    "jpeg": Entry(
        code=f"{_HERE}.jpeg:Jpeg",
        weights=ScorerWeights(id="none"),
        about="compressibility: minus the kilobytes of the picture as JPEG; for testing a pipeline",
        licence="none needed",
        size="no weights",
        range="below 0",
        preference="not defined: a file size",
    ),
    "random": Entry(
        code=f"{_HERE}.random:Random",
        weights=ScorerWeights(id="none"),
        about="a coin toss for each picture: the control that every claim has to beat",
        licence="none needed",
        size="no weights",
        range="0 to 1",
        preference="not defined: noise",
    ),
    "vlm": Entry(
        code=f"{_HERE}.vlm:Vlm",
        weights=ScorerWeights(id="Qwen/Qwen2.5-VL-7B-Instruct", dtype="bfloat16"),
        about="a vision-language model asked which of two pictures is better, in both orders",
        licence="Apache-2.0",
        size="8 B parameters",
        range="a choice, no score",
        preference="its answer; a tie where the two orders disagree",
        pairwise=True,
    ),
}
