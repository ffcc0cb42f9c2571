"""Two folders, chosen/ and rejected/, as kohya's and SimpleTuner's trainers read them: one stem is one pair.

A caption is in the .txt of the same stem beside either picture; `metadata.jsonl` may have prompt, p_chosen and votes by id.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.records import content_id
from aifeedback_dpo.sources import labels
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Rows, State, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "chosen/<id>.png, rejected/<id>.png, and <id>.txt beside one of them"
TAKES = ()
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
ENDS = ("chosen", "rejected")


def opened(asked: Asked) -> Opened:
    """The two folders of this one."""
    root = Path(asked.path).expanduser()
    if not all((root / end).is_dir() for end in ENDS):
        found = ", ".join(sorted(path.name for path in root.iterdir())[:12]) if root.is_dir() else "no such folder"
        raise UserError(
            f"{asked.path} has no folders chosen and rejected; found: {found or 'nothing'}; wanted: {WANTS}"
        )
    pictures = {end: _by_stem(root / end) for end in ENDS}
    stems = sorted(pictures["chosen"].keys() | pictures["rejected"].keys())
    if not stems:
        raise UserError(f"{asked.path} has no pictures in chosen and rejected; wanted: {WANTS}")
    told = _metadata(root / "metadata.jsonl")
    sizes = [
        (end, file.name, file.stat().st_size) for end in ENDS for files in pictures[end].values() for file in files
    ]

    def rows(start: int, _: State | None) -> Rows:
        for stem in stems[start:]:
            yield {"id": stem, **{end: pictures[end].get(stem, []) for end in ENDS}}, lambda: None

    return Opened(
        name=root.name,
        split="train",
        identity=content_id(sizes),
        columns={"chosen": "file", "rejected": "file", "caption": "text"},
        total=len(stems),
        licence=None,
        rows=rows,
        read=lambda row: _read(row, root, told.get(row["id"], {})),
    )


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            found.setdefault(file.stem, []).append(file)
    return found


def _metadata(path: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        try:
            if not line.strip():
                continue
            row = json.loads(line.decode())
            found[str(row["id"])] = row
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} has no object with an id on line {number}; mend it or take it away") from error
    return found


def _read(row: Row, root: Path, told: dict[str, Any]) -> Iterator[Item]:
    lie = Shelf((root,))
    captions = {
        file.read_text(encoding="utf-8").strip() for end in ENDS if (file := root / end / f"{row['id']}.txt").is_file()
    }
    if any(len(row[end]) > 1 for end in ENDS):
        yield Unusable("picture missing", f"{row['id']}: several files of that name")
        return
    if len(captions) > 1:
        yield Unusable("caption", f"{row['id']}: the two captions differ")
        return
    try:
        vote = Vote(labels.sure(told.get("p_chosen")), count=labels.people(told.get("votes", 1)))
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    prompt = told.get("prompt") or (captions.pop() if captions else "")
    first, second = (
        picture(
            row[end][0].relative_to(root).as_posix() if row[end] else None, lie, model=told.get(f"{end}_model") or ""
        )
        for end in ENDS
    )
    yield Comparison(prompt, first, second, (vote,), "chosen")
