"""Object detectors of transformers for GenEval's rules: Mask2Former, and OWLv2, which is asked for classes by name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch.nn.functional import interpolate

from aifeedback_dpo.compare.geneval import Detection, Rules
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers.pretrained import CLOSED, whole
from aifeedback_dpo.weights import Located, loading

Kind = Literal["mask2former", "owlv2"]

# fmt: off
CLASSES = (  # of MS-COCO, as GenEval spells them
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on
OTHERWISE = {  # how detectors call the same, spaces left out
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "tvmonitor": "tv",
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "hairdryer": "hair drier",
}
# Mask2Former's scores are computed as the original's are, so its thresholds are kept. OWLv2's are of another scale: these are
# the defaults of transformers, with which nobody has asked people.
RULES: dict[Kind, Rules] = {
    "mask2former": Rules(),
    "owlv2": Rules(score=0.1, counting_score=0.1, overlap=0.3),
}


def kind(located: Located) -> Kind:
    """Which detector a folder holds. Raises UserError for any other model."""
    with loading(located, "a detector (config.json)"):
        found = json.loads((located.folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    for known in RULES:
        if found == known:
            return known
    raise UserError(f"compare.detector: {located.name} is a model of type '{found}'; known here: {', '.join(RULES)}")


@dataclass(frozen=True)
class Detector:
    """A loaded detector: one picture at a time, so that no other picture changes what is found in it."""

    name: str
    kind: Kind
    model: Any
    processor: Any
    device: torch.device

    @torch.inference_mode()
    def detect(self, picture: Image.Image, classes: Sequence[str]) -> list[Detection]:
        """All objects it sees, however unsure; `classes` are looked for besides MS-COCO's, where it takes names.

        Raises UserError for a class that it was not trained on and cannot be told of.
        """
        find = _mask2former if self.kind == "mask2former" else _owlv2
        return find(self, picture, classes)


def load(located: Located) -> Detector:
    """On the GPU where there is one, in float32. Raises ModelMissing where a tensor or a file is not there."""
    import transformers

    found = kind(located)
    classes = {
        "mask2former": (transformers.Mask2FormerForUniversalSegmentation, transformers.AutoImageProcessor),
        "owlv2": (transformers.Owlv2ForObjectDetection, transformers.Owlv2Processor),
    }
    model_class, processor_class = classes[found]
    with loading(located, f"a {found} detector with its processor"):
        model = whole(model_class, located.folder, "float32")
        processor = processor_class.from_pretrained(located.folder, **CLOSED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Detector(located.name, found, model.to(device).eval().requires_grad_(False), processor, device)


def spelled(label: str) -> str:
    """A detector's name of a class as GenEval spells it."""
    bare = label.lower().replace(" ", "").replace("_", "")
    return OTHERWISE.get(bare) or next((name for name in CLASSES if name.replace(" ", "") == bare), label.lower())


def _mask2former(detector: Detector, picture: Image.Image, classes: Sequence[str]) -> list[Detection]:
    """As mmdetection reads Mask2Former: the surest pairs of query and class, as many as there are queries, each scored by its
    class's probability times the mean probability of its mask (Cheng et al. 2022, arXiv:2112.01527)."""
    labels = {at: spelled(label) for at, label in detector.model.config.id2label.items()}
    for name in classes:
        if name not in labels.values():
            raise UserError(
                f"the detector {detector.name} knows no '{name}', which the suite asks for; give an "
                "OWLv2 as compare.detector, which takes any name"
            )
    seen = detector.processor(images=picture, return_tensors="pt").to(detector.device)
    out = detector.model(**seen)
    chances = out.class_queries_logits[0].float().softmax(dim=-1)[:, :-1]  # the last is "no object"
    best, at = chances.flatten().topk(len(chances))
    logits = _full_size(out.masks_queries_logits[0].float(), seen, picture)
    found = []
    for chance, index in zip(best.tolist(), at.tolist(), strict=True):
        query, label = divmod(index, chances.shape[1])
        mask = logits[query] > 0
        if mask.any():
            score = chance * float(logits[query].sigmoid()[mask].mean())
            rows, columns = (mask.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            found.append(Detection(labels[label], box, score, mask.cpu().numpy()))
    return found


def _full_size(logits: torch.Tensor, seen: Any, picture: Image.Image) -> torch.Tensor:
    """The masks (queries h w) in the picture's own pixels, without what the processor padded."""
    height, width = seen["pixel_values"].shape[-2:]
    masks = interpolate(logits[None], size=(height, width), mode="bilinear", align_corners=False)
    if "pixel_mask" in seen:
        inside = seen["pixel_mask"][0].bool()
        masks = masks[..., : int(inside.any(dim=1).sum()), : int(inside.any(dim=0).sum())]
    return interpolate(masks, size=picture.size[::-1], mode="bilinear", align_corners=False)[0]


def _owlv2(detector: Detector, picture: Image.Image, classes: Sequence[str]) -> list[Detection]:
    """Boxes alone, each of the class it fits best of all that are asked for (Minderer et al. 2023, arXiv:2306.09683)."""
    asked = list(dict.fromkeys([*CLASSES, *classes]))
    texts = [[f"a photo of a {name}" for name in asked]]
    seen = detector.processor(text=texts, images=picture, truncation=True, return_tensors="pt").to(detector.device)
    out = detector.model(**seen)
    sizes = torch.tensor([picture.size[::-1]], device=detector.device)
    told = detector.processor.image_processor.post_process_object_detection(out, threshold=0.0, target_sizes=sizes)[0]
    width, height = picture.size
    found = []
    for score, label, box in zip(told["scores"].tolist(), told["labels"].tolist(), told["boxes"].tolist(), strict=True):
        left, right = (min(max(side, 0.0), width) for side in box[::2])
        top, bottom = (min(max(side, 0.0), height) for side in box[1::2])
        if right - left >= 1 and bottom - top >= 1:
            found.append(Detection(asked[label], (left, top, right, bottom), score))
    return found
