"""ddpo recipes"""

import typer

from aifeedback_dpo.cli import options
from aifeedback_dpo.cli.options import Json


@options.guarded
def recipes(json: Json = False) -> None:
    """List the recipes that ship with the package."""
    from aifeedback_dpo import config

    found = {name: config.load(name).about for name in config.names()}
    if json:
        options.emit(found)
    for name, about in ({} if json else found).items():
        typer.echo(f"{name:16} {about}")
