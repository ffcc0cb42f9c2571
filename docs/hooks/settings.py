"""The reference of what a recipe can say, from the settings that check it."""

import json
from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files

from aifeedback_dpo.settings import Recipe

URI = "reference/settings.md"
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "a multiple of",
}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, URI, content="\n".join(page())))
    return files


def page() -> Iterator[str]:
    schema = Recipe.model_json_schema()
    yield "# Recipe settings\n"
    yield "This page is made from the settings that check a recipe. A key that is not here is an error that names the nearest"
    yield "one; `KEY=VALUE` after a command sets one, as in `ddpo train train.beta=2000`.\n"
    yield from _section("", schema, schema["$defs"])


def _section(path: str, schema: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    yield f"{'## ' + path if path else '## At the top'}\n"
    yield f"{schema.get('description', '')}\n"
    yield "| key | value | default | |\n|---|---|---|---|"
    below = []
    for name, field in schema["properties"].items():
        key = f"{path}.{name}" if path else name
        yield f"| `{key}` | {_kind(field, known, below, key)} | {_default(field)} | {_cell(_about(field))} |"
    yield ""
    for place, nested in below:
        yield from _section(place, known[nested], known)


def _kind(field: dict[str, Any], known: dict[str, Any], below: list[tuple[str, str]], key: str) -> str:
    """What may stand there in words; settings that have a section of their own are added to `below`."""
    if "$ref" in field:
        below.append((key, field["$ref"].rpartition("/")[2]))
        return f"[settings](#{_anchor(key)})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(each, known, below, key) for each in field["anyOf"]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        inner = _kind(field["items"], known, below, f"{key}[]")
        return f"list of {inner}"
    if field.get("type") == "object":
        named = list(field.get("patternProperties", {}).values())
        return f"by name: {_kind(named[0], known, below, f'{key}.NAME')}" if named else "settings, nested"
    bounds = [f"{word} {field[name]:g}" for name, word in BOUNDS.items() if name in field]
    return " ".join([WORDS[field["type"]], ", ".join(bounds)]).strip()


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "see below" if "$ref" in field else "must be given"
    default = field["default"]
    if default is None:
        return ""
    return "see below" if isinstance(default, dict) and default else f"`{json.dumps(default)}`"


def _about(field: dict[str, Any]) -> str:
    return str(field.get("description") or next((_about(each) for each in field.get("anyOf", []) if _about(each)), ""))


def _anchor(key: str) -> str:
    return "".join(letter for letter in key.lower() if letter.isalnum() or letter in "_-")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
