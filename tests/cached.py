"""A run of eight pictures of noise of four prompts, and its latents and embeddings on disk."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from aifeedback_dpo import config, engine, records
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.dpo import cache
from aifeedback_dpo.store import Run

TEXTS = ["a red circle", "two green crosses", "a blue square", "a gray star"]
PER_PART = 3


def made(root: Path, *overrides: str, sizes=((32, 32),), at_once: int = 2) -> Run:
    """Four prompts with two pictures each, in the tables; parts of three."""
    settings = [f"generate.images_per_part={PER_PART}", f"generate.batch_size={at_once}", *overrides]
    run = Run(root, config.load("shapes", settings))
    prompts = [{"prompt_id": records.prompt_id(t), "prompt": t, "split": "train", "source": "t"} for t in TEXTS]
    run.commit("prompts", prompts, "train")
    rows = [image_row(number, sizes[number % len(sizes)]) for number in range(2 * len(TEXTS))]
    run.commit("images", rows[:5], "000000", "base")
    run.commit("images", rows[5:], "000001", "base")
    return run


def image_row(number: int, size: tuple[int, int]) -> dict:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    row = dict.fromkeys(records.IMAGES.names)
    picture = {"bytes": encode_image(Image.fromarray(pixels)), "path": "a.webp"}
    return row | {"image_id": image_id(number), "image": picture}


def image_id(number: int) -> str:
    return records.content_id("image", number)


def paired(*prompts: int) -> pa.Table:
    """The pairs of these prompts: pictures 2 i and 2 i + 1 are of prompt i."""
    columns = {
        "prompt_id": [records.prompt_id(TEXTS[i]) for i in prompts],
        "image_a": [image_id(2 * i) for i in prompts],
        "image_b": [image_id(2 * i + 1) for i in prompts],
    }
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def prepare(run: Run, model, pairs: pa.Table, **options) -> cache.Cache:
    return cache.prepare(run, model, pairs, engine.Silent(), **options)


def files(run: Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.cache)): path.read_bytes() for path in run.cache.rglob("*") if path.is_file()}
