"""Training SD 1.5 and SDXL at full size on one GPU, against the published loop: `python benchmarks/train_gpu.py`.

Random weights in the published architectures, bfloat16, a LoRA of rank 16, batches of 1, 4 and 16 pairs. FLOP utilisation
counts what the UNet is trained with: the policy's forward and backward pass and, where it is asked, the reference's forward
pass; not the autoencoder, nor what gradient checkpointing does twice. Both loops have the same settings, and SDXL gradient
checkpointing in both, as its script is started. `--tiny` goes through all of it on a CPU, where compiling takes minutes.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode

from aifeedback_dpo.store import Run
from benchmarks import architectures, published_loop, worlds
from benchmarks.train_throughput import ours

CUDA = torch.cuda.is_available()
RANK, PAIRS = 16, 48
WARM_UP, TIMED = 3, 10
WORKERS = 8  # that read pictures for the published loop, since decoding large ones would keep a GPU waiting
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bfloat16, dense, as their maker states; SXM


@dataclass(frozen=True)
class Architecture:
    """A pipeline, and at what size it is trained."""

    name: str
    widths: dict[str, Any]
    side: int
    tokens: int
    gradient_checkpointing: bool


ARCHITECTURES = (
    Architecture("SD 1.5", architectures.SD15, 512, 77, False),
    Architecture("SDXL", architectures.SDXL, 1024, 77, True),
)
TINY = (
    Architecture("tiny SD", architectures.TINY, 16, 16, False),
    Architecture("tiny SDXL", architectures.TINY_XL, 16, 16, True),
)


def flops(architecture: Architecture) -> tuple[int, int]:
    """Operations a picture: of the policy's forward and backward pass, and of the reference's forward pass."""
    with torch.device("meta"):
        side = worlds.latent_side(architecture.widths["vae"], architecture.side)
        network = worlds.denoiser(architecture.widths["unet"], side).requires_grad_(False)
        network.add_adapter(LoraConfig(r=RANK, target_modules=published_loop.TARGETS))
        asked = worlds.inputs(network, side, architecture.tokens)
        with FlopCounterMode(display=False) as policy:
            network(**asked).sample.sum().backward()
        network.disable_adapters()
        with FlopCounterMode(display=False) as reference, torch.no_grad():
            network(**asked)
    return policy.get_total_flops(), reference.get_total_flops()


def peak_rate() -> tuple[float, str]:
    """The device's most operations a second in bfloat16, and where that is from: its maker, or a large product."""
    name = torch.cuda.get_device_name() if CUDA else ""
    for known, rate in PEAKS.items():
        if known in name:
            return rate, "stated"
    side = 8192 if CUDA else 1024
    one = torch.randn(side, side, dtype=torch.bfloat16, device=published_loop.DEVICE)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        (one @ one)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times), "measured"


def contests(run: Run, **settings: Any) -> Mapping[str, Callable[[], list[float]]]:
    """What is timed: seconds of each step. The cached one finds what the one before it asked the reference."""
    plain = worlds.asked(run, steps=WARM_UP + TIMED, **settings)
    compiled = worlds.asked(plain, compile=True)

    def trained(how: Run, *forget: str) -> list[float]:
        return ours(how, ["random"], forget=forget).steps

    return {
        "published loop": lambda: published_loop.train(plain, "random", steps=WARM_UP + TIMED, workers=WORKERS).seconds,
        "ours, latents cached": lambda: trained(plain, "reference*"),
        "the same, compiled": lambda: trained(compiled, "reference*"),
        "and reference errors cached": lambda: trained(compiled),
    }


def rows(architecture: Architecture, folder: Path, batches: Sequence[int], peak: float) -> Iterator[str]:
    """One line of the table for each batch and way of training."""
    model = worlds.write(
        folder / "model",
        **architecture.widths,
        side=architecture.side,
        tokens=architecture.tokens,
        dtype=torch.bfloat16,
    )
    run = worlds.run(folder / "run", model, PAIRS, ["random"], side=architecture.side, dtype="bfloat16", rank=RANK)
    policy, reference = flops(architecture)
    for batch in batches:
        settings = {"batch_size": batch, "gradient_checkpointing": architecture.gradient_checkpointing}
        for name, timed in contests(run, **settings).items():
            picture = policy + (0 if "errors cached" in name else reference)
            yield f"| {architecture.name} | {batch} | {name} | {_numbers(timed, batch, 2 * picture, peak)} |"


def _numbers(timed: Callable[[], list[float]], batch: int, pair: int, peak: float) -> str:
    torch.compiler.reset()  # or the networks before would stay in memory
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        rate = batch / statistics.median(timed()[WARM_UP:])
    except torch.OutOfMemoryError:
        return "out of memory | | "
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if CUDA else ""
    return f"{rate:.2f} | {100 * rate * pair / peak:.1f} % | {memory}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny networks, on any machine")
    parser.add_argument("--only", choices=["sd15", "sdxl"], help="one of the two")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], help="pairs a step")
    asked = parser.parse_args()
    worlds.quiet()
    peak, source = peak_rate()
    chosen = TINY if asked.tiny else ARCHITECTURES
    device = torch.cuda.get_device_name() if CUDA else "CPU"
    print(f"{device}; torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}; medians of {TIMED} steps")
    print(f"peak {peak / 1e12:.3g} TFLOP/s in bfloat16, {source}\n")
    print("| model | batch | training | pairs/s | FLOP utilisation | peak memory, GiB |\n|---|---|---|---|---|---|")
    for key, architecture in zip(("sd15", "sdxl"), chosen, strict=True):
        if asked.only in (None, key):
            with TemporaryDirectory() as folder:
                for line in rows(architecture, Path(folder), [2] if asked.tiny else asked.batch, peak):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
