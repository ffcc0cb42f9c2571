"""How fast and in how much memory policies are trained, against the published loop: `python benchmarks/train_throughput.py`.

Both train the same LoRA on the same network, pairs and batch, a step of one after a step of the other, in one process: what
else the machine does meets both. The first step of each warms up and is not counted. A step of ours is timed from outside, so
that reading from the caches and writing the log are in it. Peaks of memory are of a process each.
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
from itertools import accumulate, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from aifeedback_dpo import config, engine
from aifeedback_dpo.dpo.train import train
from aifeedback_dpo.store import Run
from benchmarks import architectures, published_loop, worlds

JUDGES = ("human", "pickscore", "clip", "aesthetic")
BATCH = 8
WHOLE_SIDE = 256  # pixels: a quarter of the latents of 512, so that a CPU is done with a step of SD 1.5


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    timed: int  # steps
    turns: int  # of training from nothing
    pairs: int
    epochs: tuple[int, ...]
    candidates: tuple[int, ...]
    grown: tuple[int, ...]
    whole: bool  # also the memory of SD 1.5 at full width


FULL = Size(9, turns=5, pairs=24, epochs=(1, 3, 5), candidates=(4, 2), grown=(1_000, 10_000, 100_000), whole=True)
QUICK = Size(2, turns=1, pairs=24, epochs=(1, 2), candidates=(4,), grown=(1_000,), whole=False)


class Clock(engine.Silent):
    """Seconds from the call of training to its first step, and of each step; `between` steps the clock stands."""

    def __init__(self, between: Callable[[], None]) -> None:
        self.between = between
        self.since = time.perf_counter()
        self.before = 0.0
        self.steps: list[float] = []

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[engine.Bar]:
        if name.startswith("Training"):
            self.before = self.past()
            yield self
        else:
            yield engine.Silent()

    def advance(self, count: int) -> None:
        self.steps.append(self.past())
        self.between()
        self.past()

    def past(self) -> float:
        """Seconds since it was asked last."""
        asked, self.since = self.since, time.perf_counter()
        return self.since - asked


def ours(
    run: Run, judges: Sequence[str], *, forget: Sequence[str] = (), between: Callable[[], None] = lambda: None
) -> Clock:
    """`ddpo train`, with no policy there and without those parts of the cache that `forget` names by pattern."""
    shutil.rmtree(run.root / "policies", ignore_errors=True)
    for pattern in forget:
        for path in run.cache.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    clock = Clock(between)
    train(run, judges, clock)
    return clock


def steps(run: Run, size: Size) -> Iterator[str]:
    """Seconds a step with latents and prompts in the cache, one judge and four. Four judges are four runs of the loop."""
    run = worlds.asked(run, steps=size.timed + 1)
    ours(worlds.asked(run, steps=1), JUDGES[:1])  # fills the caches, and warms up
    for judges, cached in product((1, 4), (False, True)):
        networks = published_loop.Networks(run, second_network=False)
        loop = published_loop.each_step(run, JUDGES[0], networks, steps=judges * (size.timed + 1))
        slow = Alternating(loop, judges)
        clock = ours(run, JUDGES[:judges], forget=[] if cached else ["reference*"], between=slow)
        name = "latents and reference errors cached" if cached else "latents cached"
        yield row(("four judges at once, " if judges == 4 else "") + name, clock.steps[1:], slow.seconds[1:])


class Alternating:
    """As many steps of the loop as it is told, at each call, and their seconds."""

    def __init__(self, loop: Iterator[tuple[float, float]], steps: int = 1) -> None:
        self.loop, self.number = loop, steps
        self.seconds: list[float] = []

    def __call__(self) -> None:
        self.seconds.append(sum(seconds for seconds, _ in islice(self.loop, self.number)))


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
    for _ in range(size.turns):
        start = time.perf_counter()
        networks = published_loop.Networks(run, second_network=False)
        loading = time.perf_counter() - start
        loop = Alternating(published_loop.each_step(run, JUDGES[0], networks, steps=last))
        clock = ours(run, JUDGES[:1], forget=["*"], between=loop)
        saving = clock.past()
        fast.append([seconds + saving for seconds in accumulate(clock.steps, initial=clock.before)])
        slow.append(list(accumulate(loop.seconds, initial=loading)))
    for epochs in size.epochs:
        name = (
            f"cold, {epochs} epoch{'s' * (epochs > 1)} of {size.pairs} pairs, {pairs} pair{'s' * (pairs > 1)} a prompt"
        )
        yield row(name, *([total[epochs * each] for total in totals] for totals in (fast, slow)))


def row(name: str, fast: Sequence[float], slow: Sequence[float]) -> str:
    """Medians of both, and of the ratios of those that were taken one after the other, with their range."""
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
    "loop, second network, one pair": lambda run: published_loop.train(
        worlds.asked(run, batch_size=1), JUDGES[0], steps=2, second_network=True
    ),
    "ours, one pair": lambda run: ours(worlds.asked(run, batch_size=1), JUDGES[:1], forget=["*"]),
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
        "published loop, a second network, one pair a step": "loop, second network, one pair",
        "ours, caches filled first, one pair a step": "ours, one pair",
    }
    for shown, name in rows.items():
        yield f"| {shown} | {peak(name, run.root):,} |"
    if size.whole:
        whole = worlds.write(folder / "sd15", **architectures.SD15, side=WHOLE_SIDE, tokens=77)
        layout = {"channels_last": False}  # which copies what a CPU has mapped from the disk
        run = worlds.run(
            folder / "sd15-run", whole, 2, JUDGES[:1], side=WHOLE_SIDE, candidates=2, batch_size=1, steps=2, **layout
        )
        run.record("benchmark", "done")
        for shown, name in rows.items():
            if name in ("loop", "loop, second network", "ours"):
                yield f"| SD 1.5 at full width, one pair a step: {shown} | {peak(name, run.root):,} |"
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
    encoding, forward = worlds.flops(architectures.QUARTER["unet"], architectures.QUARTER["vae"], worlds.SIDE)
    print(f"{machine()}; torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}")
    print(f"medians of {size.timed} steps, and of {size.turns} trainings from nothing")
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
