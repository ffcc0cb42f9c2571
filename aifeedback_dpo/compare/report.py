"""The report: `report.json` with every number, and one HTML page that opens from disk without a network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aifeedback_dpo.compare import curves, headline
from aifeedback_dpo.compare.metrics import Metric
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from aifeedback_dpo.compare.policies import Entry


@dataclass(frozen=True)
class Disputed:
    """A training pair on which the judges took opposite sides: their p_a."""

    prompt: str
    image_a: str
    image_b: str
    first: float
    second: float


@dataclass(frozen=True)
class Pictures:
    """What the page shows: rows of one prompt and seed across policies, and pairs in dispute."""

    gallery: list[dict[str, Any]]
    disputed: list[Disputed]


def pictures(run: Run, entries: Sequence["Entry"], measured: Sequence[Metric], disputed: list[Disputed]) -> Pictures:
    """The first prompts of the held-out list, not a choice; each policy at its first training seed."""
    shown: dict[str, Entry] = {}
    for entry in entries:
        shown.setdefault(entry.name, entry)
    truths = {metric.name: metric.values for metric in measured if metric.truth}
    gallery = []
    for at, shot in enumerate(entries[0].shots[: run.recipe.compare.gallery]):
        images = [{"policy": name, "image": entry.shots[at].image_id} for name, entry in shown.items()]
        for cell in images:
            cell["correct"] = str(bool(truths["correct"][cell["image"]])) if "correct" in truths else ""
        gallery.append({"prompt": shot.prompt, "images": images})
    return Pictures(gallery, disputed)


def write(run: Run, result: dict[str, Any], shown: Pictures) -> None:
    """The folder `report/`: pictures first, the page and the numbers last."""
    folder = run.report
    wanted = {cell["image"] for row in shown.gallery for cell in row["images"]}
    wanted |= {image for pair in shown.disputed for image in (pair.image_a, pair.image_b)}
    for image_id, data in run.images(wanted):
        path = folder / "images" / f"{image_id}.webp"
        if not path.exists():
            run.write(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
    run.write_text(folder / "report.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    run.write_text(folder / "index.html", render(result, shown, _histories(run, result)))


def render(result: dict[str, Any], shown: Pictures, histories: dict[str, list[dict[str, Any]]]) -> str:
    """The page. Prompts and names are escaped: nothing in them becomes markup."""
    environment = Environment(
        loader=PackageLoader("aifeedback_dpo.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.0f}"
    environment.filters["heat"] = _heat
    sides = list(dict.fromkeys((row["policy"], row["against"]) for row in result["duels"]))
    cells = {(row["policy"], row["against"], row["metric"]): row for row in result["duels"]}
    return environment.get_template("report.html").render(
        result=result,
        shown=shown,
        sides=sides,
        cells=cells,
        title=lambda name: headline.title(result, name),
        curves=curves.draw(histories),
    )


def _histories(run: Run, result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each policy's metrics at its first training seed."""
    found = {}
    for row in result["policies"]:
        path = run.policy_folder(row["policy"], row["seeds"][0]) / "metrics.jsonl"
        if path.exists():
            found[headline.title(result, row["policy"])] = [json.loads(line) for line in path.read_text().splitlines()]
    return found


def _heat(rate: dict[str, float]) -> str:
    """A cell's class: how far the whole interval is from one half."""
    if rate["low"] > 0.5:
        return "up strong" if rate["low"] > 0.6 else "up"
    if rate["high"] < 0.5:
        return "down strong" if rate["high"] < 0.4 else "down"
    return "even"
