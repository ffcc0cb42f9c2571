"""PickScore and the aesthetic head: what the raters' votes on generated pictures teach the small CLIP."""

from dataclasses import dataclass
from itertools import combinations

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from torch.nn.functional import log_softmax, normalize
from transformers import CLIPModel

from aifeedback_dpo.seeds import derive
from aifeedback_dpo.shapes import raters
from aifeedback_dpo.shapes.build.clip import pixel_values
from aifeedback_dpo.shapes.build.data import Pace, batches, cosine, sample_scenes
from aifeedback_dpo.shapes.build.vocabulary import tokenizer
from aifeedback_dpo.shapes.grammar import Scene, Split
from aifeedback_dpo.shapes.oracle import Reading, read

PROMPTS = 700
CANDIDATES = 5
SAMPLING = {"num_inference_steps": 12, "guidance_scale": 1.0}
STEPS = 500
BATCH = 48


@dataclass
class Gallery:
    """Generated pictures (n 3 48 48, uint8), what was asked of each, and what the oracle reads."""

    pictures: Tensor
    scenes: list[Scene]
    readings: list[Reading]

    def groups(self) -> list[range]:
        return [range(start, start + CANDIDATES) for start in range(0, len(self.scenes), CANDIDATES)]


def generate(pipeline: StableDiffusionPipeline, seed: int, *, count: int = PROMPTS, split: Split = "train") -> Gallery:
    """CANDIDATES pictures for each of `count` scenes of a split."""
    scenes = sample_scenes(count, seed=derive("votes", seed), split=split)
    chosen = [scene for scene in scenes for _ in range(CANDIDATES)]
    pipeline.set_progress_bar_config(disable=True)
    pictures: list[Image.Image] = []
    for start in range(0, len(chosen), 50):
        part = chosen[start : start + 50]
        generators = [torch.Generator().manual_seed(derive("votes", seed, start + i)) for i in range(len(part))]
        pictures += pipeline([scene.prompt for scene in part], generator=generators, **SAMPLING).images
    stacked = torch.stack(
        [torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(48, 48, 3) for p in pictures]
    )
    return Gallery(stacked.permute(0, 3, 1, 2).contiguous(), chosen, [read(picture) for picture in pictures])


def train_pickscore(clip: CLIPModel, gallery: Gallery, seed: int, *, steps: int = STEPS) -> CLIPModel:
    """PickScore's objective (Kirstain et al. 2023, arXiv:2305.01569): cross-entropy of the softmax over the two images.

    One vote a pair; a tie has target (1/2, 1/2).
    """
    torch.manual_seed(seed)
    pairs = torch.tensor([pair for group in gallery.groups() for pair in combinations(group, 2)])
    wanted = [raters.utility(reading, scene) for reading, scene in zip(gallery.readings, gallery.scenes, strict=True)]
    votes = torch.tensor([raters.vote(wanted[a], wanted[b], "votes", seed, a, b) for a, b in pairs.tolist()])
    tokens = tokenizer()([scene.prompt for scene in gallery.scenes], padding=True, return_tensors="pt")
    model = CLIPModel(clip.config)
    model.load_state_dict(clip.state_dict())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    pace = Pace("pickscore", steps, every=100)
    for step, index in enumerate(batches(len(pairs), BATCH, steps, seed=derive("pickscore", seed))):
        a, b = pairs[index].unbind(1)
        images = pixel_values(gallery.pictures[torch.cat([a, b])])
        embedded = normalize(model.get_image_features(images).pooler_output, dim=-1)
        text = {name: value[a] for name, value in tokens.items()}
        said = normalize(model.get_text_features(**text).pooler_output, dim=-1)
        cosines = (embedded.view(2, len(a), -1) * said).sum(dim=-1).T
        log_p = log_softmax(model.logit_scale.exp() * cosines, dim=1)
        loss = -(votes[index] * log_p[:, 0] + (1 - votes[index]) * log_p[:, 1]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        pace.step(step, loss)
    return model.eval().requires_grad_(False)


def fit_aesthetic(clip: CLIPModel, gallery: Gallery, seed: int) -> dict[str, Tensor]:
    """A linear head on the normalised image embedding, fitted by ridge regression to one rating a picture.

    The real head (LAION V2) is five linear layers with nothing between them, so one linear layer as well.
    """
    embedded = embed(clip, gallery.pictures)
    grades = torch.tensor([raters.rating(reading, "grades", seed, i) for i, reading in enumerate(gallery.readings)])
    mean = embedded.mean(dim=0)
    centred = (embedded - mean).double()
    ridge = centred.T @ centred + 1e-2 * torch.eye(centred.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(ridge, centred.T @ (grades - grades.mean()).double()).float()
    return {"weight": weight[None], "bias": (grades.mean() - weight @ mean)[None]}


@torch.inference_mode()
def embed(clip: CLIPModel, pictures: Tensor) -> Tensor:
    """Normalised image embeddings, n 64."""
    parts = [clip.get_image_features(pixel_values(part)).pooler_output for part in pictures.split(128)]
    return normalize(torch.cat(parts).float(), dim=-1)
