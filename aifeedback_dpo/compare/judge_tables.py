"""The tables of judges against judges: agreement, calibration, slices, leanings, rankings."""

from collections.abc import Callable, Mapping
from typing import Any

from aifeedback_dpo.compare.tabular import Column, Table, brackets, shown_names

Result = Mapping[str, Any]


def _agreement(result: Result) -> Table:
    told, title = _judges(result), shown_names(result)
    rules = list(told["rules"]) if told else []
    tau = {(row["first"], row["second"]): row for row in told["tau"]} if told else {}
    rows = []
    for row in told["matrix"] if told else []:
        both = (row["first"], row["second"])
        shares = [row["rules"].get(rule) for rule in rules]
        ranks = tau.get(both, {})
        rows.append([*map(title, both), row["pairs"], row["decided"], *shares, row["kappa"], ranks.get("tau")])
        rows[-1].append(row["weighted_by_votes"])
    return Table(
        "agreement",
        f"Agreement of two judges in percent{brackets(result)}, by four rules for ties, with Cohen's kappa and Kendall's "
        "tau of the order of a prompt's pictures. "
        + " ".join(f"{rule}: {how}." for rule, how in (told or {"rules": {}})["rules"].items()),
        [
            *map(Column, ("first", "second")),
            *(Column("pairs", "number"), Column("decided_pairs", "number", paper=False)),
            *(Column(rule, "share") for rule in rules),
            *(Column("kappa", "estimate"), Column("tau", "estimate"), Column("weighted_by_votes", paper=False)),
        ],
        rows,
    )


def _calibration(result: Result) -> Table:
    return _of_judges(
        result,
        "calibration",
        f"Expected calibration error of a judge's probabilities, and the slope that would fit the other's calls best"
        f"{brackets(result)}.",
        [
            *(Column("judge"), Column("against"), Column("pairs", "number")),
            *(Column("ece", "estimate"), Column("slope", "estimate"), Column("set_it", paper=False)),
            *(Column("why_not", paper=False), Column("no_slope", paper=False)),
        ],
    )


def _calibration_bins(result: Result) -> Table:
    title = shown_names(result)
    return Table(
        "calibration_bins",
        f"Of the pairs that a judge is so sure of, the share in percent on which the other agrees{brackets(result)}.",
        [
            *map(Column, ("judge", "against")),
            *(Column(key, "number") for key in ("from", "to", "mean_p", "pairs")),
            Column("share", "share"),
        ],
        [
            [
                title(row["judge"]),
                title(row["against"]),
                *(found[key] for key in ("low", "high", "mean_p", "pairs", "share")),
            ]
            for row in (_judges(result) or {"calibration": []})["calibration"]
            for found in row["bins"]
        ],
    )


def _slices(result: Result) -> Table:
    columns = [
        *map(Column, ("judge", "against", "by", "slice")),
        Column("pairs", "number"),
        Column("accuracy", "share"),
    ]
    return _of_judges(result, "slices", f"Agreement in percent{brackets(result)} on parts of the pairs.", columns)


def _bias(result: Result) -> Table:
    columns = [*map(Column, ("judge", "feature")), Column("about", paper=False), Column("pairs", "number")]
    about = f"Share in percent{brackets(result)} of decided pairs in which a judge prefers the picture with more of a feature."
    return _of_judges(result, "bias", about, [*columns, Column("share", "share")])


def _ranking(result: Result) -> Table:
    """A judge of whom there is no ranking has one row that says why."""
    title, rows = shown_names(result), []
    for row in (_judges(result) or {"ranking": []})["ranking"]:
        for item in row["items"] or [dict.fromkeys(("item", "score", "pairs"))]:
            rows.append([title(row["judge"]), row["of"], item["item"], item["score"], item["pairs"]])
            rows[-1] += [row["why_not"], row["no_interval"]]
    return Table(
        "ranking",
        f"Bradley-Terry scores by one judge's preferences{brackets(result)}: natural logarithms, their mean 0.",
        [
            *map(Column, ("judge", "of", "item")),
            *(Column("score", "estimate"), Column("pairs", "number")),
            *(Column("why_not", paper=False), Column("no_interval", paper=False)),
        ],
        rows,
    )


def _of_judges(result: Result, name: str, caption: str, columns: list[Column]) -> Table:
    """Rows of the judges' part whose keys are the columns' names."""
    title = shown_names(result)
    shown = ("judge", "against")
    rows = [
        [title(row[column.name]) if column.name in shown else row[column.name] for column in columns]
        for row in (_judges(result) or {name: []})[name]
    ]
    return Table(name, caption, columns, rows)


def _judges(result: Result) -> dict[str, Any] | None:
    found: dict[str, Any] | None = result["judges"]
    return found


TABLES: tuple[Callable[[Result], Table], ...] = (
    *(_agreement, _calibration, _calibration_bins),
    *(_slices, _bias, _ranking),
)
