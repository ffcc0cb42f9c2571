"""A set in stretches of bounded size, each comparison looked at: are both pictures there, do they open, are they two."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from aifeedback_dpo.importing.known import Known
from aifeedback_dpo.importing.tally import Tally, count
from aifeedback_dpo.sources import Comparison, Item, Opened, Picture, State, Unusable, Unwanted, labels
from aifeedback_dpo.sources.comparison import Row
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import decoded

ROWS = 512
BYTES = 16 * 2**20
DECODERS = 2


@dataclass(frozen=True)
class Seen:
    """A picture that opened, or (pixels only) one that was there already."""

    image_id: str
    pixels: str
    model: str
    data: bytes
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Slice:
    """Rows `start` to `end` of a set, read but not looked at; `state` is how reading goes on after them."""

    start: int
    end: int
    items: list[tuple[str, Item]]
    state: State | None


@dataclass(frozen=True)
class Usable:
    """A comparison that can be used, where it was, its prompt in tidy whitespace, and its two pictures."""

    where: str
    prompt: str
    comparison: Comparison
    first: Seen
    second: Seen


@dataclass(frozen=True)
class Looked:
    """Comparisons that can be used; what was counted; and what cannot be used."""

    usable: list[Usable]
    tally: Tally
    refused: list[dict[str, str]]


def cut(opened: Opened, *, start: int, state: State | None, limit: int | None) -> Iterator[Slice]:
    """The rows from `start` to `limit`, up to ROWS or BYTES at a time: the same cuts wherever reading began."""
    items: list[tuple[str, Item]] = []
    first, size, number = start, 0, start
    after: Callable[[], State | None] | None = None
    with closing(opened.rows(start, state)) as rows:
        wanted = islice(rows, None if limit is None else max(0, limit - start))
        for number, (row, after) in enumerate(wanted, start=start + 1):
            for item in _read(opened, row):
                items.append((f"{opened.split}/{number - 1}", item))
                if isinstance(item, Comparison):
                    size += sum(len(picture.data or b"") for picture in (item.first, item.second))
            if number - first >= ROWS or size >= BYTES:
                yield Slice(first, number, items, after())
                items, first, size = [], number, 0
        if after and number > first:
            yield Slice(first, number, items, after())


def _read(opened: Opened, row: Row) -> list[Item]:
    """A row's comparisons; one that is built otherwise than its format is told of like any other that cannot be used."""
    try:
        return list(opened.read(row))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        return [Unusable("record", f"not built as this format is ({type(error).__name__}: {said})")]


def look(part: Slice, known: Known | None = None, *, ties: bool = True) -> Looked:
    """Looks at each comparison; a picture is decoded once, and not again where it is in the run. Ties can be left out.

    What people said of those that can be used is for the caller to count.
    """
    tally = Tally(rows=part.end - part.start)
    refused: list[dict[str, str]] = []
    usable = []
    pictures = _decoded(part, known)
    for where, item in part.items:
        tally.comparisons += 1
        if isinstance(item, Unwanted):
            count(tally.left_out, item.reason)
            continue
        found = _checked(where, item, pictures) if isinstance(item, Comparison) else item
        if isinstance(found, Unusable):
            tally.refuse(where, found.reason, found.detail)
            refused.append({"where": where, "reason": found.reason, "detail": found.detail})
        elif not ties and found.comparison.p_first == 0.5:
            count(tally.left_out, "a tie")
        else:
            usable.append(found)
    return Looked(usable, tally, refused)


def _checked(where: str, item: Comparison, pictures: dict[bytes, Seen | Unusable]) -> Usable | Unusable:
    """A comparison with its prompt and both pictures, or the first thing that it lacks."""
    try:
        prompt = labels.prompt(item.prompt)
    except NotALabel as error:
        return Unusable("prompt", str(error))
    if not prompt:
        return Unusable("no prompt")
    first, second = _seen(item.first, pictures), _seen(item.second, pictures)
    if isinstance(first, Unusable):
        return Unusable(first.reason, f"the first: {first.detail}")
    if isinstance(second, Unusable):
        return Unusable(second.reason, f"the second: {second.detail}")
    if first.pixels == second.pixels:
        return Unusable("both pictures are the same")
    return Usable(where, prompt, item, first, second)


def _decoded(part: Slice, known: Known | None) -> dict[bytes, Seen | Unusable]:
    """Every picture of a slice, by its bytes."""
    every = [side.data for _, item in part.items if isinstance(item, Comparison) for side in (item.first, item.second)]
    different = list({data for data in every if data is not None})
    there = {data: known.pixels(image_id(data)) if known else None for data in different}
    with ThreadPoolExecutor(DECODERS) as pool:
        return dict(zip(different, pool.map(lambda data: _open(data, there[data]), different), strict=True))


def _open(data: bytes, pixels: str | None) -> Seen | Unusable:
    if pixels is not None:
        return Seen(image_id(data), pixels, "", data)
    try:
        picture = decoded(data)
    except OSError as error:
        return Unusable("picture broken", str(error).partition(" <")[0][:80] or "it does not open")
    said = hashlib.sha256(picture.tobytes()).hexdigest()
    return Seen(image_id(data), said, "", data, picture.width, picture.height)


def _seen(picture: Picture, pictures: dict[bytes, Seen | Unusable]) -> Seen | Unusable:
    if picture.data is None:
        return Unusable("picture missing", picture.problem)
    found = pictures[picture.data]
    if isinstance(found, Unusable):
        return found
    return Seen(found.image_id, found.pixels, picture.model, found.data, found.width, found.height)


def image_id(data: bytes) -> str:
    """The id of an imported picture: of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]
