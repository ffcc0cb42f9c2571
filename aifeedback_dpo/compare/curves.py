"""Training curves as SVG, in colours that work on light and dark ground."""

import io
import re
from typing import Any

from markupsafe import Markup

WINDOW = 20
COLOURS = ("#3b82f6", "#f59e0b", "#8b8b8b", "#10b981", "#ec4899", "#a78bfa")
INK = "#010203"
PANELS = (
    ("implicit_accuracy", "Implicit accuracy", 0.5),
    ("winner_drift", "Error on winners, against the reference", 0.0),
    ("loser_drift", "Error on losers, against the reference", 0.0),
)


def draw(histories: dict[str, list[dict[str, float]]]) -> Markup:
    """Running means over 20 steps, a line a policy. Empty where nothing was trained."""
    if not histories:
        return Markup("")
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "ddpo", "font.size": 9}
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    with matplotlib.rc_context(style | ink):
        figure = Figure(figsize=(10, 2.8), layout="constrained")
        axes = figure.subplots(1, len(PANELS))
        for axis, (column, title, level) in zip(axes, PANELS, strict=True):
            for colour, (policy, history) in zip(COLOURS * 9, histories.items(), strict=False):
                values = np.array([row[column] for row in history])
                window = min(WINDOW, len(values))
                smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
                axis.plot(np.arange(len(smooth)) + window, smooth, color=colour, label=policy, linewidth=1.6)
            axis.axhline(level, color=INK, linewidth=0.6, alpha=0.4)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("step")
            axis.spines[["top", "right"]].set_visible(False)
            axis.patch.set_alpha(0)
        axes[0].legend(frameon=False, fontsize=8)
        figure.patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"^.*?<svg", "<svg", svg, flags=re.DOTALL).replace(INK, "currentColor")
    bare = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    labelled = bare.replace("<svg", '<svg width="100%" role="img" aria-label="Training curves"', 1)
    return Markup(labelled)  # noqa: S704 - matplotlib's own drawing; the labels are policy names, which are [A-Za-z0-9._-]
