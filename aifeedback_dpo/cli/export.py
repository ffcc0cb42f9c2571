"""ddpo export"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import DryRun, Json, RunFolder

if TYPE_CHECKING:
    from aifeedback_dpo.export.run import Plan

NAMES = ("pickapic", "chosen-rejected", "unpaired", "webdataset", "folders", "label-studio")

Format = Annotated[
    str,
    typer.Argument(
        metavar="FORMAT",
        help=f"One of {', '.join(NAMES)}.",
        autocompletion=lambda incomplete: [name for name in NAMES if name.startswith(incomplete)],
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet, or empty.")]
Judge = Annotated[
    str, typer.Option("--judge", "-j", metavar="NAME", help="Whose preferences; `none` gives label-studio bare tasks.")
]
WithoutTies = Annotated[
    bool,
    typer.Option(
        "--without-ties", help="Leave ties out where the format has them, for readers that take them for wins."
    ),
]
Repository = Annotated[
    str | None, typer.Option("--push-to-hub", metavar="OWNER/NAME", help="Upload the folder as a dataset of the hub.")
]
Private = Annotated[bool, typer.Option("--private", help="With --push-to-hub: the dataset is private.")]


@options.guarded
def export(
    format: Format,
    folder: Folder,
    judge: Judge = "human",
    run: RunFolder = None,
    without_ties: WithoutTies = False,
    push_to_hub: Repository = None,
    private: Private = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write a judge's preferences, with the pictures, in a format that other trainers and tools read.

    A tie is never made a win: formats that cannot say it go without, and tell how many.
    """
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.export import push
    from aifeedback_dpo.export import run as stage

    if private and not push_to_hub:
        raise UserError("--private goes with --push-to-hub OWNER/NAME; without it nothing is uploaded")
    opened = options.open_run(run, None, None)
    made = stage.plan(opened, format, folder, judge, without_ties=without_ties)
    page = None
    if not dry_run:
        repository = push.prepare(push_to_hub, private=private) if push_to_hub else None
        made = stage.export(opened, format, folder, judge, progress(), without_ties=without_ties)
        page = push.push(repository, folder, f"{made.pairs} pairs by `ddpo export {format}`") if repository else None
    if json:
        options.emit(
            {"run": str(opened.root), "folder": str(folder), "written": not dry_run, "page": page, **asdict(made)}
        )
        return
    typer.echo(_told(made, folder, dry_run=dry_run))
    if made.ties and format in ("pickapic", "webdataset"):
        typer.echo(
            "Ties have label_0 = 0.5, which some trainers take for a win of picture 0; --without-ties leaves them out"
        )
    if page:
        typer.echo(f"Uploaded: {page}")


def _told(made: "Plan", folder: Path, *, dry_run: bool) -> str:
    """An export in a line."""
    kinds = {"decided": made.decided, "ties": made.ties, "without a label": made.unlabelled}
    held = ", ".join(f"{kind}: {count}" for kind, count in kinds.items() if count)
    left = ", ".join(f"{reason}: {count}" for reason, count in made.left_out.items())
    verb = "would be written to" if dry_run else "written to"
    said = f"{made.format}, judge {made.judge}: {made.pairs} pairs ({held}) {verb} {folder}, {_size(made.bytes)} of pictures"
    return said + (f". Left out: {left}" if left else "")


def _size(size: float) -> str:
    """About how much, to three digits."""
    units = ("B", "kB", "MB", "GB", "TB")
    at = 0
    while size >= 1000 and at < len(units) - 1:
        size, at = size / 1000, at + 1
    return f"about {size:.3g} {units[at]}"
