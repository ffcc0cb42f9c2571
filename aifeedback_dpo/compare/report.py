"""The report: one folder that opens from disk without a network.

    index.html         the page; report.json has every number on it
    plotly.min.js      its live figures
    thumbnails/        its pictures, small; whole they lie in the run's pictures/
    tables/ figures/   CSV and LaTeX, PNG and PDF
    cards/             a model card for each policy that was trained

What an earlier report left and this one does not have is deleted, and nothing else.
"""

import json
from pathlib import Path
from typing import Any

from aifeedback_dpo import engine
from aifeedback_dpo.compare import cards, figures, page, pictures, plots, tables, training
from aifeedback_dpo.store import Run

PLOTLY = "plotly.min.js"


def write(run: Run, result: dict[str, Any], folder: Path, progress: engine.Progress) -> None:
    """Writes everything under `folder`, the page and the numbers last.

    `result` gets `curves`, the points of the training curves, and `files`, what lies beside the page. Raises DataError for a
    log of training, or a policy's description, that cannot be read.
    """
    result["curves"] = training.curves(run, result)
    shown = pictures.write(run, result, folder, progress)
    live = plots.plots(result)
    result["files"] = {
        "tables": tables.write(run, result, folder),
        "figures": figures.write(run, result, folder),
        "cards": cards.write(run, result, folder),
    }
    if live:
        _plotly(run, folder / PLOTLY)
    else:
        (folder / PLOTLY).unlink(missing_ok=True)
    run.write_text(folder / "report.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    run.write_text(folder / "index.html", page.render(result, shown, live))


def _plotly(run: Run, path: Path) -> None:
    """The library, once: five megabytes are not written again where they are there."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    bundle = get_plotlyjs().encode()
    if not path.exists() or path.read_bytes() != bundle:
        run.write(path, lambda file: file.write(bundle))
