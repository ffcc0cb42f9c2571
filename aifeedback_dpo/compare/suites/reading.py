"""A suite from its name or file: its different prompts in order, each with its category; and a share of a suite."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aifeedback_dpo.compare.suites import coco, place
from aifeedback_dpo.compare.suites.known import KNOWN, STYLES, Known
from aifeedback_dpo.compare.suites.place import Place
from aifeedback_dpo.compare.suites.suite import Item, Suite
from aifeedback_dpo.compare.suites.tables import CATEGORIES, FORMATS, PROMPTS, Row, column, rows
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.seeds import derive


def load(spec: str) -> Suite:
    """The suite of `NAME`, `NAME=PATH`, `NAME=owner/name[@revision]`, or a file of prompts.

    Raises UserError for a name that nobody knows or a file without prompts, DataError for one that is broken, ModelMissing,
    with the command that fetches it, for a suite that is not on this machine when the hub cannot be reached.
    """
    name, given, where = spec.partition("=")
    if name in KNOWN:
        if given and not where:
            raise UserError(f"--suite {spec} names no place; give --suite {name}=PATH, or --suite {name} alone")
        known = KNOWN[name]
        return _known(name, known, place.find(name, known, where or None))
    path = Path(spec).expanduser()
    if path.is_file():
        return _own(path)
    raise UserError(_refusal(spec, path))


def limited(suite: Suite, count: int) -> Suite:
    """`count` prompts of a suite, or all where it has fewer, as many of each category as its share is.

    Within a category they are drawn by a hash of the prompt, not taken from the top, since published lists are sorted; they
    keep the suite's order. The draw is the same every time, and a smaller one is part of a larger. COCO's captions are in
    drawn order already.
    """
    if count < 1:
        raise UserError(f"--limit is {count}; give at least 1 prompt a suite")
    if count >= len(suite.items):
        return suite
    groups: dict[str | None, list[Item]] = {}
    for item in sorted(suite.items, key=lambda item: derive("suite", suite.name, item.prompt)):
        groups.setdefault(item.category, []).append(item)
    placed = {
        item.prompt: ((rank + 0.5) / len(group), derive("suite", suite.name, item.prompt))
        for group in groups.values()
        for rank, item in enumerate(group)
    }
    if suite.name == "coco":
        chosen = {item.prompt for item in suite.items[:count]}
    else:
        chosen = set(sorted(placed, key=lambda prompt: placed[prompt])[:count])
    kept = tuple(item for item in suite.items if item.prompt in chosen)
    among = f", drawn in proportion from {len(groups)} categories" if len(groups) > 1 else ", drawn by a hash"
    return replace(suite, items=kept, notes=(*suite.notes, f"{count} of its {len(suite.items)} prompts{among}"))


def _refusal(spec: str, path: Path) -> str:
    name = spec.partition("=")[0]
    known = f"Known: {', '.join(KNOWN)}; or give a file of prompts ({', '.join(FORMATS)})"
    if path.is_dir():
        return f"--suite {spec} is a folder; say which suite it is, as --suite NAME={spec}. {known}"
    if path.suffix.lower() in FORMATS and "=" not in spec:
        return f"--suite {spec}: there is no such file. {known}"
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    return f"no suite '{name}'{hint} {known}"


def _known(name: str, known: Known, at: Place) -> Suite:
    notes: list[str] = []
    if name == "coco":
        told: Iterable[Row] = coco.captions(at.files[0])
    else:
        told = (row for file in at.files for row in _rows_of(file, known))
    items, read = _items(told, at.source, notes)
    reference = coco.pictures(at.files[0]) if name == "coco" else None
    if name == "coco" and reference is None:
        notes.append("no folder of pictures (val2014) lies beside the captions, so FID is not measured against them")
    if known.styles and all(item.category is None for item in items):
        notes.append(
            f"this list does not say which style a prompt is of ({', '.join(STYLES)}), so there are no means by style"
        )
    seen = [item for item in items if "include" in item.data]
    if name == "geneval" and len(seen) < len(items):
        raise UserError(
            f"{at.source} says of {len(items) - len(seen)} prompts not what must be seen (`include`), as GenEval's "
            f"{known.files[0]} does; `{known.fetch}` fetches that"
        )
    if read != known.prompts and name != "coco":
        notes.append(f"{at.source} has {read} prompts, and the published suite has {known.prompts}")
    return Suite(
        name=name,
        about=known.about,
        source=at.source,
        items=items,
        read=read,
        different=len(items),
        images=known.protocol.images,
        statistic=known.protocol.statistic,
        notes=tuple(notes),
        reference=reference,
        detects=name == "geneval",
    )


def _own(path: Path) -> Suite:
    notes: list[str] = []
    items, read = _items(rows(path), path.name, notes)
    detects = all("include" in item.data for item in items)
    about = f"prompts of {path.name}"
    return Suite(path.name, about, path.name, items, read, len(items), notes=tuple(notes), detects=detects)


def _rows_of(file: Path, known: Known) -> Iterable[Row]:
    """With the file's name as their category, where the suite keeps a style a file."""
    style = {"category": file.stem} if known.styles and file.stem in STYLES else {}
    return ({**row, **style} for row in rows(file))


def _items(told: Iterable[Row], source: str, notes: list[str]) -> tuple[tuple[Item, ...], int]:
    """Each different prompt once, with one space for any white space; and how many there were."""
    found: dict[str, Item] = {}
    read = 0
    for row in told:
        key = column(row, PROMPTS)
        if key is None:
            raise UserError(f"{source} has the columns {', '.join(row)}; a prompt is called {', '.join(PROMPTS)}")
        if (value := row[key]) is None:
            continue
        if not isinstance(value, str):
            raise UserError(f"the column {key} of {source} holds {type(value).__name__}, not text")
        if text := " ".join(value.split()):
            read += 1
            found.setdefault(text, _item(text, row, key))
    if not found:
        raise UserError(f"{source} has no prompts")
    if dropped := read - len(found):
        notes.append(f"{dropped} of {read} prompts are repetitions and are drawn once")
    return tuple(found.values()), read


def _item(text: str, row: Row, key: str) -> Item:
    named = column(row, CATEGORIES)
    category = row[named] if named else None
    data: dict[str, Any] = {name: value for name, value in row.items() if name not in (key, named)}
    return Item(text, str(category).strip() or None if category is not None else None, data)
