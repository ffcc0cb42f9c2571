"""python -m aifeedback_dpo.shapes.build [--out DIR] [--work DIR] [--seed N]

Autoencoder, CLIP, denoiser, PickScore and aesthetic head, one after the other, each in half precision when it is done so
that the next one learns from the very weights that ship. A stage whose folder stands in the work folder, made by the same
sources with the same seed, is not repeated, so a build that was stopped goes on where it was.
"""

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPModel

from aifeedback_dpo.shapes.build import autoencoder, card, clip, denoiser, pickscore
from aifeedback_dpo.shapes.build.vocabulary import tokenizer

log = logging.getLogger("shapes.build")

THREADS = 2
"""Sums depend on how many threads share them; a fixed number makes the weights those of any machine with two cores."""


def build(out: Path, work: Path, seed: int) -> None:
    """Every weight, then the model card, moved to `out` when all is done."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)
    seconds: dict[str, float] = {}
    made_by = {"seed": seed, "sources": sources(), "torch": torch.__version__}

    def stage(name: str, make: Callable[[Path], None]) -> Path:
        folder = work / name
        if not _stands(folder, made_by):
            start = time.monotonic()
            partial = work / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            make(partial)
            (partial / "done.json").write_text(json.dumps(made_by | {"seconds": round(time.monotonic() - start)}))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        seconds[name] = json.loads((folder / "done.json").read_text())["seconds"]
        log.info("%s: %d s", name, seconds[name])
        return folder

    vae_at = stage("vae", lambda at: autoencoder.train(seed).half().save_pretrained(at))
    vae = AutoencoderTiny.from_pretrained(vae_at).float()
    vae.register_to_config(_name_or_path="shapes")  # else the work folder's path would ship
    clip_at = stage("clip", lambda at: clip.train(vae, seed).half().save_pretrained(at))
    base = CLIPModel.from_pretrained(clip_at, dtype=torch.float32)
    pipeline_at = stage("pipeline", lambda at: denoiser.train(vae, seed).to(dtype=torch.float16).save_pretrained(at))
    pipeline = StableDiffusionPipeline.from_pretrained(pipeline_at, dtype=torch.float32)
    start = time.monotonic()
    gallery = pickscore.generate(pipeline, seed)
    seconds["gallery"] = round(time.monotonic() - start)
    pickscore_at = stage(
        "pickscore", lambda at: pickscore.train_pickscore(base, gallery, seed).half().save_pretrained(at)
    )
    head_at = stage(
        "aesthetic", lambda at: save_file(pickscore.fit_aesthetic(base, gallery, seed), at / "head.safetensors")
    )
    in_float32(pipeline_at / "text_encoder")
    for folder in map(in_float32, (clip_at, pickscore_at)):
        clip.processor().save_pretrained(folder)
        tokenizer().save_pretrained(folder)

    figures = card.measure(pipeline, base, CLIPModel.from_pretrained(pickscore_at, dtype=torch.float32), head_at, seed)
    out.mkdir(parents=True, exist_ok=True)
    for name, folder in (
        ("pipeline", pipeline_at),
        ("clip", clip_at),
        ("pickscore", pickscore_at),
        ("aesthetic", head_at),
    ):
        shutil.rmtree(out / name, ignore_errors=True)
        shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns("done.json"))
    (out / "README.md").write_text(card.write(figures, seconds, seed))
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def in_float32(folder: Path) -> Path:
    """Has transformers load a half-precision folder in float32, as diffusers does unasked: parts of one pipeline must agree."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    return folder


def sources() -> str:
    """SHA-256 of the world's own modules, by which a stage is known to be theirs."""
    world = Path(__file__).parents[1]
    files = sorted([*world.glob("*.py"), *world.glob("build/*.py")])
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _stands(folder: Path, made_by: dict[str, Any]) -> bool:
    done = folder / "done.json"
    return done.exists() and made_by.items() <= json.loads(done.read_text()).items()


def main() -> None:
    """Parses the arguments."""
    parser = argparse.ArgumentParser(prog="python -m aifeedback_dpo.shapes.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--work", type=Path, help="keeps the stages here, to go on later (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with tempfile.TemporaryDirectory() as scratch:
        build(arguments.out, arguments.work or Path(scratch), arguments.seed)


if __name__ == "__main__":
    main()
