"""One set on its way into a run."""

from dataclasses import dataclass
from typing import Any

from aifeedback_dpo.sources import Opened


@dataclass(frozen=True)
class Import:
    """One set on its way into a run. `about` is what its rows follow from; `key` names it in the run."""

    source: str
    key: str
    opened: Opened
    about: dict[str, Any]
    limit: int | None
    ties: bool
    unlabelled: bool

    @property
    def total(self) -> int | None:
        """How many rows there are to read, where that is known."""
        if self.limit is None or self.opened.total is None:
            return self.opened.total if self.limit is None else self.limit
        return min(self.limit, self.opened.total)
