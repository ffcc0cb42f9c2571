"""How fast and in how much memory policies are trained, against the published loop: `python benchmarks/train_throughput.py`.

Both train the same LoRA on the same network, pairs and batch, taking turns in one process; the first step of each turn warms up
and is not counted. A step of ours is timed from outside, from the end of one to the end of the next, so that reading from
the caches and writing the log are in it. Peaks of memory are of a process each.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from aifeedback_dpo import config, engine
from aifeedback_dpo.dpo.train import train
from aifeedback_dpo.store import Run
from benchmarks import published_loop, worlds

JUDGES = ("human", "pickscore", "clip", "aesthetic")
BATCH = 8


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    turns: int
    timed: int
    pairs: int
    epochs: tuple[int, ...]
    candidates: tuple[int, ...]
    grown: tuple[int, ...]


FULL = Size(turns=3, timed=5, pairs=48, epochs=(1, 3, 5), candidates=(4, 2), grown=(1_000, 10_000, 100_000))
QUICK = Size(turns=1, timed=2, pairs=24, epochs=(1, 2), candidates=(4,), grown=(1_000,))


class Clock(engine.Silent):
    """When training was called, and when each of its steps was over."""

    def __init__(self) -> None:
        self.called = time.perf_counter()
        self.marks: list[float] = []

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[engine.Bar]:
        if name.startswith("Training"):
            self.marks.append(time.perf_counter())
            yield self
        else:
            yield engine.Silent()

    def advance(self, count: int) -> None:
        self.marks.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        """Seconds of each step."""
        return [after - before for before, after in pairwise(self.marks)]


def ours(run: Run, judges: Sequence[str], *, forget: Sequence[str] = ()) -> Clock:
    """`ddpo train`, with no policy there and without those parts of the cache that `forget` names by pattern."""
    shutil.rmtree(run.root / "policies", ignore_errors=True)
    for pattern in forget:
        for path in run.cache.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    clock = Clock()
    train(run, judges, clock)
    return clock


def steps(run: Run, size: Size) -> Iterator[str]:
    """Seconds a step with latents and prompts in the cache, one judge and four. Four judges are four runs of the loop."""
    run = worlds.asked(run, steps=size.timed + 1)
    ours(worlds.asked(run, steps=1), JUDGES[:1])  # fills the caches, and warms up
    contests: dict[str, tuple[int, Callable[[], Clock]]] = {
        "latents cached": (1, lambda: ours(run, JUDGES[:1], forget=["reference*"])),
        "latents and reference errors cached": (1, lambda: ours(run, JUDGES[:1])),
        "four judges at once, latents cached": (4, lambda: ours(run, JUDGES, forget=["reference*"])),
        "four judges at once, latents and reference errors cached": (4, lambda: ours(run, JUDGES)),
    }
    fast: dict[str, list[float]] = {name: [] for name in contests}
    slow = []
    for _ in range(size.turns):
        slow.append(statistics.median(published_loop.train(run, JUDGES[0], steps=size.timed + 1).seconds[1:]))
        for name, (_, turn) in contests.items():
            fast[name].append(statistics.median(turn().steps[1:]))
    for name, (judges, _) in contests.items():
        yield row(name, fast[name], [judges * seconds for seconds in slow])


def from_nothing(folder: Path, model: Path, size: Size, *, candidates: int) -> Iterator[str]:
    """Seconds from the call to the end of each epoch, with loading, and with filling both caches; one draw a pair."""
    pairs = candidates * (candidates - 1) // 2
    each = size.pairs // BATCH
    last = each * size.epochs[-1]
    run = worlds.run(
        folder, model, size.pairs, JUDGES[:1], candidates=candidates, batch_size=BATCH, steps=last, draws=1
    )
    fast: list[list[float]] = []
    slow: list[list[float]] = []
    for _ in range(1 if size.turns == 1 else 2):
        trace = published_loop.train(run, JUDGES[0], steps=last)
        slow.append(list(accumulate(trace.seconds, initial=trace.loading)))
        clock = ours(run, JUDGES[:1], forget=["*"])
        saving = time.perf_counter() - clock.marks[-1]
        fast.append([mark - clock.called + saving for mark in clock.marks])
    for epochs in size.epochs:
        name = (
            f"cold, {epochs} epoch{'s' * (epochs > 1)} of {size.pairs} pairs, {pairs} pair{'s' * (pairs > 1)} a prompt"
        )
        yield row(name, *([total[epochs * each] for total in totals] for totals in (fast, slow)))


def row(name: str, fast: Sequence[float], slow: Sequence[float]) -> str:
    """Medians over turns, and of the ratio of each turn, with its range."""
    ratios = sorted(theirs / mine for mine, theirs in zip(fast, slow, strict=True))
    seconds = " | ".join(f"{statistics.median(times):.2f}" for times in (fast, slow))
    return f"| {name} | {seconds} | {statistics.median(ratios):.2f}x | {ratios[0]:.2f} to {ratios[-1]:.2f} |"


MEASURES: dict[str, Callable[[Run], object]] = {
    "libraries": lambda _run: None,
    "loop": lambda run: published_loop.train(run, JUDGES[0], steps=2),
    "loop, second network": lambda run: published_loop.train(run, JUDGES[0], steps=2, second_network=True),
    "ours": lambda run: ours(run, JUDGES[:1], forget=["*"]),
    "ours, cached": lambda run: ours(run, JUDGES[:1]),
    "ours, four judges": lambda run: ours(run, JUDGES, forget=["*"]),
    "grown": lambda run: ours(run, ["random"], forget=["*"]),
}


def peak(name: str, folder: Path) -> int:
    """The most memory, in MiB, that a process of its own had while it did one of MEASURES on the run in a folder."""
    command = [sys.executable, __file__, "--measure", name, str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measured() -> int:
    """This process's peak in MiB. `ru_maxrss` starts at what the parent held, so Linux is asked otherwise."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def memory(folder: Path, run: Run, size: Size) -> Iterator[str]:
    """Peaks of the whole process, Python and its libraries included."""
    run = worlds.asked(run, steps=2)
    run.record("benchmark", "done")  # writes the recipe, by which the other process knows it
    rows = {
        "Python and the libraries alone": "libraries",
        "published loop, reference by the adapter": "loop",
        "published loop, a second network as reference": "loop, second network",
        "ours, caches filled first": "ours",
        "ours, caches full": "ours, cached",
        "ours, four judges at once, caches filled first": "ours, four judges",
    }
    for shown, name in rows.items():
        yield f"| {shown} | {peak(name, run.root):,} |"
    for pairs in size.grown:
        grown = worlds.asked(worlds.synthetic_run(folder / f"grown-{pairs}", pairs), steps=20, batch_size=BATCH)
        grown.record("benchmark", "done")
        yield f"| ours on a tiny network, {pairs:,} pairs | {peak('grown', grown.root):,} |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of two minutes; its numbers mean little")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "RUN"), help="for the processes that this one starts")
    asked = parser.parse_args()
    worlds.quiet()
    if asked.measure:
        name, root = asked.measure
        MEASURES[name](Run(Path(root), config.load(Path(root) / "recipe.yaml")))
        print(measured())
        return
    from benchmarks.label_throughput import machine  # here, so that no scorer is loaded where memory is measured

    size = QUICK if asked.quick else FULL
    encoding, forward = worlds.flops(worlds.QUARTER["unet"], worlds.QUARTER["vae"], worlds.SIDE)
    print(f"{machine()}; torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}; medians of {size.turns} turns")
    print(f"UNet {forward / 1e9:.2f} GFLOP a picture, encoding {encoding / 1e9:.2f}; batches of {BATCH} pairs\n")
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = worlds.model(folder / "model")
        run = worlds.run(folder / "run", model, size.pairs, JUDGES, batch_size=BATCH)
        print("| seconds a step | ours | published loop | ratio | range |\n|---|---|---|---|---|")
        for line in steps(run, size):
            print(line, flush=True)
        print("\n| seconds in all | ours | published loop | ratio | range |\n|---|---|---|---|---|")
        for candidates in size.candidates:
            for line in from_nothing(folder / f"cold-{candidates}", model, size, candidates=candidates):
                print(line, flush=True)
        print("\n| peak memory | MiB |\n|---|---|")
        for line in memory(folder, run, size):
            print(line, flush=True)


if __name__ == "__main__":
    main()
