"""Where `ddpo generate` and `ddpo label` spend their time, and against what: `python benchmarks/throughput.py`.

    generation   the share of the stage's wall time that is in the denoiser and the decoder
    loop         the same pictures by the loop of the diffusers documentation: one prompt at a time, each saved as PNG
    labelling    the share of the stage's wall time that is in the towers
    places       one, two and four workers, and Ray, on the same plan: wall time of the whole command, and whether the files
                 are identical

The embedded model is the hardest case: it draws a picture of 48 pixels in milliseconds, so whatever is not the network shows.
Loading is left out of the first three, as it does not grow with the pictures, and counted in the last. `--only` picks some.
Shares and ratios are medians over `--rounds`, which take turns. On a GPU it waits for the device at the end of each network.
"""

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from diffusers import StableDiffusionPipeline

from aifeedback_dpo import engine, generate, prompts, shapes
from aifeedback_dpo.models import sampling
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.scorers import scoring
from tests.killed import tables

CUDA = torch.cuda.is_available()
PARTS = ("generation", "loop", "labelling", "places")


def main() -> None:
    """Prints the tables that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--prompts", type=int, default=64, help="four pictures each")
    parser.add_argument("--model", default="shapes", help="a folder or hub id that is not the embedded world")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    where = torch.cuda.get_device_name() if CUDA else f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(
        f"{platform.processor() or platform.machine()}, {where}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for part in asked.only:
            globals()[f"show_{part}"](Path(folder) / part, asked)


# -- shares ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(modules: dict[str, torch.nn.Module]) -> Iterator[dict[str, float]]:
    """Seconds within the forward of each of these modules, or the `decode` of an autoencoder."""
    spent = dict.fromkeys(modules, 0.0)

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                if CUDA:
                    torch.cuda.synchronize()
                spent[name] += time.perf_counter() - start

        return run

    entries = {name: "decode" if hasattr(module, "decode") else "forward" for name, module in modules.items()}
    for name, module in modules.items():
        setattr(module, entries[name], clocked(name, getattr(module, entries[name])))
    try:
        yield spent
    finally:
        for name, module in modules.items():
            delattr(module, entries[name])


def settings(asked: argparse.Namespace) -> list[str]:
    """Of a run of so many prompts, by the recipe's own sampler."""
    return [f"prompts.train={asked.prompts}", "prompts.eval=4", f"model.id={asked.model}"]


def show_generation(folder: Path, asked: argparse.Namespace) -> None:
    """The table of `ddpo generate`."""
    print(
        "\n| generation | pictures | wall | denoiser | decoder | text encoder | the rest |\n|---|---|---|---|---|---|---|"
    )
    rows = []
    for number in range(asked.rounds):
        run = open_run(folder / str(number), "shapes", settings(asked))
        rows.append(_generation(run))
    median = sorted(rows, key=lambda row: (row[1] + row[2]) / row[0])[len(rows) // 2]
    wall, *parts = median
    shares = " | ".join(f"{100 * part / wall:.1f} %" for part in (*parts, wall - sum(parts)))
    print(f"| median of {asked.rounds} | {4 * asked.prompts} | {wall:.2f} s | {shares} |")


def _generation(run: Any) -> tuple[float, float, float, float]:
    """Wall time of the stage once the model is loaded, and what of it is in each network."""
    from aifeedback_dpo import models

    model = models.load(run.recipe.model)
    every = generate.shots_of(run, prompts.read(run))
    job = sampling.Drawing(run, every, run.recipe.model, "Generating", model=model)
    networks = {"denoiser": model.denoiser, "vae": model.pipeline.vae, "text": model.pipeline.text_encoder}
    with watched(networks) as spent:
        start = time.perf_counter()
        engine.run(sampling.asked(job), engine.Silent(), engine.Here())
        wall = time.perf_counter() - start
    return wall, spent["denoiser"], spent["vae"], spent["text"]


def show_labelling(folder: Path, asked: argparse.Namespace) -> None:
    """The table of `ddpo label`, by pickscore."""
    print("\n| labelling | pictures | wall | image tower | text tower | the rest |\n|---|---|---|---|---|---|")
    run = open_run(folder / "drawn", "shapes", settings(asked))
    generate.generate(run, engine.Silent())
    rows = [_labelling(open_run(folder / "drawn", None), folder / "drawn") for _ in range(asked.rounds)]
    wall, *parts = sorted(rows, key=lambda row: (row[1] + row[2]) / row[0])[len(rows) // 2]
    shares = " | ".join(f"{100 * part / wall:.1f} %" for part in (*parts, wall - sum(parts)))
    print(f"| median of {asked.rounds} | {4 * asked.prompts} | {wall:.2f} s | {shares} |")


def _labelling(run: Any, root: Path) -> tuple[float, float, float]:
    from aifeedback_dpo import scorers
    from aifeedback_dpo.pairs import Pairs

    for path in (root / "scores").rglob("part-*"):
        path.unlink()
    scorer = scorers.load("pickscore", run.recipe.label.scorers["pickscore"])
    network = scorer.towers.network  # type: ignore[attr-defined]
    spent = {"image": 0.0, "text": 0.0}
    for name in spent:
        object.__setattr__(network, name, _clocked(getattr(network, name), spent, name))
    captions = Pairs.read(run).captions(run)
    job = scoring.Scoring(run, {}, {"pickscore": scorer.recipe}, captions, loaded={"pickscore": scorer})
    start = time.perf_counter()
    engine.run(scoring.asked(job), engine.Silent(), engine.Here())
    return time.perf_counter() - start, spent["image"], spent["text"]


def _clocked(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            if CUDA:
                torch.cuda.synchronize()
            spent[name] += time.perf_counter() - start

    return run


# -- against the loop of the documentation ---------------------------------------------------------------------------


def show_loop(folder: Path, asked: argparse.Namespace) -> None:
    """Pictures a second, by both, in turns."""
    run = open_run(folder / "plan", "shapes", settings(asked))
    location = shapes.weights("pipeline") if asked.model == "shapes" else asked.model
    pipeline = StableDiffusionPipeline.from_pretrained(location, safety_checker=None, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if CUDA else "cpu")
    shots = list(generate.shots_of(run, prompts.read(run)))
    ours, loop = [], []
    for number in range(asked.rounds):
        wall, *_ = _generation(open_run(folder / str(number), "shapes", settings(asked)))
        ours.append(len(shots) / wall)
        (folder / f"loop-{number}").mkdir(parents=True)
        start = time.perf_counter()
        for at, shot in enumerate(shots[: len(shots) // 2]):
            picture = pipeline(
                shot.prompt,
                num_inference_steps=shot.steps,
                guidance_scale=shot.guidance,
                generator=torch.Generator("cpu").manual_seed(shot.seed),
            ).images[0]
            picture.save(folder / f"loop-{number}" / f"{at}.png")
        loop.append(len(shots) // 2 / (time.perf_counter() - start))
    ratios = [one / other for one, other in zip(ours, loop, strict=True)]
    print("\n| pictures a second | ours | documentation's loop | ratio |\n|---|---|---|---|")
    print(
        f"| median of {asked.rounds} | {statistics.median(ours):.1f} | {statistics.median(loop):.1f} | "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


# -- places ----------------------------------------------------------------------------------------------------------


def show_places(folder: Path, asked: argparse.Namespace) -> None:
    """Whole commands, imports and loading and all."""
    places = {
        "one process": [],
        "--workers 2": ["--workers", "2"],
        "--workers 4": ["--workers", "4"],
        "four --shard, one after the other": None,
        "--engine ray --workers 1": ["--engine", "ray", "--workers", "1"],
        "--engine ray --workers 2": ["--engine", "ray", "--workers", "2"],
    }
    print("\n| place | generate | label | pictures, pairs, scores and preferences |\n|---|---|---|---|")
    first: dict[str, bytes] = {}
    for name, options in places.items():
        run = folder / name.replace(" ", "-")
        seconds = []
        for command in (["generate", *settings(asked)], ["label", "--scorer", "pickscore"]):
            start = time.perf_counter()
            for more in [options] if options is not None else [["--shard", f"{at}/4"] for at in range(4)]:
                subprocess.run(
                    [sys.executable, "-m", "aifeedback_dpo", *command, "--run", str(run), *more],
                    check=True,
                    capture_output=True,
                )
            seconds.append(time.perf_counter() - start)
        made = tables(run)
        first = first or made
        same = f"identical, {len(made)} files" if made == first else "NOT the same"
        print(f"| {name} | {seconds[0]:.1f} s | {seconds[1]:.1f} s | {same} |", flush=True)


if __name__ == "__main__":
    main()
