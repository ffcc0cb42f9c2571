"""Numbers as the page says them: shares in percent, an interval in brackets, a dash where there is none; and a small drawing.

Est is an estimate as the result has it: {"value", "low", "high", "prompts"}, None where it is undefined.
"""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from aifeedback_dpo.compare.bootstrap import clear_of

Est = Mapping[str, Any] | None
UNDEFINED = "–"
SPACE = "\u00a0"
MINUS = "\u2212"


def percent(found: Est | float) -> str:
    """A share as `57 %`."""
    value = _value(found)
    return UNDEFINED if value is None else f"{_whole(100 * value)}{SPACE}%"


def number(found: Est | float, *, signed: bool = False) -> str:
    """To three digits, with a real minus."""
    value = _value(found)
    if value is None:
        return UNDEFINED
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        text = f"{size:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e-", f"e{MINUS}")
    else:
        text = f"{size:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    sign = MINUS if value < 0 else "+" if signed else ""
    return f"{sign}{text}"


def shares(found: Est) -> str:
    """The interval of a share, as `[52, 61]`; nothing where there is none."""
    return _brackets(found, lambda value: f"{_whole(100 * value)}")


def bounds(found: Est, *, signed: bool = False) -> str:
    """The interval of any other number."""
    return _brackets(found, lambda value: number(value, signed=signed))


def p_value(value: float | None) -> str:
    """Three decimals, and no zero that is none."""
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def heat(found: Est, level: float, far: float) -> str:
    """The class of a cell: on which side of a level the whole interval lies, and whether it is `far` from it."""
    side = clear_of(found, level)
    if not side:
        return "even"
    edge = (found or {})["low" if side > 0 else "high"]
    return f"{'up' if side > 0 else 'down'}{' strong' if abs(edge - level) > far else ''}"


def mark(found: Est, level: float) -> str:
    """The same for those who see no colour."""
    return {1: "▲", -1: "▼", 0: ""}[clear_of(found, level)]


def whisker(found: Est, low: float, high: float, level: float | None) -> Markup:
    """An interval on a scale from `low` to `high`, with a line at a level. Says nothing that is not written beside it."""
    parts = []
    if level is not None:
        parts.append(f'<path class="level" d="M{_at(level, low, high)} 0v10"/>')
    if found and found["value"] is not None:
        if found["low"] is not None and found["high"] is not None:
            parts.append(f'<path class="bar" d="M{_at(found["low"], low, high)} 5H{_at(found["high"], low, high)}"/>')
        parts.append(f'<path class="dot" d="M{_at(found["value"], low, high)} 5h0"/>')
    return Markup(  # noqa: S704 - numbers only
        '<svg class="whisker" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


def _at(value: float, low: float, high: float) -> str:
    place = 50.0 if high <= low else 100 * (value - low) / (high - low)
    return f"{min(max(place, 1.5), 98.5):.4g}"


def _value(found: Est | float) -> float | None:
    if found is None or isinstance(found, float | int):
        return found
    value: float | None = found["value"]
    return value


def _brackets(found: Est, show: Any) -> str:
    low, high = ((found or {}).get(key) for key in ("low", "high"))
    return "" if low is None or high is None else f"[{show(low)}, {show(high)}]"


def _whole(value: float) -> str:
    return f"{value:.0f}".replace("-0", "0") if abs(value) < 0.5 else f"{value:.0f}".replace("-", MINUS)
