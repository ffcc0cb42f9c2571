"""`ddpo export`: a judge's preferences in a format of others, as a folder that is there whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aifeedback_dpo.engine import Progress
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.export import card, label_studio, pairs, target
from aifeedback_dpo.export.card import Facts
from aifeedback_dpo.export.formats import Taken, named, taken
from aifeedback_dpo.export.pair import Pair
from aifeedback_dpo.export.pairs import UNJUDGED, Judged
from aifeedback_dpo.store import Run

ONCE = ("label-studio",)
"""Formats in which a picture of several pairs is one file."""


@dataclass(frozen=True)
class Plan:
    """What an export writes: pairs by what the judge said, what is left out, and about how many bytes of pictures."""

    format: str
    judge: str
    pairs: int
    decided: int
    ties: int
    unlabelled: int
    left_out: dict[str, int]
    splits: dict[str, int]
    bytes: int


def plan(run: Run, format: str, folder: Path, judge: str, *, without_ties: bool = False) -> Plan:
    """What would be written. Raises UserError as `export` does."""
    target.check(folder)
    table, chosen = _chosen(run, format, judge, without_ties=without_ties)
    return _planned(table, chosen, card.facts(format, table, chosen))


def export(run: Run, format: str, folder: Path, judge: str, progress: Progress, *, without_ties: bool = False) -> Plan:
    """Writes the set into a folder that is new or empty, and says what is in it.

    Raises UserError for an unknown format or judge, for a folder that holds something, and where nothing is left to write;
    DataError for pictures that are missing; DdpoError for a full disk. In each case there is nothing at `folder`.
    """
    target.check(folder)
    table, chosen = _chosen(run, format, judge, without_ties=without_ties)
    run.need(table.images(chosen.rows).to_pylist())
    told = card.facts(format, table, chosen)
    form = named(format)
    with target.whole(folder) as partial, progress.task(f"Export {format}", len(chosen.rows)) as bar:

        def slices() -> Iterator[list[Pair]]:
            for part in table.slices(chosen.rows):
                yield part
                bar.advance(len(part))

        if form is label_studio:
            label_studio.write(slices(), partial, pairs.votes(run, table), told.title)
        else:
            form.write(slices(), partial)
        (partial / "README.md").write_text(card.text(told), encoding="utf-8")
    return _planned(table, chosen, told)


def _chosen(run: Run, format: str, judge: str, *, without_ties: bool) -> tuple[Judged, Taken]:
    form = named(format)
    if judge == UNJUDGED and not form.KEEPS_UNLABELLED:
        raise UserError(
            f"--judge {UNJUDGED} goes with label-studio, where pairs are to be judged; {format} needs a judge"
        )
    table = pairs.judged(run, judge)
    chosen = taken(format, table, without_ties=without_ties)
    if not len(chosen.rows):
        left = ", ".join(f"{reason}: {count}" for reason, count in chosen.left_out.items())
        raise UserError(f"{format} has nothing to hold: all {table.counts().pairs} pairs are left out ({left})")
    return table, chosen


def _planned(table: Judged, chosen: Taken, told: Facts) -> Plan:
    counts = table.counts(chosen.rows)
    pictures = sum(count for *_, count in told.models) if told.format in ONCE else 2 * counts.pairs
    return Plan(
        format=told.format,
        judge=told.title,
        pairs=counts.pairs,
        decided=counts.decided,
        ties=counts.ties,
        unlabelled=counts.unlabelled,
        left_out=dict(chosen.left_out),
        splits={split: its.pairs for split, its in told.splits.items()},
        bytes=round(pictures * table.picture_bytes()),
    )
