"""Where `ddpo compare` spends its time: two policies and the base over 500 prompts, then the same command once more.

    python benchmarks/compare_profile.py [--prompts 500] [--folder DIR] [--guidance 3 --steps 25]

The embedded model is the hardest case: a picture of 48 pixels takes it milliseconds, so whatever is not drawing or scoring
shows. Its oracle is a scorer here. The first command is timed in this process, stage by stage; the second is a process of
its own, imports and all, and must load no network. `--folder` keeps the run, or goes on with one.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from typer.testing import CliRunner

from aifeedback_dpo.cli.app import app
from aifeedback_dpo.compare import detecting, guards, judging, report, standings, truth
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.scorers import scoring

COUNTED = {
    "denoiser": [(Diffuser, "sample")],
    "scorers": [(scoring, "score"), (truth, "_read"), (detecting, "measure")],
    "guards": [(guards, "measure")],
    "judges": [(judging, "judges")],
    "statistics": [(standings, "means"), (standings, "duels"), (standings, "grid")],
    "report": [(report, "write")],
}
WORK = ("denoiser", "scorers")


def main() -> None:
    """Prepares a run, and prints the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--guidance", type=float, default=1)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = options.folder or Path(scratch) / "run"
        sampler = [f"generate.steps={options.steps}", f"generate.guidance={options.guidance}"]
        small = ["prompts.train=64", f"prompts.eval={options.prompts}", "train.steps=6", *sampler]
        ddpo("generate", *small, run=run)
        ddpo("label", "--scorer", "pickscore", run=run)
        ddpo("train", "--judge", "human", "--judge", "ai", run=run)
        spent = timed(lambda: ddpo("compare", "human", "vs", "ai", run=run))
        again = [sys.executable, "-c", "from aifeedback_dpo.cli.app import app; app()", "compare", "human", "vs", "ai"]
        start = time.perf_counter()
        subprocess.run([*again, "--run", str(run)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        second = time.perf_counter() - start
        size = sum(path.stat().st_size for path in (run / "report").rglob("*") if path.is_file())
    show(spent, options.prompts)
    print(f"\nThe same command again, a process of its own: {second:.1f} s. The report: {size / 2**20:.1f} MiB")


def ddpo(*arguments: str, run: Path) -> None:
    """One command in this process."""
    result = CliRunner().invoke(app, [*arguments, "--run", str(run)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"


def timed(work: Callable[[], None]) -> dict[str, float]:
    """Seconds by stage, those of stages inside others counted once, and `all`."""
    spent: dict[str, float] = defaultdict(float)

    def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start, before = time.perf_counter(), sum(spent.values())
            try:
                return function(*arguments, **named)
            finally:
                spent[stage] += time.perf_counter() - start - (sum(spent.values()) - before)

        return run

    kept = [(place, name, getattr(place, name)) for places in COUNTED.values() for place, name in places]
    for stage, places in COUNTED.items():
        for place, name in places:
            setattr(place, name, clocked(stage, getattr(place, name)))
    start = time.perf_counter()
    try:
        work()
    finally:
        for place, name, function in kept:
            setattr(place, name, function)
    return {**spent, "all": time.perf_counter() - start}


def show(spent: dict[str, float], prompts: int) -> None:
    """The first table."""
    total = spent.pop("all")
    print(f"The base and two policies, {prompts} prompts: {total:.1f} s\n\n| | seconds | share |\n|---|---|---|")
    spent["the rest"] = total - sum(spent.values())
    for stage, seconds in spent.items():
        print(f"| {stage} | {seconds:.1f} | {100 * seconds / total:.1f} % |")
    share = 100 * sum(spent.get(stage, 0) for stage in WORK) / total
    print(f"| **denoiser and scorers** | | **{share:.1f} %** |")


if __name__ == "__main__":
    main()
