"""Every part of every table, in the order in which tables name each other; of what was read the ids are kept."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aifeedback_dpo.engine import Bar
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.lookup import find_sorted
from aifeedback_dpo.parts import BrokenFile, again, read_part, remade_by
from aifeedback_dpo.records import IMPORTED, KEYS
from aifeedback_dpo.store import Run
from aifeedback_dpo.verify import pictures, rows
from aifeedback_dpo.verify.findings import Findings
from aifeedback_dpo.verify.linked import Seen, lost, twice

LEAVES = {"scores": "images", "answers": "pairs", "votes": "pairs", "preferences": "pairs"}
"""Tables that no other names, and what they name."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Sorted ids, and which of them are held out."""

    ids: NDArray[np.bytes_]
    held_out: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Images:
    """Sorted ids; the place of each one's prompt, -1 for one that is not in the run; and which were imported."""

    ids: NDArray[np.bytes_]
    prompt: NDArray[np.int64]
    imported: NDArray[np.bool_]


def check(run: Run, found: Findings, bar: Bar, pool: Executor | None, made_by: Mapping[str, Any]) -> None:
    """Reads all parts, and tells what is wrong in them and between them. Without a pool no picture is opened."""
    prompts = _prompts(run, found, bar)
    images = _images(run, found, bar, pool, prompts, made_by)
    pairs = _pairs(run, found, bar, prompts, images)
    there = {"images": images.ids, "pairs": pairs}
    for table, target in LEAVES.items():
        for _, paths in groupby(run.parts(table), key=lambda path: path.parent):
            seen = Seen(table)
            for path, part in _read(run, table, found, bar, list(paths)):
                lost(
                    found,
                    path,
                    table,
                    target,
                    part.column(KEYS[table]),
                    find_sorted(there[target], part.column(KEYS[table])),
                )
                seen.add(path, part)
            if table != "votes":  # of which a pair may have many
                ids, _, parts = seen.sorted()
                twice(found, seen, ids, parts)


def count_prompts(run: Run, found: Findings) -> None:
    """Tells of prompts that the recipe has and the run lacks: those of a part that is gone are named by nothing else."""
    if not run.parts("prompts"):
        return
    try:
        splits = run.read("prompts", ["split", "prompt_id"])
    except DdpoError:
        return  # told already
    for split, wanted in (("train", run.recipe.prompts.train), ("eval", run.recipe.prompts.eval)):
        own = pc.count_distinct(splits.filter(pc.equal(splits.column("split"), split)).column("prompt_id")).as_py()
        if own < wanted:
            what = f"has {own} prompts of split {split}, and the recipe has {wanted}"
            found.fault("prompts missing", run.root / "prompts", what, f"Run {remade_by('prompts', run.root)} again")


def _read(
    run: Run, table: str, found: Findings, bar: Bar, paths: list[Path] | None = None
) -> Iterator[tuple[Path, pa.Table]]:
    """The parts that can be read, after a look at their rows."""
    for path in run.parts(table) if paths is None else paths:
        found.checked["parts"] += 1
        bar.advance(1)
        try:
            part = read_part(path, table, None)
        except BrokenFile as error:
            found.fault("part", path, error.what, error.then)
            continue
        except DdpoError as error:
            said = str(error).removeprefix(f"{path} ")
            found.fault("part", path, said, "Let it be read, or see whether the disk is sound")
            continue
        found.checked[table] += len(part)
        folder = path.parent.relative_to(run.root / table).as_posix()
        for what in rows.wrong(table, part, folder):
            found.fault(f"rows of {table}", path, what, again(path, table))
        yield path, part


def _prompts(run: Run, found: Findings, bar: Bar) -> Prompts:
    seen, held_out = Seen("prompts"), [np.empty(0, np.bool_)]
    for path, part in _read(run, "prompts", found, bar):
        seen.add(path, part)
        held_out.append(_flags(pc.equal(part.column("split"), "eval")))
    ids, order, parts = seen.sorted()
    twice(found, seen, ids, parts)
    return Prompts(ids, np.concatenate(held_out)[order])


def _images(
    run: Run, found: Findings, bar: Bar, pool: Executor | None, prompts: Prompts, made_by: Mapping[str, Any]
) -> Images:
    seen, of_prompt, imported = Seen("images"), [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    models: dict[tuple[str, str], int] = {}
    for path, part in _read(run, "images", found, bar):
        for what, ids in pictures.wrong(part, pool).items():
            found.fault("pictures", path, f"has {len(ids)} {what} (first: {ids[0]})", again(path, "images"))
        found.checked["pictures opened"] += len(part) if pool else 0
        seen.add(path, part)
        imported.append(_flags(pc.equal(part.column("policy"), IMPORTED)))
        of_prompt.append(find_sorted(prompts.ids, part.column("prompt_id")))
        # a suite's prompts are in no table, and only a comparison draws those
        meant = np.ones(len(part), np.bool_) if "compare" not in made_by else imported[-1]
        named = part.column("prompt_id").filter(pa.array(meant))
        lost(found, path, "images", "prompts", named, of_prompt[-1][meant])
        for row in (
            part.select(["model", "revision"])
            .group_by(["model", "revision"])
            .aggregate([([], "count_all")])
            .to_pylist()
        ):
            if row["revision"]:
                key = (row["model"], row["revision"])
                models[key] = models.get(key, 0) + row["count_all"]
    _told_models(run, found, models, made_by)
    sorted_ids, order, parts = seen.sorted()
    twice(found, seen, sorted_ids, parts)
    return Images(sorted_ids, np.concatenate(of_prompt)[order], np.concatenate(imported)[order])


def _pairs(run: Run, found: Findings, bar: Bar, prompts: Prompts, images: Images) -> NDArray[np.bytes_]:
    seen = Seen("pairs")
    for path, part in _read(run, "pairs", found, bar):
        seen.add(path, part)
        prompt = find_sorted(prompts.ids, part.column("prompt_id"))
        lost(found, path, "pairs", "prompts", part.column("prompt_id"), prompt)
        named = pa.chunked_array([*part.column("image_a").chunks, *part.column("image_b").chunks], pa.string())
        at = find_sorted(images.ids, named)
        lost(found, path, "pairs", "images", named, at)
        if len(images.ids) and len(prompts.ids):
            _hold_to_prompts(path, found, np.tile(prompt, 2), at, prompts, images)
    ids, _, parts = seen.sorted()
    twice(found, seen, ids, parts)
    return ids


def _hold_to_prompts(
    path: Path, found: Findings, prompt: NDArray[np.int64], at: NDArray[np.int64], prompts: Prompts, images: Images
) -> None:
    """A drawn picture is of its pair's prompt, so none of a held-out prompt is trained on; an imported one may have several."""
    of_image, imported = images.prompt[at], images.imported[at]
    there = (at >= 0) & (prompt >= 0)
    other = there & (of_image != prompt) & ~imported
    if other.any():
        what = f"has {other.sum()} pictures of another prompt than their pair's (first: {images.ids[at[other]][0].decode()})"
        found.fault("pairs of two prompts", path, what, again(path, "pairs"))
    leak = there & (of_image >= 0) & ~prompts.held_out[prompt] & prompts.held_out[of_image]
    if (leak & ~imported).any():
        first = images.ids[at[leak & ~imported]][0].decode()
        what = (
            f"has {(leak & ~imported).sum()} pictures of held-out prompts in pairs that are trained on (first: {first})"
        )
        found.fault("held out and trained on", path, what, again(path, "pairs"))
    if (leak & imported).any():
        count = (leak & imported).sum()
        found.note(f"{path}: {count} imported pictures are of a held-out prompt as well as of one that is trained on")


def _told_models(run: Run, found: Findings, models: Mapping[tuple[str, str], int], made_by: Mapping[str, Any]) -> None:
    named = {(name, revision) for entry in made_by.values() for name, revision in (entry.get("models") or {}).items()}
    for (name, revision), count in models.items():
        if (name, revision) not in named:
            found.note(
                f"{run.root}: {count} pictures were drawn by {name} at revision {revision}, which manifest.json does not name"
            )


def _flags(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)
