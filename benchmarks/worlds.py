"""What the training benchmarks run on: Stable Diffusion 1.5 at a quarter of its widths, and runs of drawn pictures.

`python benchmarks/worlds.py` prints what an encoding and a forward pass cost. Weights are random, pictures are drawn by numpy
and labels by coin: speed does not depend on them. A pipeline is a folder in the real format, with SD 1.5's layout:
cross-attention in every level of the UNet but the last, an AutoencoderKL with attention in its middle, a CLIP text encoder.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count, product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizerFast

from aifeedback_dpo import config, shapes
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.records import content_id, pair_id, prompt_id
from aifeedback_dpo.seeds import derive
from aifeedback_dpo.store import Run
from benchmarks import architectures

SIDE, TOKENS = 128, 16
ROWS_A_PART = 8192


def quiet() -> None:
    """No progress bars and advice of the libraries."""
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # of training on several judges at once


def model(folder: Path, side: int = SIDE) -> Path:
    """SD 1.5 at a quarter of its widths, for pictures of `side` pixels and latents of an eighth of that, in `folder`."""
    return write(folder, **architectures.QUARTER, side=side)


def denoiser(widths: Mapping[str, Any], side: int) -> UNet2DConditionModel:
    """A UNet for latents of `side`; its last level has no cross-attention, as in SD 1.5, where `widths` says nothing else."""
    levels = len(widths["block_out_channels"])
    layout = {
        "down_block_types": (*["CrossAttnDownBlock2D"] * (levels - 1), "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * (levels - 1)),
    }
    return UNet2DConditionModel(sample_size=side, **{**layout, **widths})


def autoencoder(widths: Mapping[str, Any], side: int) -> AutoencoderKL:
    """An AutoencoderKL of 4 channels that halves the side at each level but the last."""
    levels = len(widths["block_out_channels"])
    layout = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "latent_channels": 4,
        "layers_per_block": 2,
        "sample_size": side,
    }
    return AutoencoderKL(**{**layout, **widths})


def write(
    folder: Path,
    *,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    texts: Sequence[Mapping[str, Any]],
    side: int,
    tokens: int = TOKENS,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A pipeline with random weights, in the diffusers format: SD with one text encoder, SDXL with two."""
    torch.manual_seed(0)
    words = CLIPTokenizerFast.from_pretrained(shapes.weights("pipeline") / "tokenizer", model_max_length=tokens)
    special = {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shared = {"vocab_size": len(words), "max_position_embeddings": tokens, **special}
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        parts = {"vae": autoencoder(vae, side), "unet": denoiser(unet, latent_side(vae, side))}
        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        for kind, widths, end in zip(kinds, texts, ("", "_2"), strict=False):
            parts[f"text_encoder{end}"] = kind(CLIPTextConfig(**shared, **widths))
    tokenizers = {f"tokenizer{end}": words for end in ("", "_2")[: len(texts)]}
    noise = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
    )
    if len(texts) == 1:
        bare = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        made = StableDiffusionPipeline(**parts, **tokenizers, scheduler=noise, **bare)
    else:
        made = StableDiffusionXLPipeline(**parts, **tokenizers, scheduler=noise, add_watermarker=False)
    (made if dtype == torch.float32 else made.to(dtype)).save_pretrained(folder)
    return folder


def run(
    folder: Path,
    model: Path,
    pairs: int,
    judges: Sequence[str],
    *,
    side: int = SIDE,
    candidates: int = 4,
    dtype: str = "float32",
    **train: Any,
) -> Run:
    """A run of `pairs` pairs, all that `candidates` drawn pictures a prompt make (six of four), labelled by coin, without ties.

    `train` are settings of the recipe. Judges are those of the recipe `shapes`.
    """
    made = _empty(folder, model, judges, dtype=dtype, **train)
    per_prompt = candidates * (candidates - 1) // 2
    assert pairs % per_prompt == 0, f"{pairs} pairs are not a multiple of {per_prompt}"
    encoded = (encode_image(picture(number, side)) for number in count())
    _fill(made, pairs // per_prompt, candidates, judges, encoded, side)
    return made


def synthetic_run(folder: Path, pairs: int) -> Run:
    """A run for what grows with the number of pairs, six a prompt: a tiny model, and the same 64 pictures in turn.

    Each has an id of its own, so all of them are encoded. 100,000 pairs are 66,668 pictures, written in 3 seconds.
    """
    side = 16
    made = _empty(folder, write(folder / "model", **architectures.TINY, side=side), ["random"], dtype="float32")
    bank = [encode_image(picture(number, side)) for number in range(64)]
    _fill(made, -(-pairs // 6), 4, ["random"], (bank[number % 64] for number in count()), side)
    return made


def asked(run: Run, **train: Any) -> Run:
    """The same run with other settings of training."""
    recipe = run.recipe.model_dump(mode="json")
    return Run(run.root, config.load({**recipe, "train": {**recipe["train"], **train}}))


def picture(number: int, side: int) -> Image.Image:
    """Three ellipses on a gradient; smooth, so that reading it back is cheap."""
    draws = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    one, other = draws.integers(0, 256, (2, 3))
    angle = draws.uniform(0, np.pi)
    along = ((np.cos(angle) * x + np.sin(angle) * y + 1) / 2.5)[..., None]
    pixels = one + along * (other - one)
    for _ in range(3):
        (top, left), (tall, wide) = draws.uniform(0.2, 0.8, 2), draws.uniform(0.05, 0.25, 2)
        pixels[((y - top) / tall) ** 2 + ((x - left) / wide) ** 2 < 1] = draws.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def captions() -> list[str]:
    """Sentences in the words of the embedded world's tokenizer."""
    colours = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
    things = ("circle", "square", "triangle", "star")
    return [f"a {a} {b} above a {c} {d}" for a, b, c, d in product(colours, things, colours, things)]


def inputs(network: UNet2DConditionModel, side: int, tokens: int) -> dict[str, Any]:
    """What a UNet is asked for one picture, as zeros on its device: latents of `side`, a caption, and SDXL's sizes."""
    settings = network.config
    asked: dict[str, Any] = {
        "sample": torch.zeros(1, 4, side, side),
        "timestep": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, tokens, settings.cross_attention_dim),
    }
    if settings.addition_embed_type == "text_time":
        pooled = settings.projection_class_embeddings_input_dim - 6 * settings.addition_time_embed_dim
        asked["added_cond_kwargs"] = {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}
    return asked


def flops(unet: Mapping[str, Any], vae: Mapping[str, Any], side: int, tokens: int = TOKENS) -> tuple[int, int]:
    """Floating-point operations, two a multiplication, of encoding a picture and of a UNet's forward pass for it.

    Counted on tensors without data, so the full size costs nothing.
    """
    with torch.device("meta"), torch.no_grad():
        latent = latent_side(vae, side)
        coder, network = autoencoder(vae, side), denoiser(unet, latent)
        with FlopCounterMode(display=False) as encoding:
            coder.encode(torch.zeros(1, 3, side, side))
        with FlopCounterMode(display=False) as predicting:
            network(**inputs(network, latent, tokens))
    return encoding.get_total_flops(), predicting.get_total_flops()


def latent_side(vae: Mapping[str, Any], side: int) -> int:
    """The side of the latents of a picture: each level but the last halves it."""
    return side // 2 ** (len(vae["block_out_channels"]) - 1)


def _empty(folder: Path, model: Path, judges: Sequence[str], *, dtype: str, **train: Any) -> Run:
    recipe = {
        "extends": "shapes",
        "name": "benchmark",
        "model": {"id": str(model), "dtype": dtype},
        "generate": {"batch_size": 8},
        "train": {
            "judges": list(judges),
            "precision": dtype,
            "beta": 5000,
            "learning_rate": 1e-5,
            "schedule": "constant",
            "channels_last": True,
            **train,
        },
    }
    return Run(folder, config.load(recipe))


def _fill(run: Run, prompts: int, candidates: int, judges: Sequence[str], encoded: Iterator[bytes], side: int) -> None:
    known = captions()
    texts = [known[n] if n < len(known) else f"{known[n % len(known)]} {n}" for n in range(prompts)]
    ids = [[content_id("drawn", text, k) for k in range(candidates)] for text in texts]
    told = [{"prompt_id": prompt_id(text), "prompt": text, "split": "train", "source": "benchmark"} for text in texts]
    pairs = [
        {"pair_id": pair_id(a, b), "prompt_id": row["prompt_id"], "image_a": a, "image_b": b, "chosen_by": "benchmark"}
        for row, mine in zip(told, ids, strict=True)
        for a, b in combinations(mine, 2)
    ]
    _commit(run, "prompts", told)
    _commit(run, "pairs", pairs)
    for judge in judges:
        said = {"judge": judge, "margin": 1.0, "annotator": judge, "votes": 1, "rule": "a coin"}
        keys = (pair["pair_id"] for pair in pairs)
        _commit(run, "preferences", [{**said, "pair_id": key, "p_a": derive(judge, key) % 2} for key in keys], judge)
    made = {"policy": "base", "model": "drawn", "revision": "drawn", "seed": 0, "steps": 1, "guidance": 1.0}
    made |= {"scheduler": "none", "width": side, "height": side}
    _commit(
        run,
        "images",
        [
            {**made, "image_id": key, "prompt_id": row["prompt_id"], "pixel_sha256": key}
            | {"image": {"bytes": next(encoded), "path": f"{key}.webp"}}
            for row, mine in zip(told, ids, strict=True)
            for key in mine
        ],
    )


def _commit(run: Run, table: str, rows: Sequence[dict[str, Any]], name: str | None = None) -> None:
    for at in range(0, len(rows), ROWS_A_PART):
        run.commit(table, rows[at : at + ROWS_A_PART], f"{at:09d}", name)


def main() -> None:
    """Prints what one picture costs."""
    encoding, predicting = flops(architectures.QUARTER["unet"], architectures.QUARTER["vae"], SIDE)
    print(f"autoencoder, encoding: {encoding / 1e9:.2f} GFLOP a picture of {SIDE} px")
    print(f"UNet, forward: {predicting / 1e9:.2f} GFLOP")
    print(f"the ratio is {encoding / predicting:.2f}; that of SD 1.5 at 512 px is 1.39")


if __name__ == "__main__":
    main()
