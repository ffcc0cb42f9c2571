"""The drawings of figures.py, each from plain data: matplotlib, white ground, names as text and never as mathematics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aifeedback_dpo.compare import looks
from aifeedback_dpo.compare.looks import INKS, MARKERS, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "text.parse_math": False,
    "pdf.fonttype": 42,  # TrueType, as publishers want it
}
WIDTH = 7.0  # inches: a page of two columns
Titles = Mapping[str, str]
Est = Mapping[str, Any]


def win_rates(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], look: Mapping[str, Look], titles: Titles
) -> "Figure":
    """A panel a metric, a line a policy: the share of prompts on which it is preferred to the base model."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    lines = -(-len(metrics) // 4)
    columns = -(-len(metrics) // lines)
    figure = _figure(WIDTH, lines * (0.75 + 0.22 * len(policies)) + 0.2)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, metric in zip(axes, metrics, strict=False):
        for row in rows:
            if row["metric"] == metric and row["rate"]["value"] is not None:
                at = len(policies) - 1 - policies.index(row["policy"])
                one = look[row["policy"]]
                filled = "white" if row["in_loop"] else one.ink
                _point(axis, row["rate"], at, one, filled)
        axis.axvline(0.5, color="#888", linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
        axis.set(title=_short(titles.get(metric, metric), 18), xlim=(-0.03, 1.03), ylim=(-0.6, len(policies) - 0.4))
        axis.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
        axis.set_yticks(range(len(policies)), [_short(titles.get(name, name)) for name in reversed(policies)])
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    figure.supxlabel("preferred over the base model; hollow: this scorer labelled the training data", fontsize=8)
    return figure


def factors(grid: Mapping[str, Any], titles: Titles) -> "Figure":
    """The win rate against the base over the source of pictures, a line a source of labels."""
    labels = list(dict.fromkeys(cell["labels"] for cell in grid["cells"]))
    look = looks.of_judges(labels)
    figure = _figure(WIDTH * 0.62, 2.8)
    axis = figure.subplots()
    for at, label in enumerate(labels):
        cells = [cell for cell in grid["cells"] if cell["labels"] == label and cell["win_rate"]["value"] is not None]
        places = [grid["images"].index(cell["images"]) + 0.06 * (at - (len(labels) - 1) / 2) for cell in cells]
        _line(axis, places, [cell["win_rate"] for cell in cells], look[label], f"{titles.get(label, label)} labels")
    axis.axhline(0.5, color="#888", linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
    axis.set_xticks(range(len(grid["images"])), [_short(name) for name in grid["images"]])
    axis.set(xlabel="whose pictures", ylabel="preferred over the base model", xlim=(-0.35, len(grid["images"]) - 0.65))
    axis.yaxis.set_major_formatter(_percent)
    _legend(figure, axis)
    return figure


def agreement(rows: Sequence[Mapping[str, Any]], rule: str, titles: Titles) -> "Figure":
    """Each two judges once: the share of pairs on which they agree, by one rule for ties."""
    names = list(dict.fromkeys(name for row in rows for name in (row["first"], row["second"])))
    side = 0.85 * len(names) + 0.9
    figure = _figure(max(side, 2.6), max(0.62 * len(names) + 0.9, 1.9))
    axis = figure.subplots()
    values = [[float("nan")] * (len(names) - 1) for _ in names[1:]]
    for row in rows:
        at, across = sorted((names.index(row["first"]), names.index(row["second"])), reverse=True)
        found = row["rules"][rule]
        if found["value"] is not None:
            values[at - 1][across] = found["value"]
        ink = "white" if (found["value"] or 0) > 0.78 or (found["value"] or 1) < 0.22 else "black"
        axis.text(across, at - 1, _cell(found), ha="center", va="center", color=ink, fontsize=8)
    axis.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(names) - 1), [_short(titles.get(name, name), 20) for name in names[:-1]])
    axis.set_yticks(range(len(names) - 1), [_short(titles.get(name, name), 20) for name in names[1:]])
    axis.set_title(f"agreement in percent ({rule})")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def calibration(names: Sequence[str], rows: Sequence[Mapping[str, Any]], titles: Titles) -> "Figure":
    """How often people agree over how sure each judge is."""
    look = looks.of_judges(names)
    figure = _figure(WIDTH * 0.62, 3.1)
    axis = figure.subplots()
    axis.plot([0.5, 1], [0.5, 1], color="#888", linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    for row in rows:
        bins = [one for one in row["bins"] if one["share"]["value"] is not None]
        if bins:
            shares = [one["share"] for one in bins]
            _line(
                axis,
                [one["mean_p"] for one in bins],
                shares,
                look[row["judge"]],
                titles.get(row["judge"], row["judge"]),
            )
    axis.set(xlabel="how sure the judge is", ylabel="people agree", xlim=(0.48, 1.02), ylim=(-0.02, 1.04))
    axis.xaxis.set_major_formatter(_percent)
    axis.yaxis.set_major_formatter(_percent)
    _legend(figure, axis)
    return figure


def training(curves: Sequence[Mapping[str, Any]], look: Mapping[str, Look], titles: Titles) -> "Figure":
    """A panel a number of the log, a line a policy."""
    from matplotlib.lines import Line2D

    columns = 2 if len(curves) in (2, 4) else min(len(curves), 3)
    lines = -(-len(curves) // columns)
    figure = _figure(WIDTH, 2.1 * lines + 0.4)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, curves, strict=False):
        for line in panel["lines"]:
            one = look[line["policy"]]
            mark = MARKERS[one.symbol] if panel["asked"] or len(line["steps"]) == 1 else ""
            axis.plot(line["steps"], line["values"], color=one.ink, linestyle=_dash(one), marker=mark, markersize=3)
        axis.axhline(panel["level"], color="#888", linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)
        axis.set(title=panel["title"], xlabel="step")
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    shown = list(dict.fromkeys(line["policy"] for panel in curves for line in panel["lines"]))
    keys = [Line2D([], [], color=look[name].ink, linestyle=_dash(look[name])) for name in shown]
    told = [_short(titles.get(name, name), 30) for name in shown]
    figure.legend(keys, told, loc="outside lower center", ncols=min(len(shown), 4), handlelength=3)
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _line(axis: "Axes", places: Sequence[float], found: Sequence[Est], look: Look, name: str) -> None:
    values = [one["value"] for one in found]
    ends = [[_away(one, "low") for one in found], [_away(one, "high") for one in found]]
    kind: dict[str, Any] = {
        "color": look.ink,
        "linestyle": _dash(look),
        "marker": MARKERS[look.symbol],
        "markersize": 4,
    }
    axis.errorbar(places, values, yerr=ends, label=_short(name, 30), elinewidth=0.8, capsize=2, linewidth=1.3, **kind)


def _point(axis: "Axes", found: Est, at: float, look: Look, filled: str) -> None:
    ends = [[_away(found, "low")], [_away(found, "high")]]
    kind: dict[str, Any] = {
        "fmt": MARKERS[look.symbol],
        "color": look.ink,
        "markerfacecolor": filled,
        "markersize": 4.5,
    }
    axis.errorbar([found["value"]], [at], xerr=ends, elinewidth=1, capsize=2, **kind)


def _away(found: Est, end: str) -> float:
    return 0.0 if found[end] is None else float(abs(found[end] - found["value"]))


def _cell(found: Est) -> str:
    if found["value"] is None:
        return "–"
    bounds = "" if found["low"] is None else f"\n[{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
    return f"{100 * found['value']:.0f}{bounds}"


def _dash(look: Look) -> tuple[float, Sequence[float]]:
    return (0, INKS[look.dash])


def _legend(figure: "Figure", axis: "Axes") -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3), fontsize=8)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.0f} %"


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
