"""Text of others on every page and card: it is read as it is, and adds no element, no attribute and no address."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from aifeedback_dpo import config
from aifeedback_dpo.annotate import report as people
from aifeedback_dpo.annotate.agreement import Alpha
from aifeedback_dpo.compare import cards, page, plots
from aifeedback_dpo.export import card
from aifeedback_dpo.export.pairs import Counts
from aifeedback_dpo.store import Run
from tests import reports

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "--></style></textarea><svg onload=alert(1)>",
    "[x](javascript:alert(1)) ![y](javascript:alert(1)) <javascript:alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "``` \n```\n<script>alert(1)</script>\n# A heading",
)
WRITTEN_BY_OTHERS = {
    "prompt",
    "about",
    "caution",
    "cautions",
    "headline",
    "notes",
    "rule",
    "why_not",
    "title",
    "titles",
    "ended_early",
}


class Skeleton(HTMLParser):
    """The elements of a page with their attributes, and the addresses that these have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "action", "style")}


def said(result: Any, text: str, *, is_text: bool = False) -> Any:
    """The same result, with this at the end of all that others wrote."""
    if isinstance(result, dict):
        return {key: said(value, text, is_text=is_text or key in WRITTEN_BY_OTHERS) for key, value in result.items()}
    if isinstance(result, list):
        return [said(value, text, is_text=is_text) for value in result]
    return f"{result} {text}" if is_text and isinstance(result, str) else result


def report_page(text: str, root: Path) -> str:
    told = said(reports.example(), text) | {"curves": [], "files": {"tables": [], "figures": {}, "cards": {}}}
    return page.render(told, {}, plots.plots(told))


def page_of_votes(text: str, root: Path) -> str:
    run = Run(root, config.load("shapes"))
    voter = people.Voter(text, 3, 0, 0, 0, 0, None, 1.0, None, None, [text])
    found = people.Report({"title": text}, 3, 2, {1: 2}, Alpha(2, why_not=text), [voter], [text])
    return people.write(run, found).read_text()


def card_of_a_policy(text: str, root: Path) -> str:
    run = Run(root / "run", config.load("shapes"))
    run.record("label/human", "done", rule=text, simulated=True)
    told = said(reports.example(), text)
    names = cards.write(run, told, run.report)
    return shown((run.report / names["human"]).read_text())


def card_of_an_export(text: str, root: Path) -> str:
    counts = Counts(3, 3, 0, 0)
    works = {
        "import/a": {"dataset": text, "licence": text},
        "label/human": {"versions": {"torch": text}, "commit": text},
    }
    told = card.Facts("pickapic", "human", text, counts, {"train": counts}, {}, [text], [(text, text, 3)], works)
    return shown(card.text(told))


def shown(markdown: str) -> str:
    """As a reader that lets HTML through would show it, below its header."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.split("---\n", 2)[2])


@pytest.mark.parametrize(
    "made", [report_page, page_of_votes, card_of_a_policy, card_of_an_export], ids=lambda made: made.__name__
)
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_adds_an_element_an_attribute_or_an_address(
    made: Callable[[str, Path], str], text: str, tmp_path: Path
) -> None:
    harmless, hostile = (Skeleton(made(words, tmp_path / at)) for at, words in (("one", "words"), ("two", text)))

    assert hostile.elements == harmless.elements
    assert hostile.addresses == harmless.addresses
