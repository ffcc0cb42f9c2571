"""Training curves as numbers: running means of what `ddpo train` logged, few enough points to lie in `report.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifeedback_dpo.errors import DataError
from aifeedback_dpo.store import Run

Array = NDArray[np.float64]
History = Sequence[Mapping[str, Any]]

WINDOW = 20
POINTS = 160
"""Of a line at most: more than a panel has room for."""


@dataclass(frozen=True)
class Panel:
    """A column of metrics.jsonl and what it is at the start. One that is `asked` at some steps only is not smoothed."""

    column: str
    title: str
    level: float
    about: str
    asked: bool = False


PANELS = (
    Panel(
        "implicit_accuracy",
        "Implicit accuracy",
        0.5,
        "share of a batch's pairs whose winner the policy fits better than the loser, both against the reference",
    ),
    Panel("held_out_accuracy", "Accuracy on held-out pairs", 0.5, "the same on pairs nobody trains on", asked=True),
    Panel(
        "gradient_factor",
        "Gradient factor",
        0.5,
        "how strongly a pair still pulls: one half at the start, towards 0 when it is learned",
    ),
    Panel(
        "winner_drift",
        "Error on winners, against the reference",
        0.0,
        "mean squared error minus the reference's: it should fall; where it rises, the policy learns by running from losers",
    ),
    Panel("loser_drift", "Error on losers, against the reference", 0.0, "the same for losers: it may rise"),
)


def curves(run: Run, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that have a line, and the lines of each policy at its first training seed.

    Raises DataError for a log that cannot be read.
    """
    histories = {row["policy"]: (row["seeds"][0], _history(run, row)) for row in result["policies"] if row["training"]}
    found = []
    for panel in PANELS:
        lines = [
            {"policy": policy, "seed": seed, "steps": steps.astype(int).tolist(), "values": values.tolist()}
            for policy, (seed, history) in histories.items()
            for steps, values in line(panel, history)
        ]
        if lines:
            told = {"column": panel.column, "title": panel.title, "about": panel.about, "level": panel.level}
            found.append({**told, "asked": panel.asked, "lines": lines})
    return found


def line(panel: Panel, history: History) -> list[tuple[Array, Array]]:
    """Steps, counted from 1, and values, as the only item; none where the log has no such column."""
    rows = [(row["step"] + 1, row[panel.column]) for row in history if row.get(panel.column) is not None]
    if not rows:
        return []
    steps, values = np.array(rows, dtype=float).T
    return [thinned(*((steps, values) if panel.asked else smoothed(steps, values)))]


def smoothed(steps: Array, values: Array) -> tuple[Array, Array]:
    """Running means over WINDOW steps, over a quarter of them in a shorter training, each at the last step it holds."""
    window = max(1, min(WINDOW, len(values) // 4))
    return steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")


def thinned(steps: Array, values: Array) -> tuple[Array, Array]:
    """At most POINTS of them, evenly, the first and the last among them; values to six digits."""
    kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int))
    return steps[kept], np.array([float(f"{value:.6g}") for value in values[kept]])


def _history(run: Run, row: Mapping[str, Any]) -> History:
    seed = row["seeds"][0]
    folder = run.policy_folder(row["policy"], seed)
    if row["kind"] == "other run":
        folder = Path(row["where"]).resolve() / f"seed-{seed}"
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(text) for text in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is corrupted ({error}); delete it, and the report will be without its curves"
        ) from error
