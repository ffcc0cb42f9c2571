"""How policies and judges look in every figure: a colour a judge, a dash and a symbol for what else differs.

Colours are Okabe and Ito's (2008), which the colour-blind tell apart, darkened for white ground and lightened for dark so that
each has a contrast of 3 to 1 at least; the page's style sheet has the same under the same names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifeedback_dpo.records import BASE, CONTROL

COLOURS = {
    "c0": ("#0072b2", "#56b4e9"),
    "c1": ("#d55e00", "#f28e4b"),
    "c2": ("#00805a", "#3fc59a"),
    "c3": ("#b4508e", "#e29ac6"),
    "c4": ("#8a6d00", "#e3c34a"),
    "c5": ("#5a4fb0", "#aba3f5"),
    "grey": ("#767676", "#969696"),
}
"""Name -> on light ground, on dark ground."""
CYCLE = ("c0", "c1", "c2", "c3", "c4", "c5")
GREY = "grey"  # the control, and the base model
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
INKS: tuple[Sequence[float], ...] = ((), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5), (9, 2), (9, 1.5, 1, 1.5))
"""The dashes again, in points, as matplotlib wants them."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
MARKERS = ("o", "s", "D", "^", "P", "X")


@dataclass(frozen=True)
class Look:
    """A colour by its name in COLOURS, and the place of its dash and its symbol in the lists above."""

    colour: str
    dash: int = 0
    symbol: int = 0

    @property
    def ink(self) -> str:
        """The colour on white paper."""
        return COLOURS[self.colour][0]

    @property
    def inks(self) -> str:
        """The dash, in the units of an SVG line two wide."""
        return " ".join(f"{2 * ink:g}" for ink in INKS[self.dash])

    @property
    def var(self) -> str:
        """The colour as the page's own, which changes with its ground."""
        return f"var(--{self.colour})"


def of_policies(rows: Sequence[Mapping[str, Any]]) -> dict[str, Look]:
    """Policies of one judge share a colour; no two look alike up to six judges with six policies each."""
    owners = {row["policy"]: row["judge"] or row["policy"] for row in rows}
    judges = [owner for owner in dict.fromkeys(owners.values()) if owner not in (CONTROL, BASE)]
    seen: dict[str, int] = {}
    looks = {}
    for policy, owner in owners.items():
        colour, again = _colour(owner, judges)
        at = seen.get(colour, 0)
        seen[colour] = at + 1
        looks[policy] = Look(colour, max(at, again) % len(DASHES), _place(owner, judges))
    return looks


def of_judges(names: Sequence[str]) -> dict[str, Look]:
    """In the order of the judges; the control is grey."""
    real = [name for name in names if name != CONTROL]
    return {name: Look(*_colour(name, real), _place(name, real)) for name in names}


def _colour(name: str, names: Sequence[str]) -> tuple[str, int]:
    if name not in names:
        return GREY, 0
    again, at = divmod(names.index(name), len(CYCLE))
    return CYCLE[at], again


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) % len(SYMBOLS) if name in names else len(SYMBOLS) - 1
