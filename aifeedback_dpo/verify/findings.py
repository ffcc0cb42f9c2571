"""What a check finds: faults, each with its file and the next step; notes, which are no faults; and what was looked at."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aifeedback_dpo.verify.whole import BROKEN


@dataclass(frozen=True)
class Fault:
    """Something that is broken: of which kind, where, what is wrong, and what to do then."""

    kind: str
    path: Path
    what: str
    then: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}. {self.then}"


@dataclass
class Findings:
    """All of them, in the order in which they were found."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, path: Path, what: str, then: str) -> None:
        """Adds one."""
        self.faults.append(Fault(kind, path, what, then))

    def look(self, kind: str, path: Path, then: str, whole: Callable[[Path], object]) -> bool:
        """Whether a file is whole; a fault is added for one that is not."""
        try:
            whole(path)
        except BROKEN as error:
            said = (str(error).splitlines() or [type(error).__name__])[0][:120]
            self.fault(kind, path, f"is corrupted ({said})", then)
            return False
        return True

    def note(self, text: str) -> None:
        """Adds one."""
        self.notes.append(text)
