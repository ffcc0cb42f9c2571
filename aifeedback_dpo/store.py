"""A run on disk: Parquet tables that anyone can open, and the only module that knows where things lie.

    runs/shapes/
      recipe.yaml  manifest.json  README.md        what was asked, who made what from what, a dataset card
      prompts/  images/  pairs/                     part-*.parquet
      scores/<scorer>/  answers/<judge>/            part-*.parquet
      votes/<source>/                               part-*.parquet: what people said, one by one
      preferences/<judge>/                          part-*.parquet
      policies/<judge>/seed-<n>/                    weights in the diffusers format, metrics.jsonl, policy.json
      imports/<source>-<set>-<split>/               what was found in a public set, and what could not be used
      cache/  report/

A part is written beside its place, fsynced and renamed; readers ignore everything else. So a unit of work is done if and
only if its id is in a part, a stop at any moment loses at most the parts under way, and nothing is ever half there.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aifeedback_dpo import config, provenance, records
from aifeedback_dpo.disk import disk_error
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.lookup import absent
from aifeedback_dpo.parts import NEWER, UPDATE, Album, BrokenFile, album, ids, read_part
from aifeedback_dpo.records import KEYS, SCHEMA_VERSION, TABLES, Ids, hub_schema, packed_ids
from aifeedback_dpo.settings import Recipe

COUNTED = ("seconds", "pictures")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without any
UNTOLD = "Restore it, or delete it: the tables stay, and only what made them is not told any more"
LEAVES = {"generate": ("prompts", "images", "pairs"), "label": ("scores", "answers", "preferences")}


@dataclass(frozen=True)
class Run:
    """A folder with its recipe. Opening it writes nothing; the first stage that works on it does."""

    root: Path
    recipe: Recipe

    # -- tables ------------------------------------------------------------------------------------------------------

    def parts(self, table: str, name: str | None = None) -> list[Path]:
        """The committed parts of a table, in plan order; `name` picks one scorer's or judge's."""
        return sorted((self.root / table / (name or "")).rglob("part-*.parquet"))

    def scan(self, table: str, columns: Sequence[str] | None = None, name: str | None = None) -> Iterator[pa.Table]:
        """The table part by part, so that memory stays flat. Raises DataError for a part that cannot be read."""
        for path in self.parts(table, name):
            yield read_part(path, table, columns)

    def read(self, table: str, columns: Sequence[str] | None = None, name: str | None = None) -> pa.Table:
        """The whole table in memory; without its image bytes unless they are asked for."""
        schema = TABLES[table]
        chosen = list(columns or [field for field in schema.names if field != "image"])
        empty = pa.schema([schema.field(column) for column in chosen]).empty_table()
        return pa.concat_tables([empty, *self.scan(table, chosen, name)])

    def rows(self, table: str, columns: Sequence[str] | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """The same as a list of dictionaries."""
        return list(self.read(table, columns, name).to_pylist())

    def done(self, table: str, name: str | None = None) -> set[str]:
        """The ids that are in a committed part."""
        key = KEYS[table]
        return {value for part in self.scan(table, [key], name) for value in part.column(key).to_pylist()}

    def ids(self, table: str, name: str | None = None) -> NDArray[np.bytes_]:
        """The same, packed; as they lie, and twice where two parts hold one."""
        return ids(self.parts(table, name), table, KEYS[table])[0]

    def has(self, table: str, part: str, name: str | None = None) -> bool:
        """Whether the part of that name is committed."""
        return self._part(table, part, name).exists()

    def images(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Encoded pictures by id, in stored order, a part at a time. For slice after slice take an `album` once."""
        return self.album().images(wanted)

    def album(self) -> Album:
        """Where each picture lies that is committed now."""
        return album(self.parts("images"))

    def need(self, images: Ids) -> None:
        """Raises DataError unless all of these images are in the run."""
        wanted = packed_ids(images)
        if len(lost := wanted[absent(wanted, self.ids("images"))]):
            first = lost[0].decode()
            raise DataError(
                f"{len(lost)} images of the pairs are not in the run (first: {first}); run `ddpo generate` again"
            )

    def labels(self, judge: str) -> str:
        """A hash of a judge's preferences, by which a policy knows what it was trained on."""
        said = self.read("preferences", ["pair_id", "p_a"], judge)
        return records.rows_id(said.column("pair_id"), said.column("p_a").to_numpy())

    def commit(
        self, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table, part: str, name: str | None = None
    ) -> None:
        """One part, all or nothing. `part` names it, so that the same work gives the same file."""
        schema = hub_schema(TABLES[table], table)
        if isinstance(rows, Sequence):
            content = pa.Table.from_pylist(list(rows), schema)
        else:
            content = rows.select(schema.names).cast(schema)
        path = self._part(table, part, name)
        self.write(path, lambda file: pq.write_table(content, file, compression="zstd", write_page_checksum=True))

    def _part(self, table: str, part: str, name: str | None) -> Path:
        return self.root / table / (name or "") / f"part-{part}.parquet"

    # -- files -------------------------------------------------------------------------------------------------------

    def write(self, path: Path, fill: Callable[[IO[bytes]], object], *, kept: bool = True) -> None:
        """A file that is there whole or not at all. What is only looked at need not be `kept` through a power cut, nor synced.

        Raises DdpoError when the disk is full or read-only.
        """
        partial = path.with_name(
            f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        )  # machines may share a folder
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                fill(file)
                file.flush()
                if kept:
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise disk_error(error, path) from error
            raise

    @contextlib.contextmanager
    def alone(self, command: str) -> Iterator[None]:
        """Keeps a second such command off the run. Raises UserError where one is at work; a killed one leaves no lock."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:  # over NFS a folder cannot be locked
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another `{command}` is at work in {self.root}; wait until it ends") from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise disk_error(error, self.root) from error
            yield

    def write_text(self, path: Path, text: str) -> None:
        """The same for text."""
        self.write(path, lambda file: file.write(text.encode()))

    def made(self) -> list[str]:
        """The stages that have left something here; one that began and failed has not."""
        works = self.manifest()["made_by"]
        imported = any(work.startswith("import/") for work in works)
        stages = [stage for stage, tables in LEAVES.items() if any(self.parts(table) for table in tables)]
        if imported:  # the pictures are others', until the recipe's model draws some as well
            stages = ["import", *(stage for stage in stages if stage != "generate" or stage in works)]
        return [*stages, *(["train"] if self.policies() else [])]

    def policy_folder(self, judge: str, seed: int) -> Path:
        return self.root / "policies" / judge / f"seed-{seed}"

    def policies(self) -> dict[str, list[int]]:
        """The finished policies: judge -> training seeds."""
        found: dict[str, list[int]] = {}
        for path in sorted(self.root.glob("policies/*/seed-*/policy.json")):
            if name := re.fullmatch(r"seed-(-?\d+)", path.parent.name):
                found.setdefault(path.parents[1].name, []).append(int(name[1]))
        return {judge: sorted(seeds) for judge, seeds in found.items()}

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def imports(self, source: str) -> Path:
        return self.root / "imports" / source

    @property
    def report(self) -> Path:
        return self.root / "report"

    # -- manifest ----------------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """Who made what from what."""
        path = self.root / "manifest.json"
        if not path.exists():
            return {"schema_version": SCHEMA_VERSION, "made_by": {}}
        try:
            manifest = dict(json.loads(path.read_text()))
            manifest["made_by"] = {work: dict(entry) for work, entry in manifest["made_by"].items()}
            version = int(manifest["schema_version"])
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise BrokenFile(path, f"is no manifest ({error})", UNTOLD) from error
        if version > SCHEMA_VERSION:
            raise BrokenFile(path, NEWER.format(found=version, SCHEMA_VERSION=SCHEMA_VERSION), UPDATE)
        return manifest

    def record(self, work: str, status: str, *, counted_by: str | None = None, **facts: Any) -> None:
        """Notes in the manifest that a piece of work began (`running`) or ended (`done`), with what made it.

        What `add` has counted goes on where the fact `counted_by` is what it was; else it begins anew.
        """
        with self._manifest_at_hand() as manifest:
            entry = manifest["made_by"].get(work, {})
            if counted_by and entry.get(counted_by) != facts[counted_by]:
                entry = {name: value for name, value in entry.items() if name not in COUNTED}
            made = {"status": status, **provenance.versions(), **facts}
            stamp = "started" if status == "running" else "finished"
            manifest["made_by"][work] = {**entry, **made, stamp: provenance.now()}
            saved, recipe = self.saved(), self.recipe
            if saved and recipe.train.name:  # policies that are kept apart leave the run's own settings as they are
                recipe = recipe.model_copy(update={"train": saved.train})
            if saved:  # another process may have added to it since the run was opened
                recipe = config.with_judges_of(saved, recipe)
            if saved != recipe:
                self.write_text(self.root / "recipe.yaml", config.dump(recipe))
                self.write_text(self.root / "README.md", records.card(recipe.name, recipe.about))

    def add(self, work: str, **amounts: float) -> None:
        """Adds to what a piece of work has taken so far, by its entry in the manifest."""
        with self._manifest_at_hand() as manifest:
            entry = manifest["made_by"].setdefault(work, {})
            entry |= {name: entry.get(name, 0) + amount for name, amount in amounts.items()}

    @contextlib.contextmanager
    def _manifest_at_hand(self) -> Iterator[dict[str, Any]]:
        """The manifest, to be changed and written back; other processes wait meanwhile, so that none undoes another's."""
        with contextlib.ExitStack() as held:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context((self.root / ".manifest.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise disk_error(error, self.root) from error
            manifest = self.manifest()
            yield manifest
            self.write_text(self.root / "manifest.json", json.dumps(manifest, indent=2) + "\n")

    def saved(self) -> Recipe | None:
        """The recipe in the folder, if any."""
        return saved_recipe(self.root)


def saved_recipe(root: Path) -> Recipe | None:
    """The recipe that a run was made by; None for a folder without one."""
    path = root / "recipe.yaml"
    if not path.exists():
        return None
    try:
        return config.load(path)
    except UserError as error:
        raise DataError(f"{path}: {error}") from error


def read_policy(folder: Path) -> dict[str, Any]:
    """The description of a finished policy. Raises DataError for one that cannot be read."""
    return _read_json(folder / "policy.json")


def read_inputs(folder: Path) -> dict[str, Any]:
    """What a policy in training follows from. Raises DataError where that cannot be read."""
    return _read_json(folder / "inputs.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is corrupted ({error}); delete {path.parent} and run `ddpo train` again") from error
