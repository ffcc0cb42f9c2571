"""How fast pictures are scored, against the loop of PickScore's model card: `python benchmarks/label_throughput.py`.

Ours is what `ddpo label` does with decoded pictures: batches of 64 that all scorers look at, a tower once a batch, a prompt
once a run. The model card's loop takes a pair at a time, and each scorer resizes the pictures, runs its tower and reads the
prompt by itself. Both take turns in one process, on pictures and prompts that neither has seen; every picture is scored once.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.utils import logging

from aifeedback_dpo import scorers, shapes
from aifeedback_dpo.scorers import Scorer
from aifeedback_dpo.scorers.pixels import Pictures
from aifeedback_dpo.settings import ScorerWeights, Weights
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.shapes.renderer import render
from tests.parity.references import bpe, published_head

BATCH, PER_PROMPT = 64, 4
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Score = Callable[[Sequence[Image.Image], Sequence[str]], list[np.ndarray]]


@dataclass(frozen=True)
class Contest:
    """Three scorers, and the same as one would write them from the model card; the loop may get a part of the pictures."""

    name: str
    ours: list[Scorer]
    loops: list[Callable[[list[Image.Image], str], Tensor]]
    side: int
    loop_pictures: int


def score_ours(contest: Contest, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[np.ndarray]:
    """As `scorers.scoring` does for `ddpo label`."""
    found: list[list[np.ndarray]] = [[] for _ in contest.ours]
    for start in range(0, len(images), BATCH):
        batch = Pictures.of(images[start : start + BATCH])
        for numbers, scorer in zip(found, contest.ours, strict=True):
            numbers.append(scorer.score(batch, prompts[start : start + BATCH]))
    return [np.concatenate(numbers) for numbers in found]


def score_by_the_card(contest: Contest, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[np.ndarray]:
    """A pair at a time, scorer by scorer."""
    found: list[list[np.ndarray]] = [[] for _ in contest.loops]
    for start in range(0, len(images), 2):
        for numbers, loop in zip(found, contest.loops, strict=True):
            numbers.append(loop(list(images[start : start + 2]), prompts[start]).cpu().numpy())
    return [np.concatenate(numbers) for numbers in found]


def card_loop(folder: Path, *, scaled: bool) -> Callable[[list[Image.Image], str], Tensor]:
    """The example of yuvalkirstain/PickScore_v1, in transformers 5's terms; `scaled` by the temperature."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval()
    processor = CLIPProcessor(CLIPImageProcessor.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder))
    longest = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def score(images: list[Image.Image], prompt: str) -> Tensor:
        seen = processor(images=images, return_tensors="pt").to(DEVICE)
        read = processor(text=prompt, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(DEVICE)
        image = model.get_image_features(**seen).pooler_output
        text = model.get_text_features(**read).pooler_output
        image, text = (rows / rows.norm(dim=-1, keepdim=True) for rows in (image, text))
        return (model.logit_scale.exp() if scaled else 1.0) * (text @ image.T)[0]

    return score


def head_loop(folder: Path, head: nn.Module) -> Callable[[list[Image.Image], str], Tensor]:
    """The example of improved-aesthetic-predictor: its own tower, its own resizing."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval()
    processor, head = CLIPImageProcessor.from_pretrained(folder), head.to(DEVICE).eval()

    @torch.no_grad()
    def score(images: list[Image.Image], _prompt: str) -> Tensor:
        seen = processor(images=images, return_tensors="pt").to(DEVICE)
        rows = model.get_image_features(**seen).pooler_output
        return head(rows / rows.norm(dim=-1, keepdim=True))[:, 0]

    return score


def embedded(images: int) -> Contest:
    """The CLIP family of the embedded world; clip and aesthetic stand on one tower, pickscore on another."""
    tensors = load_file(shapes.weights("aesthetic") / "head.safetensors")
    head = nn.Linear(tensors["weight"].shape[1], 1)
    head.load_state_dict(tensors)
    clip, pickscore = shapes.weights("clip"), shapes.weights("pickscore")
    ours = [scorers.load(name, ScorerWeights(id="shapes")) for name in ("clip", "pickscore", "aesthetic")]
    loops = [card_loop(clip, scaled=False), card_loop(pickscore, scaled=True), head_loop(clip, head)]
    return Contest("embedded: clip, pickscore, aesthetic (two towers)", ours, loops, 96, images)


def vit_b_32(root: Path, images: int) -> Contest:
    """Random weights of ViT-B/32's size; clip and two of LAION's heads stand on one tower."""
    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(root)
    CLIPImageProcessor().save_pretrained(root)
    bpe().save_pretrained(root)
    ours, loops = [scorers.load("clip", ScorerWeights(id=str(root)))], [card_loop(root, scaled=False)]
    for kind in ("v1", "v2"):
        head = published_head(kind, 512)
        torch.save(head.state_dict(), root / f"{kind}.pth")
        weights = ScorerWeights(id=str(root / f"{kind}.pth"), base=Weights(id=str(root)))
        ours.append(scorers.load("aesthetic", weights))
        loops.append(head_loop(root, head))
    return Contest("ViT-B/32: clip, LAION V1, LAION V2 (one tower)", ours, loops, 512, images)


def drawn(count: int, side: int, turn: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures and prompts of the embedded world, others in each turn; four pictures a prompt."""
    prompts = grammar.prompts("train", (turn + 1) * count // PER_PROMPT)[-(count // PER_PROMPT) :]
    texts = [prompt for prompt in prompts for _ in range(PER_PROMPT)]
    scenes = grammar.scenes()
    images = [render(scenes[text], np.random.default_rng((turn, at))) for at, text in enumerate(texts)]
    return [image.resize((side, side), Image.Resampling.BICUBIC) for image in images], texts


def seconds_per_picture(
    score: Score, images: Sequence[Image.Image], prompts: Sequence[str]
) -> tuple[float, list[np.ndarray]]:
    """Wall clock. All scores end on the CPU, so a GPU has nothing left to do when the clock stops."""
    start = time.perf_counter()
    found = score(images, prompts)
    return (time.perf_counter() - start) / len(images), found


def measure(contest: Contest, images: int, turns: int) -> str:
    """A row of the table: medians over turns, and of the ratio of each turn."""
    ours, card = [], []
    for turn in range(-1, turns):  # the first one warms up, on little, and is not counted
        count = images if turn >= 0 else 2 * PER_PROMPT
        seen, texts = drawn(count, contest.side, turn + 1)
        part = min(count, contest.loop_pictures)
        fast, found = seconds_per_picture(lambda *of: score_ours(contest, *of), seen, texts)
        slow, expected = seconds_per_picture(lambda *of: score_by_the_card(contest, *of), seen[:part], texts[:part])
        for mine, theirs in zip(found, expected, strict=True):
            assert np.abs(mine[:part] - theirs).max() < 0.05 * max(1.0, np.abs(theirs).max()), "not the same scores"
        if turn >= 0:
            ours.append(fast)
            card.append(slow)
    ratio = statistics.median(slow / fast for fast, slow in zip(ours, card, strict=True))
    rates = [f"{1 / statistics.median(times):.1f}" for times in (ours, card)]
    counts = f"{images}, the loop {min(images, contest.loop_pictures)}"
    return f"| {contest.name} | {contest.side} px | {counts} | {rates[0]} | {rates[1]} | {ratio:.1f}x |"


def machine() -> str:
    """What it ran on."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    cpu = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line]
        if cpu.is_file()
        else []
    )
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--loop", type=int, default=64, help="pictures of the loop on ViT-B/32, which is slow")
    asked = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{machine()}; torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}; medians of {asked.turns} turns\n")
    print("| scorers | pictures | how many a turn | ours, pictures/s | model card's loop, pictures/s | ratio |")
    print("|---|---|---|---|---|---|")
    print(measure(embedded(asked.images), asked.images, asked.turns), flush=True)
    with TemporaryDirectory() as folder:
        print(measure(vit_b_32(Path(folder), asked.loop), asked.images, asked.turns), flush=True)


if __name__ == "__main__":
    main()
