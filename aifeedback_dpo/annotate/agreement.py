"""Agreement between people, and shares, each with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass

RESAMPLES = 2000
ENOUGH_FOR_INTERVAL = 5


@dataclass(frozen=True)
class Share:
    """A count of so many, with Wilson's 95 % interval."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of

    def __str__(self) -> str:
        return f"{self.count} of {self.of}, {self.value:.0%} ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha over pairs that several people judged, or why there is none; 1 is full agreement, 0 is chance."""

    pairs: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why_not: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"not measured: {self.why_not}"
        bounds = f" ({self.low:.2f} to {self.high:.2f})" if self.low is not None and self.high is not None else ""
        return f"alpha {self.value:.2f}{bounds} on {self.pairs} pairs" + (f"; {self.why_not}" if self.why_not else "")


def share(count: int, of: int) -> Share | None:
    """A share with its interval; None of nothing."""
    from scipy.stats import binomtest

    if not of:
        return None
    interval = binomtest(count, of).proportion_ci(0.95, "wilson")
    return Share(count, of, float(interval.low), float(interval.high))


def alpha(said: Mapping[str, Mapping[str, float]], seed: int = 0) -> Alpha:
    """Nominal alpha of pair -> person -> p_a, with Krippendorff's bootstrap of 2006 where there are pairs enough.

    a, b and a tie are its three values; 'both bad' is a tie.
    """
    import evalica
    import pandas as pd  # type: ignore[import-untyped]

    shared = {pair_id: by for pair_id, by in said.items() if len(by) > 1}
    if not shared:
        return Alpha(0, why_not="no pair has the votes of two people")
    if len({p_a for by in shared.values() for p_a in by.values()}) == 1:
        return Alpha(
            len(shared), why_not=f"all said the same on {len(shared)} pairs, which leaves nothing to compare with"
        )
    ratings = pd.DataFrame(shared)  # people are rows, pairs are columns
    value = float(evalica.alpha(ratings, "nominal").alpha)
    if len(shared) < ENOUGH_FOR_INTERVAL:
        return Alpha(len(shared), value, why_not="too few pairs for an interval")
    found = evalica.alpha_bootstrap(ratings, "nominal", n_resamples=RESAMPLES, random_state=seed)
    return Alpha(len(shared), value, float(found.low), float(found.high))
