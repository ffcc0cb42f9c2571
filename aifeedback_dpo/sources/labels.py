"""The conventions by which public sets say who won, each to P(first preferred). A value outside its convention is refused.

Labels come as float64 (0, 0.5, 1), int64, text ("1.0"), one-hot lists, ranks (lower is better), soft weights, words, or in the
order of the columns. None and NaN say that nobody has judged.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

MANY = 2**31
TIES = ("tie", "ties", "tied", "draw", "equal", "same", "both", "both_good", "both_bad", "neither")


class NotALabel(Exception):
    """A value that its convention does not know."""


def text(value: Any) -> str:
    """As it was in the set, without the bytes in which WebDataset keeps it; half a surrogate pair of JSON is `?`."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    return str(value).encode(errors="replace").decode().strip()


def missing(value: Any) -> bool:
    """Whether nobody has said anything."""
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, bytes):  # WebDataset's text of what was no text
        return text(value).lower() in ("", "none", "nan", "null")
    return value is None or (isinstance(value, str) and not value.strip())


def flag(value: Any) -> bool:
    """A yes or no, be it bool, int or text. Raises NotALabel."""
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if (said := text(value).lower()) not in known:
        raise NotALabel(f"{value!r} is neither true nor false")
    return known[said]


def number(value: Any) -> float:
    """A finite number, be it int, float or text. Raises NotALabel."""
    try:
        found = float(text(value) if isinstance(value, bytes | str) else value)
    except (TypeError, ValueError, OverflowError) as error:  # the last for an integer beyond any float
        raise NotALabel(f"{value!r:.60} is no number") from error
    if not math.isfinite(found):
        raise NotALabel(f"{value!r} is no number")
    return found


def complementary(first: Any, second: Any = None) -> float:
    """Pick-a-Pic: 1 for the preferred picture, 0 for the other, 0.5 for both in a tie."""
    one = number(first)
    if one not in (0.0, 0.5, 1.0):
        raise NotALabel(f"{text(first)} is none of 0, 0.5, 1")
    if second is not None and one + number(second) != 1:
        raise NotALabel(f"{text(first)} and {text(second)} do not sum to 1")
    return one


def one_hot(values: Sequence[Any]) -> float:
    """HPDv2: 1 for the preferred of two pictures, 0 for the other."""
    found = [number(value) for value in values]
    if sorted(found) != [0.0, 1.0]:
        raise NotALabel(f"{found} is not one 1 and one 0")
    return found[0]


def ranked(first: Any, second: Any) -> float:
    """A lower rank is better, and equal ranks are a tie."""
    one, other = number(first), number(second)
    return 0.5 if one == other else float(one < other)


def weighed(first: Any, second: Any) -> float:
    """Soft weights, or counts of votes, of the two pictures: the share of the first."""
    one, other = number(first), number(second)
    if one < 0 or other < 0 or one + other == 0:
        raise NotALabel(f"weights {one:g} and {other:g} are not a share of anything")
    return one / (one + other)


def people(value: Any) -> int | None:
    """How many a vote stands for; None where nobody knows. Raises NotALabel for what counts no people."""
    if missing(value):
        return None
    count = number(value)
    if count != int(count) or not 1 <= count < MANY:
        raise NotALabel(f"{text(value)} votes are no number of people")
    return int(count)


def sure(value: Any) -> float:
    """P(chosen preferred), which a chosen picture has above 1/2; 1 where nobody says. Raises NotALabel."""
    if missing(value):
        return 1.0
    p_chosen = share(value)
    if p_chosen <= 0.5:
        raise NotALabel(f"p_chosen {p_chosen:g} does not prefer the chosen picture")
    return p_chosen


def prompt(value: Any) -> str:
    """A prompt with its whitespace made one space; empty where there is none. Raises NotALabel for what is no text."""
    if missing(value):
        return ""
    if not isinstance(value, bytes | str):
        raise NotALabel(f"a {type(value).__name__} is no text")
    return " ".join(text(value).split())


def plain(value: Any) -> str:
    """A value as one would type it: 1 for 1.0 and "1.0", true for True, left for "Left"."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return f"{number(value):g}"
    except NotALabel:
        return text(value).lower()


def told(p_first: float) -> str:
    """A vote in words, for a histogram."""
    return "equal" if p_first == 0.5 else "first better" if p_first > 0.5 else "second better"


def share(value: Any) -> float:
    """A probability as it is. Raises NotALabel outside [0, 1]."""
    found = number(value)
    if not 0 <= found <= 1:
        raise NotALabel(f"{found:g} is outside [0, 1]")
    return found


def worded(value: Any, words: Mapping[str, float]) -> float:
    """A word, or a value that the user has explained."""
    said = text(value).lower()
    if said in words:
        return words[said]
    if said in TIES:
        return 0.5
    raise NotALabel(f"'{text(value)}' is none of {', '.join([*words, 'tie'])}")


def listed(value: Any) -> list[Any]:
    """A list, or the JSON of one. Raises NotALabel."""
    found = value
    if isinstance(value, bytes | str):
        try:
            found = json.loads(text(value))
        except (ValueError, RecursionError) as error:
            raise NotALabel(f"{text(value)[:40]!r} is no list") from error
    if not isinstance(found, Sequence) or isinstance(found, bytes | str):
        raise NotALabel(f"{str(value)[:40]!r} is no list")
    return list(found)
