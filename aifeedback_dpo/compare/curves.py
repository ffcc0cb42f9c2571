"""Training curves as SVG, in colours that work on light and dark ground."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

Array = NDArray[np.float64]
History = Sequence[Mapping[str, Any]]

WINDOW = 20
COLOURS = ("#3b82f6", "#f59e0b", "#8b8b8b", "#10b981", "#ec4899", "#a78bfa")
DASHES = ("-", "--", ":", "-.")
INK = "#010203"


@dataclass(frozen=True)
class Panel:
    """A column of metrics.jsonl and what it is at the start. One that is `asked` at some steps only is not smoothed."""

    column: str
    title: str
    level: float
    asked: bool = False


PANELS = (
    Panel("implicit_accuracy", "Implicit accuracy", 0.5),
    Panel("held_out_accuracy", "Accuracy on held-out pairs", 0.5, asked=True),
    Panel("gradient_factor", "Gradient factor", 0.5),
    Panel("winner_drift", "Error on winners, against the reference", 0.0),
    Panel("loser_drift", "Error on losers, against the reference", 0.0),
)


def draw(histories: Mapping[str, History]) -> Markup:
    """A line a policy, named as it is shown: a colour a judge, a dash a train.name. Empty where no panel has any line."""
    panels = [(panel, lines) for panel in PANELS if (lines := _lines(panel, histories))]
    if not panels:
        return Markup("")
    import matplotlib
    from matplotlib.figure import Figure

    looks = _looks(list(histories))
    columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "ddpo", "font.size": 9, "text.parse_math": False}
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(style | ink):
        figure = Figure(figsize=(10, 2.6 * rows + 0.4), layout="constrained")
        handles: dict[str, Any] = {}
        for at, (panel, lines) in enumerate(panels):
            axis = figure.add_subplot(rows, columns, at + 1)
            for policy, (steps, values) in lines.items():
                colour, dash = looks[policy]
                marker = "o" if panel.asked or len(values) == 1 else ""
                drawn = axis.plot(
                    steps, values, color=colour, linestyle=dash, marker=marker, markersize=3, linewidth=1.6
                )
                handles.setdefault(policy, drawn[0])
            axis.axhline(panel.level, color=INK, linewidth=0.6, alpha=0.4)
            axis.set_title(panel.title, fontsize=9)
            axis.set_xlabel("step")
            axis.spines[["top", "right"]].set_visible(False)
            axis.patch.set_alpha(0)
        shown = [policy for policy in histories if policy in handles]
        figure.legend(
            [handles[policy] for policy in shown],
            shown,
            loc="outside lower center",
            ncols=min(len(shown), 4),
            frameon=False,
            fontsize=8,
        )
        figure.patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"^.*?<svg", "<svg", svg, flags=re.DOTALL).replace(INK, "currentColor")
    bare = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    labelled = bare.replace("<svg", '<svg width="100%" role="img" aria-label="Training curves"', 1)
    return Markup(labelled)  # noqa: S704 - matplotlib's own drawing, which escapes the names of policies


def smoothed(steps: Array, values: Array) -> tuple[Array, Array]:
    """Running means over WINDOW steps, over a quarter of them in a shorter training, each at the last step it holds."""
    window = max(1, min(WINDOW, len(values) // 4))
    return steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")


def _lines(panel: Panel, histories: Mapping[str, History]) -> dict[str, tuple[Array, Array]]:
    """Steps, counted from 1, and values of each policy that has the column."""
    found = {}
    for policy, history in histories.items():
        rows = [(row["step"] + 1, row[panel.column]) for row in history if panel.column in row]
        if rows:
            steps, values = np.array(rows, dtype=float).T
            found[policy] = (steps, values) if panel.asked else smoothed(steps, values)
    return found


def _looks(policies: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each policy, the same in all panels; no two alike up to six judges and four names."""
    names = [policy.partition("+") for policy in policies]
    judges = list(dict.fromkeys(judge for judge, _, _ in names))
    variants = list(dict.fromkeys(["", *(variant for _, _, variant in names)]))
    looks = {}
    for policy, (judge, _, variant) in zip(policies, names, strict=True):
        again, colour = divmod(judges.index(judge), len(COLOURS))
        dash = DASHES[(variants.index(variant) + again) % len(DASHES)]
        looks[policy] = COLOURS[colour], dash
    return looks
