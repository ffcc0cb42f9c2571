"""Numbers in Markdown, and tables of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aifeedback_dpo.compare.tabular import interval

UNDEFINED = "–"


def share(found: Mapping[str, Any] | None) -> str:
    """A share in percent with its interval."""
    return interval(found, lambda value: f"{100 * value:.0f}", UNDEFINED)


def number(found: Mapping[str, Any] | None) -> str:
    """Any other number with its interval, to three digits."""
    return interval(found, lambda value: f"{value:.3g}", UNDEFINED)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells that are escaped already, as GitHub's tables."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
