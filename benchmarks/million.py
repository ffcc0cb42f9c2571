"""Planning and resuming a run of one million images: seconds and memory, against the number of rows.

    python benchmarks/million.py [--images 1000000] [--keep FOLDER]

The rows are synthetic (a few bytes in the place of each picture), the ids and everything else are real: 250,000 prompts with
four candidates each, two pairs a prompt, one scorer's score of every picture. Each command runs in a process of its own, and
what is measured is the whole of it: importing, reading recipe and prompts, planning, and finding out what is done.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aifeedback_dpo import engine, generate, prompts, scorers
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.models.shots import Shots
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.pairs import Pairs
from aifeedback_dpo.records import IMAGES, SCORES, prompt_id
from benchmarks.peak import peak

PART = 256
COMMANDS = {
    "ddpo generate --dry-run": ("generate", "--dry-run"),
    "ddpo generate, all done": ("generate",),
    "ddpo generate --shard 3/64, all done": ("generate", "--shard", "3/64"),
    "ddpo label --dry-run": ("label", "--scorer", "pickscore", "--dry-run"),
    "ddpo label, all scored": ("label", "--scorer", "pickscore"),
    "ddpo status": ("status",),
    "ddpo verify --quick": ("verify", "--quick"),
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    print("| images | parts | command | seconds | peak memory |\n|---|---|---|---|---|")
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            there = options.keep / str(images) if options.keep else Path(folder)
            run = there / "run"
            if not run.exists():
                make(there, run, images)
            parts = len(list(run.glob("*/**/part-*.parquet")))
            for name, command in COMMANDS.items():
                seconds, peak = measured([*command, "--run", str(run)])
                print(f"| {images:,} | {parts:,} | `{name}` | {seconds:.1f} | {peak:,.0f} MiB |", flush=True)


def make(folder: Path, root: Path, images: int) -> None:
    """A run in which all is drawn and scored."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text(
        "".join(f"a picture of thing number {at}, in detail\n" for at in range(images // 4 + 100))
    )
    settings = (
        f"prompts.source={folder / 'prompts.txt'}",
        f"prompts.train={images // 4}",
        "prompts.eval=100",
        "label.raters=null",
        "train.judges=[pickscore]",
        f"generate.images_per_part={PART}",
        f"label.images_per_part={PART}",
    )
    run = open_run(root, "shapes", settings)
    shots = generate.shots_of(run, prompts.read(run))
    for part in engine.left(shots.ids, np.ones(len(shots), np.bool_), PART):
        run.commit("images", _images(shots, part), part.name, "base")
    generate.generate(run, Silent())
    compared, rng = Pairs.read(run).images, np.random.default_rng(0)
    for name in ("pickscore", "random"):
        recipe = scorers.load(name, run.recipe.label.scorers[name]).recipe
        for part in engine.left(compared, np.ones(len(compared), np.bool_), PART):
            run.commit("scores", _scores(name, recipe, compared[part.at], rng), f"{recipe[:8]}-{part.name}", name)


def _images(shots: Shots, part: engine.Slice) -> pa.Table:
    some = part.of(shots)
    names = [name.decode() for name in shots.ids[part.at]]
    columns = {
        "image_id": names,
        "prompt_id": [prompt_id(shot.prompt) for shot in some],
        "image": [{"bytes": b"picture", "path": f"{name}.webp"} for name in names],
        "pixel_sha256": [name * 2 for name in names],
        "policy": ["base"] * len(names),
        "model": [shot.model for shot in some],
        "revision": [shot.revision for shot in some],
        "seed": [shot.seed for shot in some],
        "steps": [shot.steps for shot in some],
        "guidance": [shot.guidance for shot in some],
        "scheduler": ["DPMSolverMultistepScheduler"] * len(names),
        "width": [48] * len(names),
        "height": [48] * len(names),
    }
    return pa.table(columns, schema=IMAGES)


def _scores(name: str, recipe: str, some: NDArray[np.bytes_], rng: np.random.Generator) -> pa.Table:
    count = len(some)
    columns = {
        "image_id": [one.decode() for one in some],
        "scorer": [name] * count,
        "recipe": [recipe] * count,
        "score": rng.normal(size=count).astype(np.float32),
        "truncated": [False] * count,
    }
    return pa.table(columns, schema=SCORES)


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a `ddpo` command in a process of its own."""
    start = time.perf_counter()
    _, most = peak(command)
    return time.perf_counter() - start, most


if __name__ == "__main__":
    main()
