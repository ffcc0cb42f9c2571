"""Every file under recipes/ as a page, whole: recipes as `ddpo recipes NAME` prints them, and scripts for clusters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RECIPES = Path(__file__).parents[2] / "recipes"
URI = "reference/recipes.md"
LANGUAGES = {".yaml": "yaml", ".sbatch": "bash"}


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, URI, content="\n".join(page())))
    return files


def page() -> Iterator[str]:
    yield "# Recipes and cluster files\n"
    yield "`ddpo recipes` lists the recipes, `ddpo recipes NAME` prints one to copy and change. What came of them is in"
    yield "[what was tried](../outside/recipes.md).\n"
    yield from _printed("Recipes", RECIPES)
    yield from _printed("Cluster files", RECIPES / "cluster")


def _printed(title: str, folder: Path) -> Iterator[str]:
    yield f"## {title}\n"
    for path in sorted(folder.glob("*.*")):
        if language := LANGUAGES.get(path.suffix):
            anchor = path.relative_to(RECIPES).with_suffix("").as_posix().replace("/", "-")
            yield f"### {path.name} {{: #{anchor} }}\n"
            yield f"```{language}\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"
