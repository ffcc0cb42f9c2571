"""Pick-a-Pic's columns as tar shards, as its public WebDataset mirror has them: each column a file, all but bytes as text."""

from collections.abc import Iterable
from pathlib import Path

from aifeedback_dpo.export import parts
from aifeedback_dpo.export.files import stem
from aifeedback_dpo.export.pair import Pair
from aifeedback_dpo.export.pickapic import row

ABOUT = "the same columns as tar shards, as Pick-a-Pic's WebDataset mirror has them"
KEEPS_TIES = True
KEEPS_UNLABELLED = False
KEEPS_HELD_OUT = True
FILES = "data/{split}-*.tar"


def write(slices: Iterable[list[Pair]], folder: Path) -> None:
    """The set, a pair a sample."""
    parts.tars(folder, slices, _files)


def _files(pair: Pair) -> dict[str, bytes]:
    """Every sample has every column, a null one as the text None: loaders take the columns of the first for all."""
    return {
        f"{stem(pair.pair_id)}.{name}": value if isinstance(value, bytes) else str(value).encode()
        for name, value in row(pair).items()
    }
