"""Figures for papers, PNG and PDF, on white: who wins, labels by pictures, agreement, calibration, training.

matplotlib is slow, so a figure is drawn only where it would change: each PNG carries a hash of what it was drawn from.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from aifeedback_dpo.compare import looks, paper
from aifeedback_dpo.compare.winrate import best
from aifeedback_dpo.records import content_id
from aifeedback_dpo.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = Mapping[str, Any]
Drawing = tuple[Callable[..., "Figure"], Sequence[Any]]
LOOK = 1
"""Of all drawings together: a figure of another is drawn again."""
DPI = 130
HASH = "aifeedback_dpo"


def write(run: Run, result: Result, folder: Path) -> dict[str, str]:
    """Name -> its PNG relative to `folder`; a PDF lies beside each. Figures of an earlier report go."""
    found = drawings(result)
    names = {name: f"figures/{name}.png" for name in found}
    for name, (draw, told) in found.items():
        stamp = content_id(str(LOOK), draw.__name__, json.dumps(told, default=asdict, sort_keys=True))
        if _stamp(folder / names[name]) != stamp or not (folder / names[name]).with_suffix(".pdf").exists():
            _draw(run, folder / names[name], draw, told, stamp)
    for path in (folder / "figures").glob("*.png"):
        if f"figures/{path.name}" not in names.values() and _stamp(path):
            path.unlink(missing_ok=True)
            path.with_suffix(".pdf").unlink(missing_ok=True)
    return names


def drawings(result: Result) -> dict[str, Drawing]:
    """Every figure that has something to show: how it is drawn, and from what, names as they are shown."""
    found: dict[str, Drawing] = {}
    policies = looks.of_policies(result["policies"])
    titles = dict(result["titles"])
    for at, one in enumerate(result["sets"]):
        if any(row["against"] == "base" for row in one["duels"]):
            metrics = [metric["metric"] for metric in one["metrics"]]
            rows = [row for row in one["duels"] if row["against"] == "base" and row["category"] is None]
            found[f"win_rates-{at}"] = (paper.win_rates, (_kept(rows), metrics, policies, titles))
        if one["factors"]:
            found[f"factors-{at}"] = (paper.factors, (one["factors"], titles))
    if judges := result["judges"]:
        if judges["matrix"]:
            kept = [{key: row[key] for key in ("first", "second", "rules")} for row in judges["matrix"]]
            found["agreement"] = (paper.agreement, (kept, next(iter(judges["rules"])), titles))
        if any(row["bins"] for row in judges["calibration"]):
            found["calibration"] = (paper.calibration, (judges["names"], judges["calibration"], titles))
    if result["curves"]:
        found["training"] = (paper.training, (result["curves"], policies, titles))
    return found


def _kept(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each duel what the figure shows."""
    return [
        {key: row[key] for key in ("policy", "metric", "in_loop")} | {"rate": best(row, "win_rate")} for row in rows
    ]


def _draw(run: Run, path: Path, draw: Callable[..., "Figure"], told: Sequence[Any], stamp: str) -> None:
    import matplotlib

    with matplotlib.rc_context(paper.STYLE):
        figure = draw(*told)
        if engine := figure.get_layout_engine():
            engine.execute(figure)  # once, and not for each format
            figure.set_layout_engine("none")
        for suffix in (".pdf", ".png"):  # the hash last: a stop between the two draws both again
            buffer = io.BytesIO()
            told_of = {"CreationDate": None} if suffix == ".pdf" else {HASH: stamp}
            figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=told_of)
            data = buffer.getvalue()
            run.write(path.with_suffix(suffix), lambda file, data=data: file.write(data))  # type: ignore[misc]


def _stamp(path: Path) -> str | None:
    """The hash in a PNG that was drawn here."""
    try:
        with Image.open(path) as image:
            return image.info.get(HASH)
    except OSError:
        return None
