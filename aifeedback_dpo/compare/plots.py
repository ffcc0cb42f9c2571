"""The page's live figures, as plotly's JSON: calibration, the grid of labels by pictures, training curves.

Colours are named by the page's own variables, `var(--c0)`, which its script reads again when the ground changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aifeedback_dpo.compare import looks
from aifeedback_dpo.compare.looks import DASHES, SYMBOLS, Look

Result = Mapping[str, Any]
Plot = dict[str, Any]
INK, SOFT, LINE = "var(--ink)", "var(--soft)", "var(--line)"


def plots(result: Result) -> dict[str, Plot]:
    """Every figure that has something to show, by the id of its place on the page."""
    found: dict[str, Plot] = {}
    if (judges := result["judges"]) and any(row["bins"] for row in judges["calibration"]):
        found["plot-calibration"] = _calibration(result, judges)
    for at, one in enumerate(result["sets"]):
        if one["factors"]:
            found[f"plot-factors-{at}"] = _factors(result, one["factors"])
    policies = looks.of_policies(result["policies"])
    for panel in result["curves"]:
        found[f"plot-{panel['column']}"] = _panel(result, panel, policies)
    return found


def _calibration(result: Result, judges: Mapping[str, Any]) -> Plot:
    """How sure a judge is against how often people agree."""
    look = looks.of_judges(judges["names"])
    rows = [row for row in judges["calibration"] if row["bins"]]
    diagonal = {"x": [0.5, 1], "y": [0.5, 1], "mode": "lines", "name": "as it says", "hoverinfo": "skip"}
    traces = [{**diagonal, "type": "scatter", "line": {"color": SOFT, "width": 1, "dash": "dot"}}]
    for row in rows:
        bins = [one for one in row["bins"] if one["share"]["value"] is not None]
        traces.append(
            {
                **_line(_title(result, row["judge"]), look[row["judge"]], "lines+markers"),
                "x": [one["mean_p"] for one in bins],
                "y": [one["share"]["value"] for one in bins],
                "error_y": _error([one["share"] for one in bins], look[row["judge"]]),
                "text": [f"{one['pairs']} pairs" for one in bins],
                "hovertemplate": "says %{x:.0%}, agrees in %{y:.0%} of %{text}",
            }
        )
    against = _title(result, rows[0]["against"])
    return {
        "data": traces,
        "layout": _layout(
            {"title": "how sure the judge is", "tickformat": ".0%", "range": [0.485, 1.015]},
            {"title": f"agrees with {against}", "tickformat": ".0%", "range": [-0.02, 1.04]},
        ),
    }


def _factors(result: Result, grid: Mapping[str, Any]) -> Plot:
    """The win rate against the base over the source of pictures, a line for each source of labels."""
    labels = list(dict.fromkeys(cell["labels"] for cell in grid["cells"]))
    look = looks.of_judges(labels)
    traces = []
    for at, label in enumerate(labels):
        cells = [cell for cell in grid["cells"] if cell["labels"] == label]
        shift = 0.06 * (at - (len(labels) - 1) / 2)
        traces.append(
            {
                **_line(f"{_title(result, label)} labels", look[label], "lines+markers"),
                "x": [grid["images"].index(cell["images"]) + shift for cell in cells],
                "y": [cell["win_rate"]["value"] for cell in cells],
                "error_y": _error([cell["win_rate"] for cell in cells], look[label]),
                "hovertemplate": "%{y:.0%}",
            }
        )
    places = list(range(len(grid["images"])))
    across = {"title": "whose pictures", "tickvals": places, "ticktext": [_plain(name) for name in grid["images"]]}
    layout = _layout(
        {**across, "range": [-0.35, len(places) - 0.65]},
        {"title": f"preferred over base ({grid['metric']})", "tickformat": ".0%"},
    )
    return {"data": traces, "layout": _level(layout, 0.5)}


def _panel(result: Result, panel: Mapping[str, Any], look: Mapping[str, Look]) -> Plot:
    traces = []
    for line in panel["lines"]:
        points = panel["asked"] or len(line["steps"]) == 1
        drawn = _line(_title(result, line["policy"]), look[line["policy"]], "lines+markers" if points else "lines")
        traces.append({**drawn, "x": line["steps"], "y": line["values"], "hovertemplate": "step %{x}: %{y:.4g}"})
    layout = _layout({"title": "step"}, {"title": ""}) | {"showlegend": False}  # the page has one for all panels
    return {"data": traces, "layout": _level(layout, panel["level"])}


def _line(name: str, look: Look, mode: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": _plain(name),
        "line": {"color": look.var, "width": 2, "dash": DASHES[look.dash]},
        "marker": {"color": look.var, "size": 8, "symbol": SYMBOLS[look.symbol]},
    }


def _error(found: Sequence[Mapping[str, Any]], look: Look) -> dict[str, Any]:
    """Whiskers, not of one length; none where an interval is undefined."""
    up = [0 if one["high"] is None or one["value"] is None else one["high"] - one["value"] for one in found]
    down = [0 if one["low"] is None or one["value"] is None else one["value"] - one["low"] for one in found]
    return {"type": "data", "array": up, "arrayminus": down, "color": look.var, "thickness": 1.2, "width": 3}


def _layout(across: Mapping[str, Any], upward: Mapping[str, Any]) -> dict[str, Any]:
    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "automargin": True, "exponentformat": "power"}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 13},
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "xaxis": {**axis, **across, "title": {"text": across["title"]}},
        "yaxis": {**axis, **upward, "title": {"text": _plain(str(upward["title"]))}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hoverlabel": {"bgcolor": "var(--raised)", "bordercolor": LINE, "font": {"color": INK}},
    }


def _level(layout: dict[str, Any], level: float) -> dict[str, Any]:
    """A line across the whole figure."""
    across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "layer": "below"}
    return {**layout, "shapes": [{**across, "line": {"color": SOFT, "width": 1, "dash": "dot"}}]}


def _title(result: Result, name: str) -> str:
    return str(result["titles"].get(name, name))


def _plain(text: str) -> str:
    """A name that plotly shows as it is: it reads some HTML in text (and `$x$` only where MathJax is loaded, as it is not)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
