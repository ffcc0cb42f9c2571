"""What a run holds besides tables and policies: manifest, imports, the journal of votes, what training keeps, leftovers."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aifeedback_dpo.parts import BrokenFile, of_run
from aifeedback_dpo.records import TABLES
from aifeedback_dpo.store import Run
from aifeedback_dpo.verify import whole
from aifeedback_dpo.verify.findings import Findings

KEPT: tuple[tuple[str, str, Callable[[Path], object]], ...] = (
    ("*/part-*.safetensors", "train", whole.shelf),
    ("reference-*/part-*.parquet", "train", whole.parquet),
    ("embeddings/part-*.npz", "compare", whole.archive),
    ("geneval-*/part-*.jsonl", "compare", whole.lines),
)
"""Of the cache: which files, the command that makes them anew, and what they must be."""


def manifest(run: Run, found: Findings) -> Mapping[str, Any]:
    """What the manifest says was made by what; nothing for one that cannot be read, which is told."""
    path = run.root / "manifest.json"
    if not path.exists():
        found.note(f"{path} is not there, so nothing tells what made this run")
    try:
        made_by: Mapping[str, Any] = run.manifest()["made_by"]
    except BrokenFile as error:
        found.fault("manifest", path, error.what, error.then)
        return {}
    return made_by


def check(run: Run, found: Findings) -> None:
    """Everything but the manifest."""
    found.checked["leftovers"] += sum(1 for _ in run.root.rglob(".*.tmp"))
    strange = [path for table in TABLES for path in (run.root / table).rglob("*") if _is_strange(path)]
    if strange:
        found.note(f"{len(strange)} files among the tables are no parts and are not read (first: {strange[0]})")
    for path in sorted(run.root.glob("imports/*/*.json")):
        then = f"Delete {path.parent} and run the same {of_run('`ddpo import ...`', run.root)} again; the rest is kept"
        found.look("import", path, then, _ledger)
    journal = run.root / "annotate" / "votes.sqlite"
    if journal.exists():
        then = "Restore it, or move it away: the votes that are in the tables stay"
        found.look("journal", journal, then, whole.journal)
    for pattern, command, look in KEPT:
        then = f"Delete it and run {of_run(f'`ddpo {command}`', run.root)} again"
        for path in sorted(run.cache.glob(pattern)):
            found.checked["cache parts"] += 1
            found.look("cache", path, then, look)


def _is_strange(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not re.fullmatch(r"part-.+\.parquet", path.name)


def _ledger(path: Path) -> None:
    told = whole.json_object(path)
    if path.name.startswith("rows-"):
        for key in ("end", "state", "tally", "refused"):
            told[key]
