"""Stage 1b: a public set of human preferences to pictures, pairs and votes; the counterpart of `generate`.

A set is read in slices. Each commits its pictures, prompts, pairs and votes, and last its ledger, a JSON that says what was
counted and where reading goes on; a stop loses one slice at most, and what a slice left before its ledger is taken back.
Which picture is `a` is a seeded draw, so a set that always has its winners first teaches nobody where to look.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from aifeedback_dpo import config, engine, votes
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.importing import commits, slices
from aifeedback_dpo.importing.known import known
from aifeedback_dpo.importing.plan import Import
from aifeedback_dpo.importing.slices import Slice
from aifeedback_dpo.importing.tally import Tally
from aifeedback_dpo.sources import Asked, State, source
from aifeedback_dpo.sources.comparison import OPTIONS
from aifeedback_dpo.sources.pictures import there
from aifeedback_dpo.store import Run


@dataclass(frozen=True)
class Ledger:
    """What the slices so far have counted, how many rows they were, and how reading goes on."""

    tally: Tally
    rows: int = 0
    state: State | None = None


def prepare(
    run: Run, name: str, asked: Asked, *, limit: int | None = None, ties: bool = True, unlabelled: bool = False
) -> Import:
    """The set, opened. Raises UserError for one that is not of that source, or whose import began otherwise."""
    form = source(name)
    for option, flag in OPTIONS.items():
        if getattr(asked, option) and option not in form.TAKES:
            takes = ", ".join(OPTIONS[known] for known in form.TAKES) or "none of these options"
            raise UserError(f"{flag} means nothing to source {name}, which takes {takes}; leave it out")
    opened = form.opened(asked)
    about = {
        "source": name,
        "dataset": opened.name,
        "split": opened.split,
        "config": asked.config,
        "path": str(Path(asked.path).expanduser().resolve()) if there(Path(asked.path).expanduser()) else asked.path,
        "content": opened.identity,
        "licence": opened.licence,
        "dreamlike_only": asked.dreamlike_only,
        "dimension": asked.dimension,
        "labels": dict(asked.meanings),
        "skip_ties": not ties,
        "unlabelled": unlabelled,
    }
    return Import(name, _key(run, about), opened, about, limit, ties, unlabelled)


def _key(run: Run, about: dict[str, Any]) -> str:
    """What an import is called in the run: the set's name and split, and a number where another set has that name.

    A set that was moved is the same. Raises UserError for one that began otherwise, or whose files changed.
    """
    name = "-".join(_tidy(str(about[part])) for part in ("source", "dataset", "split"))
    for number in count(1):
        key = name if number == 1 else f"{name}-{number}"
        path = run.imports(key) / "about.json"
        if not path.exists():
            return key
        began = _read_json(path)
        clash = config.different({**began, "path": ""}, {**about, "path": ""})
        if not clash:
            return key
        if began.get("path") == about["path"] and "config" not in clash:
            words = {"content": "its files changed"}
            listed = "; ".join(
                words.get(key) or f"{key}: {old!r} then, {new!r} now" for key, (old, new) in clash.items()
            )
            raise UserError(
                f"the import of {about['path']} into {run.root} began otherwise ({listed}). Take another --run"
            )
    raise AssertionError


def survey(asked: Import, rows: int | None) -> Tally:
    """What the first rows hold (all of them for None), with nothing written."""
    limits = [limit for limit in (rows, asked.limit) if limit is not None]
    tally = Tally()
    for part in slices.cut(asked.opened, start=0, state=None, limit=min(limits) if limits else None):
        tally.add(_counted(part, asked))
    return tally


def _counted(part: Slice, asked: Import) -> Tally:
    looked = slices.look(part, ties=asked.ties)
    for one in looked.usable:
        looked.tally.judge(one.comparison)
    return looked.tally


def check(asked: Import, looked: Tally) -> None:
    """Raises UserError where nothing of what was looked at can be used, and nothing would come of an import."""
    if looked.usable or (asked.unlabelled and looked.unlabelled):
        return
    if not looked.comparisons:
        raise UserError(f"{asked.opened.name}, split {asked.opened.split}, has no rows")
    worst = sorted(looked.unusable.items(), key=lambda counted: -counted[1])
    why = [f"{reason} ({times}; first: {looked.examples[reason]})" for reason, times in worst[:3]]
    if looked.unlabelled:
        why.append(f"unlabelled ({looked.unlabelled}; --keep-unlabelled takes them, --survey 0 looks further)")
    why += [f"{reason} ({times})" for reason, times in looked.left_out.items()]
    raise UserError(f"none of the first {looked.rows} rows of {asked.opened.name} can be used: {'; '.join(why)}")


def so_far(run: Run, asked: Import) -> Ledger:
    """What an import that was stopped, or is finished, has read. Raises DataError for a ledger that cannot be read."""
    tally, rows, state = Tally(), 0, None
    for path in _ledgers(run, asked):
        kept = _read_json(path)
        try:
            tally.add(Tally(**kept["tally"]))
            rows, state = kept["end"], kept["state"]
        except (TypeError, KeyError) as error:
            raise DataError(f"{path} is corrupted; delete {path.parent} and import into another --run") from error
    return Ledger(tally, rows, state)


def take(run: Run, asked: Import, progress: engine.Progress) -> Tally:
    """Imports what is left of the set, and settles the votes. Raises UserError for a recipe whose people are simulated."""
    votes.need_people(run)
    facts = {key: value for key, value in asked.about.items() if key != "path"}
    with run.alone("ddpo import"):
        begun = so_far(run, asked)
        tally = begun.tally
        commits.take_back(run)
        run.record(f"import/{asked.key}", "running", **facts)
        run.write_text(run.imports(asked.key) / "about.json", json.dumps(asked.about, indent=2) + "\n")
        with known(run) as held, progress.task(f"Importing {asked.opened.name}", asked.total, begun.rows) as bar:
            for part in slices.cut(asked.opened, start=begun.rows, state=begun.state, limit=asked.limit):
                looked = slices.look(part, held, ties=asked.ties)
                commits.commit(run, asked, part, looked, held)
                tally.add(looked.tally)
                bar.advance(part.end - part.start)
        _list_refused(run, asked)
        if run.parts("votes"):
            votes.settle(run)
        counts = {name: getattr(tally, name) for name in ("rows", "pairs", "images", "prompts", "votes", "ties")}
        run.record(f"import/{asked.key}", "done", **facts, **counts, unusable=sum(tally.unusable.values()))
    return tally


def refused_file(run: Run, asked: Import) -> Path:
    """The list of what could not be used: a JSON object a line, with where, reason and detail."""
    return run.imports(asked.key) / "refused.jsonl"


def _ledgers(run: Run, asked: Import) -> Iterator[Path]:
    return iter(sorted(run.imports(asked.key).glob("rows-*.json")))


def _list_refused(run: Run, asked: Import) -> None:
    """All slices' lists as one file."""

    def fill(file: Any) -> None:
        for path in _ledgers(run, asked):
            for row in json.loads(path.read_text())["refused"]:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode(errors="replace"))

    run.write(refused_file(run, asked), fill)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is corrupted; delete {path.parent} and import into another --run") from error


def _tidy(name: str) -> str:
    """A name as a part of a file's."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name)[:60]
