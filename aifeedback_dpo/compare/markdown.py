"""Text and numbers in Markdown: nothing in a name or a prompt becomes markup."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aifeedback_dpo.compare.tabular import interval

UNDEFINED = "–"
MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$!^])")
BLOCK = re.compile(r"^([-+=]|\d+(?=[.)]))")  # what would begin a list or underline a heading


def escaped(text: str) -> str:
    """Text that is shown as it is, on one line (CommonMark 0.31, backslash escapes)."""
    line = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()
    safe = MARKUP.sub(r"\\\1", line)
    return BLOCK.sub(lambda found: f"\\{found[1]}" if found[1] in "-+=" else f"{found[1]}&#8203;", safe)


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
