"""ddpo verify"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json, RunNamed, RunOrShapes

if TYPE_CHECKING:
    from aifeedback_dpo.verify import Findings

SHOWN = 20  # of a kind


@options.guarded
def verify(
    folder: RunNamed = None,
    run: RunOrShapes = None,
    quick: Annotated[bool, typer.Option("--quick", help="Open no picture; everything else is checked.")] = False,
    json: Json = False,
) -> None:
    """Check that a run is sound: every part, picture, reference and policy. Changes nothing; leaves with 3 for a fault."""
    from aifeedback_dpo import verify
    from aifeedback_dpo.cli.progress import progress
    from aifeedback_dpo.errors import DataError

    root = options.named_run(folder, run)
    found = verify.verify(root, progress(), quick=quick)
    if json:
        faults = [{"path": str(fault.path), "what": fault.what, "then": fault.then} for fault in found.faults]
        options.emit({"run": str(root), "checked": found.checked, "faults": faults, "notes": found.notes})
    else:
        typer.echo("\n".join(_lines(root, found)))
    if found.faults:
        raise typer.Exit(DataError.exit_code)


def _lines(root: Path, found: "Findings") -> list[str]:
    """A line a fault, up to SHOWN of a kind; then the notes, and a summary."""
    lines, told = [], Counter[str]()
    for fault in found.faults:
        told[fault.kind] += 1
        if told[fault.kind] <= SHOWN:
            lines.append(str(fault))
    lines += [f"... and {count - SHOWN} more of {kind}" for kind, count in told.items() if count > SHOWN]
    lines += [f"note: {note}" for note in found.notes]
    looked = ", ".join(f"{count} {what}" for what, count in found.checked.items() if count)
    faults = f"{len(found.faults)} fault{'s' * (len(found.faults) != 1)}" if found.faults else "no faults"
    return [*lines, f"{root}: checked {looked or 'nothing'}: {faults}"]
