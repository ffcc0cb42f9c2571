"""From the journal to the run: the table `votes`, and the preferences of judge `human` that all its votes make."""

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

from aifeedback_dpo import votes
from aifeedback_dpo.annotate.journal import Journal, Showing
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.store import Run

SOURCE = "annotate"
P_A = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}  # what was skipped is no vote
EVERY = 60.0  # seconds


def rows(showings: Iterable[Showing], pairs: Collection[str]) -> list[dict[str, Any]]:
    """One row of `votes` for each person and pair: the first answer that stands. Repeats and attention pairs are none."""
    first: dict[tuple[str, str], Showing] = {}
    standing = [showing for showing in showings if showing.kind == "vote" and showing.counts and showing.answer in P_A]
    for showing in sorted(standing, key=lambda showing: showing.answer_id or 0):
        if showing.pair_id in pairs:
            first.setdefault((showing.pair_id, showing.annotator), showing)
    return [
        {
            "pair_id": pair_id,
            "annotator": annotator,
            "p_a": P_A[str(showing.answer)],
            "votes": 1,
            "seconds": None if showing.milliseconds is None else showing.milliseconds / 1000,
            "source": SOURCE,
            "where": f"annotate, answer {showing.answer_id}",
        }
        for (pair_id, annotator), showing in sorted(first.items())
    ]


def export(run: Run, journal: Journal) -> int:
    """Writes what the journal says now, whole, so that doing it again changes nothing; and says how many votes."""
    found = rows(journal.showings(), run.done("pairs"))
    if found or run.parts("votes", SOURCE):
        run.commit("votes", found, "current", SOURCE)
        votes.settle(run)
    return len(found)


class Exporter:
    """Exports once a minute beside the voting, while there is something new. What fails is said, and tried again."""

    def __init__(self, run: Run, journal: Journal, changed: Callable[[], object], say: Callable[[str], None]) -> None:
        self._run, self._path, self._changed, self._say = run, journal.path, changed, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="export of votes", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, when an export under way is done."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        seen = self._changed()
        while not self._stop.wait(EVERY):
            if (now := self._changed()) != seen:
                try:
                    reader = Journal(self._path)  # its own connection, which sees what is committed and nothing else
                    export(self._run, reader)
                    reader.close()
                    seen = now
                except DdpoError as error:
                    self._say(f"votes are safe in {self._path}, but not in the run yet: {error}")
