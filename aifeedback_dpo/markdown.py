"""Text in Markdown: nothing in a name, a prompt or a setting becomes markup."""

import re

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&$!^])")
BLOCK = re.compile(r"^([-+=]|\d+(?=[.)]))")  # what would begin a list or underline a heading


def escaped(text: str) -> str:
    """Text that is shown as it is, on one line (CommonMark 0.31, backslash escapes)."""
    line = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text).strip()
    safe = MARKUP.sub(r"\\\1", line)
    return BLOCK.sub(lambda found: f"\\{found[1]}" if found[1] in "-+=" else f"{found[1]}&#8203;", safe)


def fenced(text: str, kind: str) -> str:
    """Lines shown as they are; the fence is longer than any that is in them."""
    fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", text))])
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"
