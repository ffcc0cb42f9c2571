"""What the columns of a set must be, said in one line where they are not."""

from collections.abc import Iterable, Sequence

from aifeedback_dpo.errors import UserError
from aifeedback_dpo.sources.comparison import Asked

TELLING = {
    "pickapic": {"jpg_0", "jpg_1", "label_0"},
    "imagereward": {"img_better", "img_worse"},
    "rapidata": {"image1", "image2", "detailed_results_preference"},
    "pairs": {"chosen", "rejected"},
    "unpaired": {"completion", "label"},
    "hpdv3": {"path1", "path2"},
    "hpdv2": {"human_preference", "file_path"},
}


def need(wanted: Sequence[str], found: Iterable[str], asked: Asked, wants: str) -> None:
    """Raises UserError unless all of these columns are there; names a source that they would fit."""
    if missing := [name for name in wanted if name not in (there := list(found))]:
        raise refused(f"has no {', '.join(missing)}", there, asked, wants)


def refused(why: str, found: Iterable[str], asked: Asked, wants: str) -> UserError:
    """The error for a set that is not of this format."""
    there = list(found)
    fits = [name for name, telling in TELLING.items() if telling <= set(there)]
    hint = f". These are the columns of `ddpo import {fits[0]}`" if fits else ""
    listed = ", ".join(there) or "none"
    return UserError(f"{asked.path} {why}; columns found: {listed}; wanted: {wants}{hint}")


def first_of(names: Sequence[str], found: Iterable[str]) -> str | None:
    """The first of these names that is a column."""
    there = set(found)
    return next((name for name in names if name in there), None)
