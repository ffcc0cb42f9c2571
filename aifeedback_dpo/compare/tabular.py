r"""A table as CSV, for computing further, and as LaTeX, for a paper.

CSV is RFC 4180 in UTF-8: numbers in full, nothing where a value is undefined, an estimate in four columns, text that a
spreadsheet would take for a formula behind an apostrophe. LaTeX is for `booktabs` (and `longtable`, where it would not fit on
a page): an estimate is one cell, `value [low, high]`, shares are in percent, `--` is undefined.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "number", "estimate", "share"]  # the last two are {"value", "low", "high", "prompts"}
LONG = 40  # rows that still fit on a page
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # OWASP, "CSV Injection"
UNDEFINED = "--"
SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class Column:
    """`paper` says whether it is in the LaTeX table, which must fit on a page."""

    name: str
    kind: Kind = "text"
    paper: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of values, one a column. The caption says what a cell is."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.name

    def csv(self) -> str:
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer)
        writer.writerow([guarded(name) for column in self.columns for name in _heads(column)])
        for row in self.rows:
            writer.writerow(
                [cell for column, value in zip(self.columns, row, strict=True) for cell in _raw(column, value)]
            )
        return buffer.getvalue()

    def latex(self) -> str:
        """A whole environment, to be read with \\input."""
        kept = [at for at, column in enumerate(self.columns) if column.paper]
        shape = "".join("l" if self.columns[at].kind == "text" else "r" for at in kept)
        head = _line(escaped(self.columns[at].name.replace("_", " ")) for at in kept)
        body = [_line(_shown(self.columns[at], row[at]) for at in kept) for row in self.rows]
        caption = rf"\caption{{{escaped(self.caption)}}}\label{{tab:{self.name}}}"
        if len(body) > LONG:
            start = [rf"\begin{{longtable}}{{{shape}}}", caption + r" \\", r"\toprule", head, r"\midrule", r"\endhead"]
            return "\n".join(["% needs booktabs, longtable", *start, *body, r"\bottomrule", r"\end{longtable}", ""])
        start = [
            r"\begin{table}",
            r"\centering",
            caption,
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
            head,
            r"\midrule",
        ]
        return "\n".join(["% needs booktabs", *start, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; characters beyond ASCII are left to its engine."""
    printable = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text)
    return "".join(SPECIAL.get(char, char) for char in printable)


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def shown_names(result: Mapping[str, Any]) -> Callable[[str], str]:
    """A name as it is shown: simulated people are always called so."""
    return lambda name: str(result["titles"].get(name, name))


def brackets(result: Mapping[str, Any]) -> str:
    """What the brackets of a cell hold, for a caption."""
    return f" [{100 * result['confidence']:g} % interval]"


def percent(found: Mapping[str, Any]) -> str:
    """A share with its interval, as `57 [52, 61]`; `--` where it is undefined."""
    return interval(found, lambda value: f"{100 * value:.0f}")


def interval(found: Mapping[str, Any] | None, show: Callable[[float], str], undefined: str = UNDEFINED) -> str:
    """An estimate as `value [low, high]`, or its value alone where it has no interval."""
    value, low, high = ((found or {}).get(part) for part in ("value", "low", "high"))
    if value is None:
        return undefined
    return show(value) if low is None or high is None else f"{show(value)} [{show(low)}, {show(high)}]"


def _number(value: float) -> str:
    """Three digits, as LaTeX; a whole number in full."""
    digits = "d" if isinstance(value, int) else ".0f" if abs(value) >= 1000 else ".3g"
    text = format(value, digits)
    mantissa, e, exponent = text.partition("e")
    power = rf"\times10^{{{int(exponent)}}}" if e else ""
    return f"${mantissa}{power}$" if power or value < 0 else mantissa


def _line(cells: Iterable[str]) -> str:
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line[0] in "[*" else line  # after \\ or \midrule these would be read as an option


def _shown(column: Column, value: Any) -> str:
    """A cell of the LaTeX table."""
    if column.kind == "share":
        return percent(value or {})
    if column.kind == "estimate":
        return interval(value, _number)
    if value is None:
        return UNDEFINED
    if column.kind == "number" and not isinstance(value, str):
        return _number(value)
    return escaped(_joined(value))


def _heads(column: Column) -> list[str]:
    if column.kind in ("estimate", "share"):
        return [column.name, *(f"{column.name}_{part}" for part in ("low", "high", "prompts"))]
    return [column.name]


def _raw(column: Column, value: Any) -> list[Any]:
    """The cells of the CSV: None is written as nothing."""
    if column.kind in ("estimate", "share"):
        return [(value or {}).get(part) for part in ("value", "low", "high", "prompts")]
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return [value]
    if isinstance(value, list | tuple) and all(isinstance(one, int | float) for one in value):
        return [_joined(value)]  # numbers, and no text
    return [guarded(_joined(value))]


def _joined(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
