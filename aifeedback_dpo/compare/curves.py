"""Training curves as SVG, in colours that work on light and dark ground."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from aifeedback_dpo.records import CONTROL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
History = Sequence[Mapping[str, Any]]
Lines = Mapping[str, tuple[Array, Array]]
Dash = tuple[float, Sequence[float]]
Look = tuple[str, Dash]

WINDOW = 20
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ec4899", "#a78bfa")
GREY = "#8b8b8b"  # the control
DASHES: tuple[Dash, ...] = tuple(
    (0, ink) for ink in ((), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5), (9, 2), (5, 1, 1, 1, 1, 1))
)
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

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "ddpo", "font.size": 9, "text.parse_math": False}
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(style | ink):
        buffer = io.StringIO()
        figure = _figure(panels, _looks(list(histories)))
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"^.*?<svg", "<svg", svg, flags=re.DOTALL).replace(INK, "currentColor")
    bare = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    labelled = bare.replace("<svg", '<svg width="100%" role="img" aria-label="Training curves"', 1)
    return Markup(labelled)  # noqa: S704 - matplotlib's own drawing, which escapes the names of policies


def _figure(panels: Sequence[tuple[Panel, Lines]], looks: Mapping[str, Look]) -> "Figure":
    """The panels, at most three in a row, over a legend of the policies that are in any of them."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(10, 2.6 * rows + 0.4), layout="constrained")
    for at, (panel, lines) in enumerate(panels):
        axis = figure.add_subplot(rows, columns, at + 1)
        for policy, (steps, values) in lines.items():
            colour, dash = looks[policy]
            marker = "o" if panel.asked or len(values) == 1 else ""
            axis.plot(steps, values, color=colour, linestyle=dash, linewidth=1.6, marker=marker, markersize=3)
        axis.axhline(panel.level, color=INK, linewidth=0.6, alpha=0.4)
        axis.set_title(panel.title, fontsize=9)
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.patch.set_alpha(0)
    shown = [policy for policy in looks if any(policy in lines for _, lines in panels)]
    keys = [Line2D([], [], color=looks[policy][0], linestyle=looks[policy][1], linewidth=1.6) for policy in shown]
    figure.legend(
        keys, shown, loc="outside lower center", ncols=min(len(shown), 4), handlelength=3, frameon=False, fontsize=8
    )
    figure.patch.set_alpha(0)
    return figure


def smoothed(steps: Array, values: Array) -> tuple[Array, Array]:
    """Running means over WINDOW steps, over a quarter of them in a shorter training, each at the last step it holds."""
    window = max(1, min(WINDOW, len(values) // 4))
    return steps[window - 1 :], np.convolve(values, np.full(window, 1 / window), mode="valid")


def _lines(panel: Panel, histories: Mapping[str, History]) -> Lines:
    """Steps, counted from 1, and values of each policy that has the column."""
    found = {}
    for policy, history in histories.items():
        rows = [(row["step"] + 1, row[panel.column]) for row in history if panel.column in row]
        if rows:
            steps, values = np.array(rows, dtype=float).T
            found[policy] = (steps, values) if panel.asked else smoothed(steps, values)
    return found


def _looks(policies: Sequence[str]) -> dict[str, Look]:
    """Colour and dash of each policy, the same in all panels; no two alike up to five judges and six names."""
    names = [policy.partition("+") for policy in policies]
    judges = list(dict.fromkeys(judge for judge, _, _ in names if judge != CONTROL))
    variants = list(dict.fromkeys(["", *(variant for _, _, variant in names)]))
    looks: dict[str, Look] = {}
    for policy, (judge, _, variant) in zip(policies, names, strict=True):
        again, at = (0, 0) if judge == CONTROL else divmod(judges.index(judge), len(COLOURS))
        dash = DASHES[(variants.index(variant) + again) % len(DASHES)]
        looks[policy] = GREY if judge == CONTROL else COLOURS[at], dash
    return looks
