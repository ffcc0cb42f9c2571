"""ddpo status"""

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json, RunFolder


@options.guarded
def status(run: RunFolder = None, json: Json = False) -> None:
    """Say what is in a run: rows, judges, policies, and what made them."""
    from aifeedback_dpo.errors import UserError
    from aifeedback_dpo.records import KEYS, TABLES

    opened = options.open_run(run, None, None)
    if opened.saved() is None:
        raise UserError(f"{opened.root} is not a run; `ddpo generate` makes one")
    rows = {table: opened.read(table, [KEYS[table]]).num_rows for table in TABLES}
    made_by = opened.manifest()["made_by"]
    if json:
        options.emit({"run": str(opened.root), "rows": rows, "policies": opened.policies(), "made_by": made_by})
        return
    typer.echo(f"{opened.root} (recipe {opened.recipe.name})")
    for table, count in rows.items():
        typer.echo(f"  {table:12} {count} rows")
    for work, entry in made_by.items():
        typer.echo(f"  {work:24} {entry['status']}")
