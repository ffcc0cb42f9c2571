"""ddpo import"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, Overrides

if TYPE_CHECKING:
    from aifeedback_dpo.importing.plan import Import
    from aifeedback_dpo.importing.tally import Tally

LOOKED_AT = 1000


def _complete_source(incomplete: str) -> list[str]:
    from aifeedback_dpo.sources import SOURCES

    return [name for name in SOURCES if name.startswith(incomplete)]


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="The format: pickapic, hpdv2, hpdv3, imagereward, open-image-preferences, rapidata, pairs, unpaired, folders, "
        "label-studio, argilla.",
        autocompletion=_complete_source,
    ),
]
Place = Annotated[str, typer.Argument(metavar="PATH|HUB-ID", help="A folder, a file, or owner/name on the hub.")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="The run's folder. \\[default: runs/<recipe>, or runs/SOURCE]"),
]
Recipe = Annotated[str | None, options.recipe_option("sd15")]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Which split. \\[default: train, or the only one]")
]
Config = Annotated[str | None, typer.Option("--config", metavar="NAME", help="Which configuration of a dataset.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="The first N rows; more may follow later.")
]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR|TAR", help="Where the pictures are that a JSON or a table names."),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="first|second|tie=VALUE", help="What a label means, of source pairs; repeat for each."
    ),
]
Survey = Annotated[
    int,
    typer.Option("--survey", min=0, metavar="N", help="How many rows are looked at before any is written; 0 for all."),
]


@options.guarded
def import_(
    source: Source,
    path: Place,
    overrides: Overrides = None,
    split: Split = None,
    config: Config = None,
    limit: Limit = None,
    images: Images = None,
    dreamlike_only: Annotated[
        bool,
        typer.Option("--dreamlike-only", help="Of Pick-a-Pic, pairs of two Dreamlike pictures, as the authors' flag."),
    ] = False,
    dimension: Annotated[
        str | None, typer.Option("--dimension", metavar="NAME", help="What people were asked, where a set has several.")
    ] = None,
    label: Labels = None,
    skip_ties: Annotated[bool, typer.Option("--skip-ties", help="Leave out pairs that people call equal.")] = False,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--keep-unlabelled", help="Take pairs that nobody has judged too, for scorers or `ddpo annotate`."
        ),
    ] = False,
    survey: Survey = LOOKED_AT,
    recipe: Recipe = None,
    run: RunFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Bring a public set of human preferences into a run: pictures, prompts, pairs, and the preferences of judge human.

    It says what it found before it writes, and what could not be used and why. Stopped at any moment and run again, it goes
    on where it was. A new run has the recipe you name, or sd15.
    """
    from aifeedback_dpo import importing
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.sources import Asked
    from aifeedback_dpo.sources import source as known

    known(source)
    opened = options.open_imported(run, source, recipe, overrides)
    meanings = options.meanings(label or [])
    asked = Asked(path, split, config, images, dreamlike_only, dimension, meanings)
    found = importing.prepare(opened, source, asked, limit=limit, ties=not skip_ties, unlabelled=unlabelled)
    before = importing.so_far(opened, found)
    looked = before.tally if before.rows and not dry_run else importing.survey(found, survey or None)
    if not json:
        typer.echo(f"into {opened.root}" + (", as it is now" if opened.saved() else ", a new run"))
        _told(found, looked, before.rows if before.rows and not dry_run else None)
    importing.check(found, looked)
    if dry_run:
        if json:
            options.emit(_as_json(found, looked, None))
        return
    tally = importing.take(opened, found, progress())
    if json:
        options.emit({"run": str(opened.root), **_as_json(found, looked, tally)})
        return
    now = len(opened.done("pairs"))
    typer.echo(
        f"{opened.root}: this set gave {tally.pairs} pairs, {tally.prompts} prompts and {tally.images} images that were not "
        f"there, {tally.votes} votes in {tally.usable} comparisons, {tally.ties} ties; the run has {now} pairs"
    )
    if tally.unusable:
        why = ", ".join(f"{reason} {count}" for reason, count in tally.unusable.items())
        typer.echo(f"could not be used: {why}; row by row in {importing.refused_file(opened, found)}")


def _told(found: "Import", tally: "Tally", rows_before: int | None) -> None:
    """What was found, for people."""
    opened = found.opened
    size = f"{opened.total} rows" if opened.total is not None else "rows not counted"
    others = [split for split in opened.splits if split != opened.split]
    more = f" (other splits, by --split: {', '.join(others)})" if others else ""
    typer.echo(f"{opened.name}, split {opened.split}{more}: {size}; licence {opened.licence or 'not stated'}")
    typer.echo(f"  columns: {', '.join(f'{name} ({kind})' for name, kind in opened.columns.items())}")
    extent = f"imported before, {rows_before} rows" if rows_before else f"of the first {tally.rows} rows"
    typer.echo(f"  {extent}: {tally.comparisons} comparisons")
    for name, count in sorted(tally.labels.items()):
        typer.echo(f"    {name}: {count}")
    typer.echo(f"  decided {tally.decided}, ties {tally.ties}, unlabelled {tally.unlabelled}")
    if tally.decided:
        share = tally.first / tally.decided
        typer.echo(f"  the first picture won {share:.1%} of those decided; which one is `a` is drawn by seed")
        if share in (0, 1):
            typer.echo(
                f"  the winner is always {'first' if share else 'second'}; after that draw it no longer is, nothing to do"
            )
    for reason, count in tally.left_out.items():
        typer.echo(f"  left out, {reason}: {count}")
    for reason, count in tally.unusable.items():
        typer.echo(f"  cannot be used, {reason}: {count} (first: {tally.examples[reason]})")


def _as_json(found: "Import", looked: "Tally", tally: "Tally | None") -> dict[str, Any]:
    from dataclasses import asdict

    opened = found.opened
    about = {"name": opened.name, "split": opened.split, "rows": opened.total, "licence": opened.licence}
    taken = {"imported": asdict(tally)} if tally else {}
    return {"dataset": {**about, "columns": dict(opened.columns)}, "found": asdict(looked), **taken}
