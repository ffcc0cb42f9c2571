"""What is exported: the pairs of a run with one judge's view of them, in stored order; pictures come a slice at a time.

Ids, labels and models of all pairs are held as Arrow columns, some hundred bytes a pair; encoded pictures, which are a
thousand times that, only while their slice is written.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.export.pair import Pair, Picture, Vote, model_name
from aifeedback_dpo.records import HUMAN, TABLES
from aifeedback_dpo.store import Run

SLICE_BYTES = 64 * 2**20
SLICE_PAIRS = 1000
UNJUDGED = "none"
SPLITS = {"train": "train", "eval": "test"}
"""Of a run's prompts -> of an exported set: held-out prompts stay apart."""


@dataclass(frozen=True)
class Counts:
    """Pairs by what the judge said of them."""

    pairs: int
    decided: int
    ties: int
    unlabelled: int


@dataclass(frozen=True, eq=False)
class Judged:
    """All pairs of a run, as columns: those of `pairs`; p_a, votes, annotator; prompt, split; model_a, model_b."""

    run: Run
    judge: str
    table: pa.Table

    def counts(self, rows: NDArray[np.int64] | None = None) -> Counts:
        """Of all pairs, or of these rows."""
        p_a = self.p_a if rows is None else self.p_a[rows]
        ties, unlabelled = int((p_a == 0.5).sum()), int(np.isnan(p_a).sum())
        return Counts(len(p_a), len(p_a) - ties - unlabelled, ties, unlabelled)

    @property
    def p_a(self) -> NDArray[np.float32]:
        """NaN where the judge said nothing."""
        return np.asarray(self.table.column("p_a").to_numpy(zero_copy_only=False), np.float32)

    @property
    def held_out(self) -> NDArray[np.bool_]:
        return np.asarray(pc.equal(self.table.column("split"), "eval").to_numpy(zero_copy_only=False), bool)

    def images(self, rows: NDArray[np.int64]) -> pa.Array:
        """The ids of these rows' pictures, each once."""
        sides = [self.table.column(side).take(rows).combine_chunks() for side in ("image_a", "image_b")]
        return pc.unique(pa.concat_arrays(sides))

    def picture_bytes(self) -> float:
        """The mean over the run, told by the parts without their pictures being read."""
        total, count = 0, 0
        for path in self.run.parts("images"):
            metadata = pq.read_metadata(path)
            count += metadata.num_rows
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            columns = [group.column(at) for group in groups for at in range(group.num_columns)]
            total += sum(column.total_uncompressed_size for column in columns if column.path_in_schema == "image.bytes")
        return total / count if count else 0.0

    def slices(self, rows: NDArray[np.int64]) -> Iterator[list[Pair]]:
        """These rows with their pictures, some 64 MiB at a time; those of training prompts first, and no slice has both.

        Raises DataError for a picture that is not in the run.
        """
        users = {name: at for at, name in enumerate(_annotators(self.table), start=1)}
        per_prompt = Counter(self.table.column("prompt_id").take(rows).to_pylist())
        size = int(min(max(SLICE_BYTES / (2 * self.picture_bytes() + 1), 1), SLICE_PAIRS))
        album = self.run.album()
        of_training = rows[~self.held_out[rows]]
        for part in (*_cut(of_training, size), *_cut(rows[self.held_out[rows]], size)):
            told = self.table.take(part).to_pylist()
            wanted = {row[side] for row in told for side in ("image_a", "image_b")}
            data = dict(album.images(wanted))
            if lost := wanted - data.keys():
                raise DataError(f"image {min(lost)} is not in the run any more; run `ddpo generate` again")
            for row in told:
                row["user"] = users.get(row["annotator"], 0)
                row["pairs_of_prompt"] = per_prompt[row["prompt_id"]]
            yield [_pair(int(number), row, data) for number, row in zip(part, told, strict=True)]


def judged(run: Run, judge: str) -> Judged:
    """The pairs with this judge's preferences; `none` stands for no judge. Raises UserError where there are none of either."""
    name = judge_of(run, judge)
    pairs = run.read("pairs", ["pair_id", "prompt_id", "image_a", "image_b"])
    if not len(pairs):
        raise UserError(f"{run.root} has no pairs; `ddpo generate`, `ddpo label`, or `ddpo import` come first")
    columns = ["pair_id", "p_a", "votes", "annotator"]
    nobody = pa.schema([TABLES["preferences"].field(column) for column in columns]).empty_table()
    said = nobody if name == UNJUDGED else run.read("preferences", columns, name)
    prompts = run.read("prompts", ["prompt_id", "prompt", "split"])
    images = run.read("images", ["image_id", "model"])
    table = _joined(pairs, "pair_id", said, "pair_id")
    table = _joined(table, "prompt_id", prompts, "prompt_id")
    for side in ("a", "b"):
        table = _joined(table, f"image_{side}", images.rename_columns(["image_id", f"model_{side}"]), "image_id")
    if lost := table.column("prompt").null_count:
        raise DataError(f"{lost} pairs are of prompts that are not in the run; run `ddpo generate` again")
    return Judged(run, name, table)


def judge_of(run: Run, name: str) -> str:
    """The judge that is meant. Raises UserError, naming those there are, for one who has said nothing in this run."""
    there = sorted({path.relative_to(run.root).parts[1] for path in run.parts("preferences")})
    meant = run.recipe.label.ai if name == "ai" else name
    if name == UNJUDGED or meant in there:
        return meant
    title = f"{name} ({meant})" if name != meant else run.recipe.title(meant)
    has = f"it has those of {', '.join(there)}" if there else "it has none; `ddpo label` or `ddpo import` makes them"
    raise UserError(f"{run.root} has no preferences of judge {title}; {has}")


def votes(run: Run, table: Judged) -> "Votes":
    """What people said one by one, by pair; empty for a judge who is not people."""
    cast = run.read("votes", ["pair_id", "annotator", "p_a", "votes", "seconds"]) if table.judge == HUMAN else None
    if cast is None:
        return Votes(TABLES["votes"].empty_table(), np.empty(0, np.int64))
    at = pc.index_in(cast.column("pair_id"), value_set=table.table.column("pair_id").combine_chunks())
    cast = cast.append_column("at", at).sort_by([("at", "ascending"), ("annotator", "ascending")])
    return Votes(cast, np.asarray(cast.column("at").drop_null().to_numpy(), np.int64))


@dataclass(frozen=True, eq=False)
class Votes:
    """Rows of the table `votes`, sorted by the number of their pair."""

    table: pa.Table
    numbers: NDArray[np.int64]

    def of(self, pair: Pair) -> Sequence[Vote]:
        """What people said of this pair."""
        first, last = np.searchsorted(self.numbers, [pair.number, pair.number + 1])
        rows = self.table.slice(int(first), int(last - first)).to_pylist()
        return [Vote(row["p_a"], row["annotator"] or "", row["votes"], row["seconds"]) for row in rows]


def _cut(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _joined(left: pa.Table, key: str, right: pa.Table, its_key: str) -> pa.Table:
    """The left table in its order with the right one's columns, null where it has no such key."""
    at = pc.index_in(left.column(key), value_set=right.column(its_key).combine_chunks())
    found = right.drop_columns([its_key]).take(at)
    for name in found.column_names:
        left = left.append_column(name, found.column(name))
    return left


def _annotators(table: pa.Table) -> list[str]:
    """The names of single people, in alphabetical order; a crowd has none."""
    names = pc.unique(table.column("annotator").combine_chunks()).to_pylist()
    return sorted(name for name in names if name and not name.endswith(" annotators"))


def _pair(number: int, row: dict[str, Any], data: dict[str, bytes]) -> Pair:
    a, b = (
        Picture(row[f"image_{side}"], model_name(row[f"model_{side}"]), data[row[f"image_{side}"]]) for side in "ab"
    )
    names = ("pair_id", "prompt", "p_a", "votes", "user", "pairs_of_prompt")
    return Pair(number=number, a=a, b=b, split=SPLITS[row["split"]], **{name: row[name] for name in names})
