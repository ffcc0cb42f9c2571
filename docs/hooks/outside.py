"""Pages whose source lies outside docs/, and links that leave it: one text stays one text, on GitHub and on the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "benchmarks/README.md": "outside/benchmarks.md",
    "recipes/README.md": "outside/recipes.md",
    "aifeedback_dpo/shapes/weights/README.md": "outside/embedded-world.md",
    "CHANGELOG.md": "outside/changelog.md",
    "CONTRIBUTING.md": "outside/contributing.md",
    "SECURITY.md": "outside/security.md",
}
"""Where each is found in the repository, and on the site."""
PRINTED = "reference/recipes.md"
"""The page that prints every file under recipes/, each under a heading of its own."""

_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_config(config: Any) -> Any:
    if (ROOT / "SECURITY.md").exists():
        config.nav[-1]["Project"].append({"Security": PAGES["SECURITY.md"]})
    return config


def on_files(files: Files, config: Any) -> Files:
    for source, uri in PAGES.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, uri, content=_text(source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Every relative link, seen from where its text lies in the repository, as a link of the site."""
    at = page.file.src_uri
    here = {uri: source for source, uri in PAGES.items()}.get(at, f"docs/{at}")
    return _LINK.sub(lambda link: f"{link[1]}{_target(link[2], link[3], here, at)}", markdown)


def _text(source: str) -> str:
    return _FRONT_MATTER.sub("", (ROOT / source).read_text(encoding="utf-8"))


def _target(link: str, rest: str, here: str, at: str) -> str:
    if ":" in link or link.startswith("/"):
        return link + rest
    place = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    if place in PAGES:
        found = PAGES[place]
    elif place.startswith("recipes/"):
        found, rest = PRINTED, f"#{anchor(place)})"
    else:
        found = place.removeprefix("docs/")
    return posixpath.relpath(found, posixpath.dirname(at)) + rest


def anchor(place: str) -> str:
    """The heading under which a file of recipes/ is printed."""
    return place.removeprefix("recipes/").rpartition(".")[0].replace("/", "-")
