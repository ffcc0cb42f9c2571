"""Prompts of a run: from the grammar, a text file, a table, or a dataset of the hub, split into train and held out.

Whitespace is made one space, repetitions are dropped and the order is kept. The last `eval` prompts of those that were read
are held out: of a whole file, or of the first `train + eval` of a hub dataset, whose length nobody knows. A hub dataset is
read once, at one commit; from then on its prompts are those in the run. With `imported` they are those that `ddpo import` has
put there, and it has held some out.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aifeedback_dpo import hub
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.hub import Repository
from aifeedback_dpo.records import IMPORTED, PROMPTS, prompt_id
from aifeedback_dpo.settings import Prompts as PromptsSettings
from aifeedback_dpo.shapes import grammar
from aifeedback_dpo.store import Run

TEXT = ("", ".txt")
TABLES = (".tsv", ".csv", ".jsonl", ".parquet")
HUB_ID = r"[\w.-]+/[\w.-]+"
HALF = r"[\ud800-\udfff]"  # of a surrogate pair


@dataclass(frozen=True)
class Prompts:
    """The prompts to train on and the held-out ones; `source` is where they are from, a hub dataset with its commit."""

    train: list[str]
    eval: list[str]
    source: str


def read(run: Run) -> Prompts:
    """The prompts of a run.

    Raises UserError where there are too few, naming how many there are; ModelMissing for a hub dataset that cannot be had.
    """
    if (known := at_hand(run)) is not None:
        return known
    return _of_hub(run.recipe.prompts)


def at_hand(run: Run) -> Prompts | None:
    """The same without asking the hub: None for a hub dataset that the run does not hold yet."""
    settings = run.recipe.prompts
    if settings.source == "shapes":
        found = Prompts(grammar.prompts("train"), grammar.prompts(settings.held_out), settings.source)
        return _enough(found, settings)
    if settings.source == IMPORTED:
        return _imported(run)
    if settings.held_out == "tune":
        raise UserError(
            "prompts.held_out=tune goes with prompts.source=shapes; a file holds out its last prompts, as `eval`"
        )
    if on_hub(settings):
        return _held(run)
    return _split(_distinct(_of_file(settings)), settings, Path(settings.source).name)


def on_hub(settings: PromptsSettings) -> bool:
    """Whether the source is a dataset of the hub: an `owner/name` that is no file here and does not end like one."""
    path = Path(settings.source)
    is_file = path.exists() or path.suffix.lower() in (*filter(None, TEXT), *TABLES)
    return not is_file and re.fullmatch(HUB_ID, settings.source) is not None


def downloaded(dataset: Repository) -> Path | None:
    """The copy that `hf download` has put into the hub's cache, whole; `datasets` leaves single files there."""
    return hub.cached(dataset, lambda _: None if hub.is_listed(dataset) else "a list of its files")


def commit(run: Run, found: Prompts) -> None:
    """Puts prompts into the run. Raises UserError where it holds others: a held-out one must never move to training."""
    stored = run.read("prompts", ["prompt", "split"])
    wanted = {"train": found.train, "eval": found.eval}
    there = {split: set(stored.filter(pc.equal(stored["split"], split))["prompt"].to_pylist()) for split in wanted}
    if moved := sum(len(there[split].difference(texts)) for split, texts in wanted.items()):
        raise UserError(
            f"{run.recipe.prompts.source} is not what {run.root} was made with: {moved} prompts are gone or in another "
            "split. Put it back, or choose another --run"
        )
    for split, texts in wanted.items():
        if not there[split].issuperset(texts):
            columns = {"prompt_id": [prompt_id(text) for text in texts], "prompt": texts}
            same = {"split": pa.repeat(split, len(texts)), "source": pa.repeat(found.source, len(texts))}
            run.commit("prompts", pa.table({**columns, **same}, schema=PROMPTS), split)


def _held(run: Run) -> Prompts | None:
    """The prompts in the run's table, if both splits are there."""
    rows = run.rows("prompts")
    split = {name: [row["prompt"] for row in rows if row["split"] == name] for name in ("train", "eval")}
    if (len(split["train"]), len(split["eval"])) != (run.recipe.prompts.train, run.recipe.prompts.eval):
        return None
    return Prompts(split["train"], split["eval"], rows[0]["source"])


def _imported(run: Run) -> Prompts:
    """All that are in the run, however many."""
    rows = run.rows("prompts")
    if not rows:
        raise UserError(f"prompts.source is {IMPORTED}, and {run.root} has no prompts yet; run `ddpo import` first")
    split = {name: [row["prompt"] for row in rows if row["split"] == name] for name in ("train", "eval")}
    return Prompts(split["train"], split["eval"], IMPORTED)


def _split(texts: list[str], settings: PromptsSettings, source: str) -> Prompts:
    if len(texts) < settings.train + settings.eval:
        raise UserError(
            f"{settings.source} has {len(texts)} different prompts; prompts.train + prompts.eval asks for "
            f"{settings.train + settings.eval}"
        )
    cut = len(texts) - settings.eval
    return Prompts(texts[:cut][: settings.train], texts[cut:], source)


def _enough(found: Prompts, settings: PromptsSettings) -> Prompts:
    for split, asked, there in (("train", settings.train, found.train), ("eval", settings.eval, found.eval)):
        if len(there) < asked:
            raise UserError(f"prompts.{split} is {asked}; {settings.source} has {len(there)}")
    return Prompts(found.train[: settings.train], found.eval[: settings.eval], found.source)


def _distinct(texts: Iterable[str], count: int | None = None) -> list[str]:
    """The first `count` different prompts; an empty line is none."""
    seen: dict[str, None] = {}
    for text in texts:
        if count is not None and len(seen) == count:
            break
        if clean := " ".join(text.split()):
            seen.setdefault(clean)
    return list(seen)


# -- files -----------------------------------------------------------------------------------------------------------


def _of_file(settings: PromptsSettings) -> Iterator[str]:
    path = Path(settings.source).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (*TEXT, *TABLES) and path.is_file():
        raise UserError(
            f"prompts.source: {path} ends in {suffix}; give a .txt with a prompt a line, or {', '.join(TABLES)}"
        )
    read: Callable[[Path, str], Iterator[Any]]
    read = {".tsv": _delimited, ".csv": _delimited, ".jsonl": _json_lines, ".parquet": _parquet}.get(suffix, _lines)
    try:
        yield from (_text(value, settings) for value in read(path, settings.column) if value is not None)
    except UnicodeDecodeError as error:
        raise UserError(f"prompts.source: {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (ValueError, csv.Error) as error:  # pyarrow's and json's too
        raise DataError(f"prompts.source: {path} cannot be understood: {' '.join(str(error).split())[:160]}") from error
    except OSError as error:
        raise UserError(
            f"prompts.source: {path} cannot be read ({error.strerror or error}); give `shapes`, a text file, one of "
            f"{', '.join(TABLES)}, or a dataset of the hub as owner/name"
        ) from error


def _lines(path: Path, _: str) -> Iterator[str]:
    with _open(path) as file:
        yield from file


def _delimited(path: Path, column: str) -> Iterator[str | None]:
    """A .csv as spreadsheets write it; in a .tsv a quotation mark is a character like any other."""
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with _open(path) as file:
        rows = csv.DictReader(file, **(tabs if path.suffix.lower() == ".tsv" else {}))
        _need(column, rows.fieldnames or [], path)
        yield from (row[column] for row in rows)


def _json_lines(path: Path, column: str) -> Iterator[Any]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"prompts.source: {path} has no JSON on line {number}: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"prompts.source: line {number} of {path} is no object with keys")
            _need(column, row, path)
            if isinstance(row[column], str) and re.search(HALF, row[column]):
                raise DataError(
                    f"prompts.source: line {number} of {path} has half of a surrogate pair (\\ud800 to \\udfff), which is no "
                    "character and cannot be stored; write the whole of it, or leave it out"
                )
            yield row[column]


def _parquet(path: Path, column: str) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        _need(column, file.schema_arrow.names, path)
        for batch in file.iter_batches(columns=[column]):
            yield from batch.column(0).to_pylist()


def _open(path: Path) -> IO[str]:
    return path.open(encoding="utf-8-sig", newline="")


def _need(column: str, columns: Iterable[str], source: object) -> None:
    if column not in (found := list(columns)):
        raise UserError(f"prompts.column is '{column}'; {source} has {', '.join(map(str, found)) or 'no columns'}")


def _text(value: Any, settings: PromptsSettings) -> str:
    if not isinstance(value, str):
        raise UserError(
            f"prompts.column is '{settings.column}', which holds {type(value).__name__} in {settings.source}, not text"
        )
    return value


# -- the hub ---------------------------------------------------------------------------------------------------------


@cache
def _of_hub(settings: PromptsSettings) -> Prompts:
    """The first prompts of a hub dataset, streamed: one column, and no more rows than it takes.

    From the hub's cache where `hf download` put it, else from the hub, at the commit that it has now.
    """
    repository = Repository(settings.source, kind="dataset", instead=", or give prompts.source a file")
    folder = downloaded(repository)
    at = folder.name if folder else hub.commit(repository)
    with hub.explained(repository), _readable(settings):
        texts = _stream(settings, str(folder or settings.source), None if folder else at)
        found = _distinct(texts, settings.train + settings.eval)
    return _split(found, settings, f"{settings.source}@{at}")


@contextmanager
def _readable(settings: PromptsSettings) -> Iterator[None]:
    """Raises UserError for a dataset that cannot be read as asked: no such split, several configurations, no known files."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        yield
    except (ValueError, RuntimeError, FileNotFoundError, DatasetsError) as error:
        if isinstance(error, DatasetNotFoundError):  # most likely gated, of which `datasets` tells in prose only
            hub.check_access(Repository(settings.source, kind="dataset"))
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"prompts.source: {settings.source}, split {settings.split}, cannot be read as a dataset: {reason}"
        ) from error


def _stream(settings: PromptsSettings, path: str, revision: str | None) -> Iterator[str]:
    from datasets import load_dataset

    rows = load_dataset(path, split=settings.split, revision=revision, streaming=True)
    _need(settings.column, rows.column_names or list(next(iter(rows), {})), settings.source)
    if rows.info.builder_name == "parquet":  # this column alone: pictures beside the prompts would be gigabytes
        rows = load_dataset(path, split=settings.split, revision=revision, streaming=True, columns=[settings.column])
    values = (row[settings.column] for row in rows)
    return (_text(value, settings) for value in values if value is not None)
