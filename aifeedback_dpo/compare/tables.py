"""The numbers of a report as tables beside it: `tables/NAME.csv` and `tables/NAME.tex`, one pair of files for each."""

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from aifeedback_dpo.compare import judge_tables
from aifeedback_dpo.compare.tabular import Column, Table, brackets, percent, shown_names
from aifeedback_dpo.compare.winrate import best
from aifeedback_dpo.store import Run

Result = Mapping[str, Any]
WHO = ("policy", "against")


def write(run: Run, result: Result, folder: Path) -> list[str]:
    """Writes what has a row, and gives the names relative to `folder`; what an earlier report left of the others is deleted."""
    written = []
    for make in TABLES:
        table = make(result)
        for suffix, text in ((".csv", table.csv), (".tex", table.latex)):
            name = f"tables/{table.name}{suffix}"
            if table.rows:
                run.write_text(folder / name, text())
                written.append(name)
            else:
                (folder / name).unlink(missing_ok=True)
    return written


def _fig6(result: Result) -> Table:
    """Rows are what was trained, columns are who judges; the figure of the report in numbers."""
    metrics = list(dict.fromkeys(metric["metric"] for found in result["sets"] for metric in found["metrics"]))
    rows: dict[tuple[str, str, str], dict[str, str | None]] = {}
    for found, duel in _each(result, "duels"):
        if duel["category"] is None:
            rate = best(duel, "win_rate")
            cell = None if rate["value"] is None else percent(rate) + "*" * bool(duel["in_loop"])
            rows.setdefault((found["set"], duel["policy"], duel["against"]), {})[duel["metric"]] = cell
    title = shown_names(result)
    return Table(
        "fig6",
        f"Win rate in percent of what was trained (rows) as each metric judges (columns), a tie counting one half"
        f"{brackets(result)}; over training seeds as well where there are several. "
        "* this metric had a hand in the labels.",
        [Column("set"), Column("trained_on"), Column("against"), *(Column(title(metric)) for metric in metrics)],
        [[at, title(one), title(other), *map(cells.get, metrics)] for (at, one, other), cells in rows.items()],
    )


def _duels(result: Result) -> Table:
    title = shown_names(result)
    counts = ["wins", "ties", "losses", "prompts_won", "prompts_tied", "prompts_lost"]
    rows = []
    for found, row in _each(result, "duels"):
        over = row["over_seeds"] or {}
        names = [found["set"], *(title(row[who]) for who in WHO), title(row["metric"]), row["category"]]
        both = [row["win_rate"], over.get("win_rate"), row["difference"], over.get("difference")]
        tests = [row["sign_test"], row["holm"], row["win_rate_by_seed"], row["seed_sd"]]
        rows.append([*names, row["seeds"], row["in_loop"], *both, *(row[key] for key in counts), *tests])
    return Table(
        "duels",
        "Win rates in percent, a tie counting one half, and differences of scores, policy minus opponent"
        f"{brackets(result)}: over prompts, and over prompts and training seeds. Holm: p of the exact sign test, "
        "adjusted over metrics.",
        [
            *map(Column, ("set", *WHO, "metric", "category")),
            *(Column("seeds", paper=False), Column("in_loop")),
            *(Column("win_rate", "share"), Column("win_rate_over_seeds", "share")),
            *(Column("difference", "estimate"), Column("difference_over_seeds", "estimate", paper=False)),
            *(Column(key, "number", paper=False) for key in [*counts, "sign_test"]),
            *(
                Column("holm", "number"),
                Column("win_rate_by_seed", paper=False),
                Column("seed_sd", "number", paper=False),
            ),
        ],
        rows,
    )


def _means(result: Result) -> Table:
    title = shown_names(result)
    return Table(
        "means",
        f"Mean score of each policy{brackets(result)}, and the median, in the unit of the metric.",
        [
            *map(Column, ("set", "policy", "metric", "category")),
            *(Column("mean", "estimate"), Column("median", "number")),
            *(Column("mean_by_seed", paper=False), Column("seed_sd", "number", paper=False)),
        ],
        [
            [found["set"], title(row["policy"]), title(row["metric"]), row["category"]]
            + [row[key] for key in ("mean", "median", "by_seed", "seed_sd")]
            for found, row in _each(result, "means")
        ],
    )


def _factor_cells(result: Result) -> Table:
    title = shown_names(result)
    return Table(
        "factor_cells",
        f"Whose labels by whose pictures: win rate in percent against the base model, and the difference of scores"
        f"{brackets(result)}.",
        [
            *map(Column, ("set", "metric", "labels", "images", "policy")),
            *(Column("win_rate", "share"), Column("difference", "estimate")),
        ],
        [
            [found["set"], title(grid["metric"]), title(row["labels"]), row["images"], title(row["policy"])]
            + [row[key] for key in ("win_rate", "difference")]
            for found, grid in _grids(result)
            for row in grid["cells"]
        ],
    )


def _factor_effects(result: Result) -> Table:
    title = shown_names(result)
    return Table(
        "factor_effects",
        f"Effects of the source of labels, the source of pictures, and their interaction: differences of scores"
        f"{brackets(result)}, of these very policies and over training seeds.",
        [
            *map(Column, ("set", "metric", "effect", "of")),
            *(Column("difference", "estimate"), Column("over_seeds", "estimate")),
        ],
        [
            [found["set"], title(grid["metric"]), row["effect"], contrast(row, grid["labels"], title)]
            + [row[key] for key in ("difference", "over_seeds")]
            for found, grid in _grids(result)
            for row in grid["effects"]
        ],
    )


def contrast(row: Mapping[str, Any], labels: list[str], title: Callable[[str], str]) -> str:
    """What an effect is of, its judges as they are shown."""
    of = str(row["of"])
    for one, other in permutations(labels, 2) if row["effect"] != "images" else ():
        named = f"{one} - {other}"
        if of == named or of.startswith(f"({named}) on "):
            return of.replace(named, f"{title(one)} - {title(other)}", 1)
    return of


def _guards(result: Result) -> Table:
    title = shown_names(result)
    return Table(
        "guards",
        f"What preference does not see: how far a policy has moved, and how alike its pictures are{brackets(result)}.",
        [
            *map(Column, ("set", "policy", "guard", "against")),
            *(Column("value", "estimate"), Column("about", paper=False), Column("caution", paper=False)),
        ],
        [
            [
                found["set"],
                title(row["policy"]),
                *(row[key] for key in ("guard", "against", "value", "about", "caution")),
            ]
            for found, row in _each(result, "guards")
        ],
    )


def _published(result: Result) -> Table:
    """Under each metric and category that has published numbers: those, then ours by the set's own statistic."""
    title, rows = shown_names(result), []
    for found in result["sets"]:
        for metric, group in dict.fromkeys((row["metric"], row["category"]) for row in found["published"]):
            for row in found["published"]:
                if (row["metric"], row["category"]) == (metric, group):
                    told = ["published", {"value": row["value"]}, *(row[key] for key in ("source", "protocol"))]
                    rows.append(
                        [found["set"], title(metric), group, row["model"], *told, row["comparable"], row["differs"]]
                    )
            for row in found["means"]:
                if (row["metric"], row["category"]) == (metric, group):
                    ours = row["mean"] if found["statistic"] == "mean" else {"value": row["median"]}
                    told = ["this run", ours, None, f"{found['statistic']} over prompts", None, None]
                    rows.append([found["set"], title(metric), group, title(row["policy"]), *told])
    return Table(
        "published",
        f"Published scores beside ours{brackets(result)}, in the unit of the metric. Comparable: nothing is known to "
        "differ between their protocol and ours.",
        [
            *map(Column, ("set", "metric", "category", "model", "origin")),
            *(Column("value", "estimate"), Column("source"), Column("protocol", paper=False)),
            *(Column("comparable"), Column("differs", paper=False)),
        ],
        rows,
    )


def _costs_of_policies(result: Result) -> Table:
    return _costs(result, "policies", "policy", ("pairs", "hours", "money"), "Hours of training and their price")


def _costs_of_labels(result: Result) -> Table:
    keys = ("pairs", "pictures", "seconds", "votes", "seconds_a_vote", "money")
    return _costs(result, "labels", "judge", keys, "What each judge's labels took, and their price")


def _costs(result: Result, part: str, who: str, keys: tuple[str, ...], about: str) -> Table:
    title, told = shown_names(result), result["costs"] or {"currency": "", part: []}
    return Table(
        f"costs_of_{part}",
        f"{about} in {told['currency']}; what nobody recorded is left open.",
        [
            Column(who),
            *(Column(key, "number") for key in keys),
            Column("currency", paper=False),
            Column("about", paper=False),
        ],
        [[title(row[who]), *(row[key] for key in keys), told["currency"], row["about"]] for row in told[part]],
    )


def _each(result: Result, key: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every row of a part of every prompt set."""
    return ((found, row) for found in result["sets"] for row in found[key])


def _grids(result: Result) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(found, found["factors"]) for found in result["sets"] if found["factors"]]


TABLES: tuple[Callable[[Result], Table], ...] = (
    *(_fig6, _duels, _means, _factor_cells, _factor_effects, _guards, _published),
    *judge_tables.TABLES,
    *(_costs_of_policies, _costs_of_labels),
)
