"""A long run of one target with atheris, which looks for inputs that reach new code: outside CI, for as long as you like.

    pip install atheris        (not needed by anything else; Linux, and a Python that it has a wheel for)
    OMP_NUM_THREADS=1 python -m tests.fuzz image --minutes 10 --corpus /tmp/fuzz/image

An input that breaks a target is left in the corpus' folder as crash-*; `python -m tests.fuzz image FILE` runs it alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

LOOKED_INTO = ["aifeedback_dpo", "PIL", "yaml", "omegaconf", "tarfile", "json"]
LONGEST = 64 * 1024  # bytes of an input
SECONDS = 30  # that one input may take
MEMORY = 4096  # MiB of the whole process


def main(arguments: Sequence[str]) -> None:
    """Runs atheris; its counts are on stderr."""
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("target")
    asked.add_argument("file", nargs="?", type=Path, help="one input, run alone")
    asked.add_argument("--minutes", type=float, default=10)
    asked.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    told = asked.parse_args(arguments)
    if told.file:
        from tests.fuzz.targets import TARGETS

        TARGETS[told.target][0](told.file.read_bytes())
        return
    import atheris

    with atheris.instrument_imports(include=LOOKED_INTO):
        from tests.fuzz.targets import TARGETS
    target, seeds = TARGETS[told.target]
    corpus = told.corpus / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:02d}").write_bytes(seed)
    limits = [f"-max_total_time={int(told.minutes * 60)}", f"-max_len={LONGEST}", f"-timeout={SECONDS}"]
    limits += [f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={told.corpus}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *limits], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
