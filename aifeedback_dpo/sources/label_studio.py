"""Label Studio's JSON export of a Pairwise or Choices task on two pictures. Each annotation is a vote of who made it.

`left` is the first of the task's two pictures: image_a, image_0, image_1, image1, left, whichever pair of names is there.
Skipped annotations are no votes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aifeedback_dpo.sources import columns, documents, labels
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pairs import PROMPTS, SIDES, WORDS, both
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "tasks of data (prompt, image_a, image_b) and annotations"
TAKES = ("images", "dimension")
LOCAL = "/data/local-files/?d="


def opened(asked: Asked) -> Opened:
    """The tasks in this file."""

    def reader(keys: list[str], lie: Shelf) -> Callable[[Row], Iterator[Item]]:
        columns.need(("data", "annotations"), keys, asked, WANTS)
        return lambda row: _read(row, lie, asked.dimension)

    return documents.opened(asked, reader, wants=WANTS)


def _read(task: Row, lie: Shelf, question: str | None) -> Iterator[Item]:
    data = task.get("data")
    sides = both(SIDES, data) if isinstance(data, Mapping) else None
    prompt = columns.first_of(PROMPTS, data) if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not sides or not prompt:
        keys = ", ".join(data) if isinstance(data, Mapping) else "none"
        yield Unusable("task", f"no prompt and two pictures in its data: {keys}")
        return
    try:
        words = {**WORDS, sides[0]: 1.0, sides[1]: 0.0}
        votes = tuple(_votes(labels.listed(task.get("annotations") or []), words, question))
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    first, second = (picture(_path(data[side]), lie, model=data.get(f"{side}_model") or "") for side in sides)
    sums = {"left": sum(vote.p_first > 0.5 for vote in votes), "right": sum(vote.p_first < 0.5 for vote in votes)}
    sums["tie"] = len(votes) - sum(sums.values())
    said = " and ".join(word for word, count in sums.items() if count) or "no label"
    yield Comparison(data[prompt], first, second, votes, said)


def _votes(annotations: list[Any], words: Mapping[str, float], question: str | None) -> Iterator[Vote]:
    for annotation in annotations:
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled") or not annotation.get("result"):
            continue
        who = annotation.get("completed_by")
        name = who.get("email") or who.get("id") if isinstance(who, Mapping) else who
        lead = annotation.get("lead_time")
        seconds = None if labels.missing(lead) else labels.number(lead)
        exact = annotation.get("meta")  # as `ddpo export label-studio` keeps what a click cannot say
        exact = exact if isinstance(exact, Mapping) else {}
        name = exact.get("annotator") if name is None else name
        chosen = _choice(labels.listed(annotation["result"]), words, question)
        p_first = labels.share(exact["p_a"]) if "p_a" in exact else chosen
        yield Vote(p_first, labels.text("" if name is None else name), labels.people(exact.get("votes", 1)), seconds)


def _choice(result: list[Any], words: Mapping[str, float], question: str | None) -> float:
    """What was clicked. Raises NotALabel for an annotation with none, with two, or of several questions."""
    clicked: dict[str, list[Any]] = {}
    for entry in result:
        value = entry.get("value") if isinstance(entry, Mapping) else None
        if isinstance(value, Mapping) and (found := value.get("selected") or value.get("choices")):
            of = labels.text(entry.get("from_name") or "")
            clicked.setdefault(of, []).extend([found] if isinstance(found, str) else labels.listed(found))
    asked = [question] if question else list(clicked)
    if len(asked) > 1:
        raise NotALabel(f"several questions, {', '.join(asked)}; pick one by --dimension")
    said = {labels.worded(word, words) for of in asked for word in clicked.get(of, [])}
    if len(said) != 1:
        raise NotALabel("an annotation without a choice" if not said else "an annotation with several choices")
    return said.pop()


def _path(cell: Any) -> Any:
    """A picture's path beside the file, out of the address at which Label Studio serves local files."""
    return cell.split(LOCAL, 1)[1] if isinstance(cell, str) and LOCAL in cell else cell
