"""The reference of the command line, from the commands themselves."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import typer
from mkdocs.structure.files import File, Files

from aifeedback_dpo.cli.app import app

URI = "reference/command-line.md"


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, URI, content="\n".join(page())))
    return files


def page() -> Iterator[str]:
    root = typer.main.get_command(app)
    yield "# Command line\n"
    yield "This page is made from the commands; `ddpo COMMAND --help` says the same.\n"
    yield from _options(root, "ddpo")
    yield from _commands(root, "ddpo", 2)


def _commands(group: Any, path: str, level: int) -> Iterator[str]:
    for name, command in group.commands.items():
        yield f"{'#' * level} {path} {name}\n"
        usage = command.make_context(f"{path} {name}", [], resilient_parsing=True).get_usage().removeprefix("Usage: ")
        yield f"```\n{' '.join(usage.split())}\n```\n"
        yield f"{command.help}\n"
        yield from _options(command, f"{path} {name}")
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}", level + 1)


def _options(command: Any, path: str) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    records = [(_how(parameter, context), _what(parameter, context)) for parameter in command.get_params(context)]
    if rows := [f"| <code>{_cell(how)}</code> | {_cell(what)} |" for how, what in records if how != "--help"]:
        yield "| | |\n|---|---|"
        yield from rows
        yield ""


def _how(parameter: Any, context: Any) -> str:
    record = parameter.get_help_record(context)
    said = str(record[0]) if record else parameter.make_metavar(context)
    return said if said.startswith("-") else re.sub(r" <\S+>$", "", said)  # an argument's type says nothing more


def _what(parameter: Any, context: Any) -> str:
    record = parameter.get_help_record(context)
    return str(record[1] if record else parameter.help or "").replace("\\[", "[")


def _cell(text: str) -> str:
    """With nothing in it that would end a cell or begin a tag."""
    return escape(" ".join(text.split()), quote=False).replace("|", "&#124;").replace("[", "&#91;")
