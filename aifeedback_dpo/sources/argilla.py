"""Argilla's exports: a JSON of records with `fields` and `responses`, or a dataset with columns `<question>.responses`.

Each submitted response is a vote of its user; drafts and discarded ones are none. The values are the names of the two
pictures' fields, or a word for a tie.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aifeedback_dpo.sources import columns, documents, labels, tables
from aifeedback_dpo.sources.comparison import Asked, Comparison, Item, Opened, Row, Unusable, Vote
from aifeedback_dpo.sources.labels import NotALabel
from aifeedback_dpo.sources.pairs import PROMPTS, SIDES, WORDS, both
from aifeedback_dpo.sources.pictures import Shelf, picture

WANTS = "records of fields (prompt, image_1, image_2) and responses; or columns prompt, image_1, image_2, <question>.responses"
TAKES = ("split", "config", "images", "dimension")
RESPONSES = ".responses"


def opened(asked: Asked) -> Opened:
    """The set: a .json file, or what `datasets` loads."""
    if Path(asked.path).suffix.lower() == ".json":
        return documents.opened(asked, lambda keys, lie: _records(keys, lie, asked), wants=WANTS)
    return tables.opened(asked, lambda found: of_columns(found, asked))


def _records(keys: list[str], lie: Shelf, asked: Asked) -> Callable[[Row], Iterator[Item]]:
    columns.need(("fields", "responses"), keys, asked, WANTS)

    def read(row: Row) -> Iterator[Item]:
        fields, responses = row.get("fields"), row.get("responses")
        sides = both(SIDES, fields) if isinstance(fields, Mapping) else None
        prompt = columns.first_of(PROMPTS, fields) if isinstance(fields, Mapping) else None
        if not isinstance(fields, Mapping) or not sides or not prompt:
            yield Unusable("record", "no prompt and two pictures among its fields")
            return
        questions = list(responses) if isinstance(responses, Mapping) else []
        if (len(questions) > 1 or asked.dimension) and asked.dimension not in questions:
            yield Unusable("record", f"questions {', '.join(questions)}; --dimension picks one")
            return
        told = responses[asked.dimension or questions[0]] if isinstance(responses, Mapping) and questions else []
        said = [
            (answer.get("value"), labels.text(answer.get("user_id") or ""), answer.get("status") or "submitted")
            for answer in labels.listed(told or [])
            if isinstance(answer, Mapping)
        ]
        yield from _comparison(fields[prompt], [picture(fields[side], lie) for side in sides], sides, said)

    return read


def of_columns(found: dict[str, str], asked: Asked) -> Callable[[Row], Iterator[Item]]:
    """What makes a row of a dataset with responses into comparisons."""
    questions = [name.removesuffix(RESPONSES) for name in found if name.endswith(RESPONSES)]
    sides, prompt = both(SIDES, found), columns.first_of(PROMPTS, found)
    question = asked.dimension or (questions[0] if len(questions) == 1 else "")
    if not sides or not prompt or question not in questions:
        several = len(questions) > 1 and question not in questions
        why = (
            f"has several questions, pick one by --dimension: {', '.join(questions)}"
            if several
            else "is no Argilla export"
        )
        raise columns.refused(why, found, asked, WANTS)

    def read(row: Row) -> Iterator[Item]:
        values = row[f"{question}{RESPONSES}"] or []
        users = row.get(f"{question}{RESPONSES}.users") or [""] * len(values)
        states = row.get(f"{question}{RESPONSES}.status") or ["submitted"] * len(values)
        if not len(values) == len(users) == len(states):
            yield Unusable("record", "not as many users as responses")
            return
        said = [(value, labels.text(user), state) for value, user, state in zip(values, users, states, strict=True)]
        yield from _comparison(row[prompt], [picture(row[side]) for side in sides], sides, said)

    return read


def _comparison(
    prompt: Any, pictures: Sequence[Any], sides: tuple[str, str], said: Sequence[tuple[Any, str, str]]
) -> Iterator[Item]:
    words = {**WORDS, sides[0]: 1.0, sides[1]: 0.0}
    try:
        votes = tuple(
            Vote(labels.worded(value, words), who)
            for value, who, state in said
            if state == "submitted" and not labels.missing(value)
        )
    except NotALabel as error:
        yield Unusable("label", str(error))
        return
    values = sorted({labels.text(value) for value, _, state in said if state == "submitted"})
    yield Comparison(prompt, pictures[0], pictures[1], votes, " and ".join(values) or "no label")
