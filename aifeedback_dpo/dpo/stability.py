"""Whether a policy in training is well: what its metrics say of winners that get worse, spikes, and what is not finite."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from aifeedback_dpo.settings.training import Train

WINDOW = 50
WARN = 0.02
OVERFLOWS = 20
"""Steps in a row. float16's scaler begins at 2^16 and halves: were any gradient to fit, it would have by then."""


class Watch:
    """The last WINDOW steps of a policy."""

    def __init__(self, settings: Train, seen: Sequence[dict[str, Any]] = ()) -> None:
        self.guard, self.objective, self.precision = settings.guard, settings.objective, settings.precision
        self.rows: deque[dict[str, Any]] = deque(seen, WINDOW)

    def broken(self, row: dict[str, Any]) -> str | None:
        """Why this step ends it as a failure: a loss or a gradient that is no number, or winners that are denoised far worse.

        The measure is the reference's error on the same draws; without a reference, the worst error of the last steps.
        """
        numbers = ["loss", "winner_error", "loser_error", *([] if self.precision == "float16" else ["gradient_norm"])]
        for name in numbers:  # of the norm, float16's scaler expects that it overflows
            if not math.isfinite(row[name]):
                return f"the {name.replace('_', ' ')} is {row[name]}"
        last = [*self.rows, row][-OVERFLOWS:]
        if len(last) == OVERFLOWS and not any(math.isfinite(each["gradient_norm"]) for each in last):
            return f"the gradient norm is {row['gradient_norm']}, as in the {OVERFLOWS} steps up to here: nothing was learnt"
        error = row["winner_error"]
        usual = error - row["winner_drift"] if "winner_drift" in row else self._worst()
        if self.guard.spike and usual and error > self.guard.spike * usual:
            return f"the error on winners, {error:.3g}, is {error / usual:.1f} times the usual {usual:.3g}"
        return None

    def see(self, row: dict[str, Any]) -> str | None:
        """Takes a good step up, and says why training should end early, if it should."""
        self.rows.append(row)
        limit, drift = self.guard.winner_drift, self.drift()
        if limit is None or drift is None or len(self.rows) < WINDOW or drift <= limit:
            return None
        return (
            f"the error on winners rose {100 * drift:.1f} % above the reference's over the last {len(self.rows)} steps"
        )

    def drift(self) -> float | None:
        """By which share the winners' error lies above the reference's over the window; None without a reference."""
        tail = [row for row in self.rows if "winner_drift" in row]
        if not tail:
            return None
        risen = sum(row["winner_drift"] for row in tail)
        return risen / max(sum(row["winner_error"] for row in tail) - risen, 1e-12)

    def warning(self) -> str | None:
        """What to say at the end of a policy that denoises winners worse than the reference did by more than 2 %."""
        drift = self.drift()
        if drift is None or drift <= WARN:
            return None
        return (
            f"the error on winners rose {100 * drift:.1f} % above the reference's over the last {len(self.rows)} steps; the "
            "policy learns by running from losers. Try a larger train.beta, a smaller train.learning_rate, fewer train.steps "
            "or train.safeguard=0.9"
        )

    def remedy(self) -> str:
        """What to try where a policy was stopped."""
        beta = "" if self.objective == "sft" else " or a larger train.beta"
        lower = {"float16": ", or train.precision=bfloat16", "bfloat16": ", or train.precision=float32"}
        return f"Try a smaller train.learning_rate{beta}{lower.get(self.precision, '')}, with train.name=NAME to keep it beside"

    def _worst(self) -> float:
        return max((row["winner_error"] for row in self.rows), default=0.0) if len(self.rows) == WINDOW else 0.0
