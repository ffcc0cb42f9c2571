"""The page of a report, from its result: what stands in which row and column, and the templates that show it.

Prompts and names are escaped: nothing in them becomes markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aifeedback_dpo.compare import looks, tables, wording
from aifeedback_dpo.compare.looks import Look
from aifeedback_dpo.compare.pictures import Shown
from aifeedback_dpo.compare.tabular import shown_names
from aifeedback_dpo.compare.winrate import best
from aifeedback_dpo.compare.wording import number, p_value, percent, shares
from aifeedback_dpo.records import BASE

Result = Mapping[str, Any]
Rows = dict[tuple[str, str], dict[str, Any]]
FEW = 3  # policies that fit in a heading
ALT = 120
"""Letters of a prompt that are read out for each of its pictures."""


def render(result: Result, shown: Mapping[str, Shown], plots: Mapping[str, Any]) -> str:
    """index.html. `shown` has the pictures that are there; the others are said to be missing."""
    title = shown_names(result)
    return (
        _environment()
        .get_template("report.html")
        .render(
            result=result,
            shown=shown,
            plots=plots,
            title=title,
            titles=lambda names: listed([title(name) for name in names]),
            contrast=lambda row, labels: tables.contrast(row, labels, title),
            dots={name: look.var for name, look in looks.of_policies(result["policies"]).items()},
            heading=heading(result),
            made=f"{datetime.fromisoformat(result['made']):%d %B %Y, %H:%M} UTC",
            share=f"{100 * result['confidence']:g}{wording.SPACE}%",
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aifeedback_dpo.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "num": number, "shares": shares, "bounds": wording.bounds, "p": p_value}
    environment.filters["first_up"] = lambda text: f"{text[:1].upper()}{text[1:]}"
    environment.globals |= {made.__name__: made for made in (best, wording.heat, wording.mark, wording.whisker)}
    environment.globals |= {made.__name__: made for made in (tip, brief, by, spread, against_base, duels, measures)}
    environment.globals |= {made.__name__: made for made in (guards, published, crossing, lines_of, alike)}
    return environment


def heading(result: Result) -> str:
    """Who is compared, in the order of the command."""
    names = [str(result["titles"].get(name, name)) for name in result["compared"]]
    if not names:
        return "Judges against judges"
    if len(names) == 1:
        return f"{names[0]} against the base model"
    return " vs ".join(names) if len(names) <= FEW else f"{len(names)} policies against each other"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def duels(found: Mapping[str, Any]) -> Rows:
    """(policy, against) -> metric -> duel, over all categories, as they come."""
    rows: Rows = {}
    for row in found["duels"]:
        if row["category"] is None:
            rows.setdefault((row["policy"], row["against"]), {})[row["metric"]] = row
    return rows


def against_base(found: Mapping[str, Any], *, base: bool) -> Rows:
    """The duels against the base model, or all others."""
    return {side: cells for side, cells in duels(found).items() if (side[1] == BASE) == base}


def alike(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who is told apart from whom by no metric, on no picture."""
    return [
        side
        for side, cells in duels(found).items()
        if all(row["ties"] and not row["wins"] and not row["losses"] for row in cells.values())
    ]


def crossing(found: Mapping[str, Any]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The categories that were compared, and policy -> category -> duel against the base, by the metric that decides."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found["duels"]:
        if row["category"] is not None and row["against"] == BASE and row["metric"] == found["primary"]:
            rows.setdefault(row["policy"], {})[row["category"]] = row
    there = {category for cells in rows.values() for category in cells}
    return [category for category in found["categories"] if category in there], rows


def measures(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Policy -> metric -> its mean, over all categories."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found["means"]:
        if row["category"] is None:
            rows.setdefault(row["policy"], {})[row["metric"]] = row
    return rows


def guards(found: Mapping[str, Any]) -> tuple[dict[tuple[str, str | None], str], dict[str, dict[Any, Any]]]:
    """(guard, against) -> what it is, and policy -> the same -> its row."""
    columns: dict[tuple[str, str | None], str] = {}
    rows: dict[str, dict[Any, Any]] = {}
    for row in found["guards"]:
        columns.setdefault((row["guard"], row["against"]), row["about"])
        rows.setdefault(row["policy"], {})[row["guard"], row["against"]] = row
    return columns, rows


def published(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A table for each metric with published numbers: its columns (None is all prompts), theirs and ours."""
    parts = []
    for metric in dict.fromkeys(row["metric"] for row in found["published"]):
        theirs = [row for row in found["published"] if row["metric"] == metric]
        columns = sorted({row["category"] for row in theirs}, key=lambda one: (one is not None, one or ""))
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for row in theirs:
            rows.setdefault((row["model"], row["source"]), {})[row["category"]] = row
        ours: dict[str, dict[str, Any]] = {}
        for row in found["means"]:
            if row["metric"] == metric and row["category"] in columns:
                ours.setdefault(row["policy"], {})[row["category"]] = row
        parts.append({"metric": metric, "columns": columns, "theirs": rows, "ours": ours})
    return parts


def by(rows: Iterable[Mapping[str, Any]], *keys: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows under the value of a key, or under those of several, in the order in which they come."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys), []).append(row)
    return found


def spread(found: Iterable[Mapping[str, Any] | None], level: float | None = None) -> tuple[float, float]:
    """A scale that holds all these intervals, and the level."""
    ends = [est[key] for est in found if est for key in ("value", "low", "high") if est[key] is not None]
    ends += [] if level is None else [level]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def tip(row: Mapping[str, Any]) -> str:
    """All there is to say of a duel."""
    rate, mean = row["win_rate"], row["difference"]
    said = [
        f"{row['wins']} won, {row['ties']} tied, {row['losses']} lost (pictures)",
        f"{row['prompts_won']} won, {row['prompts_tied']} tied, {row['prompts_lost']} lost (prompts)",
        f"sign test p {p_value(row['sign_test'])}, by Holm {p_value(row['holm'])}",
        f"these very policies: {percent(rate)} {shares(rate)}",
        f"difference {number(mean, signed=True)} {wording.bounds(mean, signed=True)}",
    ]
    if row["over_seeds"]:
        over = row["over_seeds"]["difference"]
        said.append(f"over training seeds as well: {number(over, signed=True)} {wording.bounds(over, signed=True)}")
    if len(row["win_rate_by_seed"]) > 1:
        by_seed = ", ".join(map(percent, row["win_rate_by_seed"]))
        spread_of = "" if row["seed_sd"] is None else f" (standard deviation {100 * row['seed_sd']:.1f} points)"
        said.append(f"by training seed: {by_seed}{spread_of}")
    if row["in_loop"]:
        said.append("* this scorer labelled training data of one of the two: it judges its own work")
    return "\n".join(said)


def lines_of(curves: Sequence[Mapping[str, Any]], policies: Sequence[Mapping[str, Any]]) -> dict[str, Look]:
    """The looks of those policies that have a training curve."""
    there = {line["policy"] for panel in curves for line in panel["lines"]}
    return {policy: look for policy, look in looks.of_policies(policies).items() if policy in there}


def brief(prompt: str) -> str:
    """A prompt, or as much of it as an alternative text needs."""
    line = " ".join(prompt.split())
    return line if len(line) <= ALT else f"{line[:ALT].rstrip()}…"
