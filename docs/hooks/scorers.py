"""The catalogue of scorers as a page, from the table that `ddpo scorers` reads."""

from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files

from aifeedback_dpo.scorers.catalogue import CATALOGUE, Entry

URI = "reference/scorers.md"


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, URI, content="\n".join(page())))
    return files


def page() -> Iterator[str]:
    yield "# Scorers, the catalogue\n"
    yield "This page is made from the table behind `ddpo scorers`, which also says whether weights are on this machine."
    yield "What each computes, and what is easy to get wrong, is in [scorers](../scorers.md).\n"
    for name, entry in CATALOGUE.items():
        yield f"## {name}\n"
        yield f"{entry.about[0].upper()}{entry.about[1:]}.\n"
        yield "| | |\n|---|---|"
        yield from (f"| {key} | {value} |" for key, value in _facts(entry).items() if value)
        yield ""


def _facts(entry: Entry) -> dict[str, str | None]:
    weights = entry.weights
    base = f", on `{weights.base.id}`" if weights.base else ""
    where = f"`{weights.id}`" + (f", `{weights.file}`" if weights.file else "") + base
    return {
        "weights": None if weights.id == "none" else where,
        "size": entry.size,
        "licence": entry.licence,
        "a score is": entry.range,
        "a preference": entry.preference,
        "agrees with people": entry.accuracy,
        "needs": f'`pip install "aifeedback_dpo[{entry.extra}]"`' if entry.extra else None,
        "looks at": "pairs, in both orders" if entry.pairwise else None,
    }
