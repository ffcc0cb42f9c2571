"""How deep a YAML text is and how large once its aliases are written out, known before it is: others may have written it.

Nine lines of aliases to aliases stand for a billion values, and a hundred thousand brackets overrun the stack of libyaml.
"""

import yaml

DEEPEST = 40
MOST = 20_000  # values and keys
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(text: str) -> None:
    """Raises ValueError for a text that is deeper or larger than any recipe, or holds itself; YAMLError for no YAML."""
    sizes: dict[str | None, int | None] = {}  # by anchor; None while it is open
    open_: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            size += _held(sizes.get(event.anchor, 0), event.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            size, sizes[event.anchor] = size + 1, 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, size))
            size, sizes[event.anchor] = size + 1, None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            sizes[anchor] = size - before
        if len(open_) > DEEPEST or size > MOST:
            raise ValueError(f"it is nested more than {DEEPEST} deep, or stands for more than {MOST} values")


def _held(size: int | None, anchor: str | None) -> int:
    if size is None:
        raise ValueError(f"the alias *{anchor} holds itself")
    return size
