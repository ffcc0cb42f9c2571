"""How far each scorer is from plain transformers, open_clip or torchvision: `python benchmarks/parity.py`.

Tiny random models in the real file formats: what is compared is formulas, preprocessing and the reading of prompts.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from transformers.utils import logging

from tests.parity import imagereward_reference
from tests.parity.references import CASES, PROMPTS, Case, pictures

PICTURES = 60


def row(make: Callable[[Path], Case], texts: Sequence[str] = PROMPTS) -> tuple[str, str, float]:
    """Square, wide, tall, RGBA, palette and grey pictures with short, long and odd prompts, in the unit of the case."""
    with TemporaryDirectory() as folder:
        case = make(Path(folder))
        prompts = [texts[at % len(texts)] for at in range(PICTURES)]
        return case.name, case.reference, case.difference(pictures(PICTURES), prompts)


# each gives the scorer's name, its reference's name, and the largest difference over PICTURES pictures
ROWS: list[Callable[[], tuple[str, str, float]]] = [
    *(lambda make=make: row(make) for make in CASES.values()),
    lambda: row(imagereward_reference.case, imagereward_reference.PROMPTS),
]


def main() -> None:
    """Prints the table."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print("| scorer | reference | pictures | largest difference |\n|---|---|---|---|")
    for measure in ROWS:
        name, reference, difference = measure()
        print(f"| {name} | {reference} | {PICTURES} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    main()
