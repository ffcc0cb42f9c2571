"""How people agree, with each other and with themselves, and whether they look: numbers, and a page of them.

A finding names the rule that it follows. It is a reason to look, not a verdict.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aifeedback_dpo.annotate.agreement import Alpha, Share, alpha, share
from aifeedback_dpo.annotate.ballots import P_A
from aifeedback_dpo.annotate.journal import Journal, Showing
from aifeedback_dpo.store import Run

FAILED_AT_LEAST, FAILED_SHARE = 2, 0.2
SIDED = (0.4, 0.6)
HASTY_SECONDS, HASTY_FROM = 1.0, 10
REPEATS_FROM, STEADY = 10, 0.5
RULES = (
    f"attention: {FAILED_AT_LEAST} or more spoiled pictures preferred or tied, and more than {FAILED_SHARE:.0%} of those shown",
    f"side: the whole interval of the share of left outside {SIDED[0]:.0%} to {SIDED[1]:.0%}",
    f"haste: a median under {HASTY_SECONDS:g} s, of {HASTY_FROM} answers or more",
    f"repeats: of {REPEATS_FROM} or more, at most {STEADY:.0%} answered alike",
)


@dataclass(frozen=True)
class Voter:
    """One person's answers that stand. `alike` and `passed` are None where nothing was shown that tells."""

    name: str
    votes: int
    ties: int
    both_bad: int
    skipped: int
    undone: int
    left: Share | None  # of the decided votes and repeats
    seconds: float | None  # median
    alike: Share | None  # of the repeats
    passed: Share | None  # of the attention pairs
    findings: list[str]


@dataclass(frozen=True)
class Report:
    """A study so far."""

    study: dict[str, Any]
    votes: int
    pairs: int
    by_votes: dict[int, int]  # how many pairs have so many votes
    agreement: Alpha
    voters: list[Voter]
    rules: Sequence[str] = RULES


def measure(journal: Journal) -> Report:
    """Everything from the journal as it is now."""
    showings = journal.showings()
    standing = [showing for showing in showings if showing.counts]
    cast = [showing for showing in standing if showing.kind == "vote" and showing.answer in P_A]
    by_pair: dict[str, dict[str, float]] = defaultdict(dict)
    for showing in cast:
        by_pair[showing.pair_id].setdefault(showing.annotator, P_A[str(showing.answer)])
    undone = Counter(showing.annotator for showing in showings if showing.undone)
    voters = [
        voter(name, [showing for showing in standing if showing.annotator == name], undone[name])
        for name in journal.annotators()
    ]
    by_votes = Counter(len(said) for said in by_pair.values())
    return Report(
        journal.study() or {}, len(cast), len(by_pair), dict(sorted(by_votes.items())), alpha(by_pair), voters
    )


def voter(name: str, standing: Sequence[Showing], undone: int) -> Voter:
    """One person's line, from their answers that stand."""
    kinds: dict[str, list[Showing]] = defaultdict(list)
    for showing in standing:
        kinds[showing.kind].append(showing)
    said = Counter(showing.answer for showing in kinds["vote"])
    decided = [showing for showing in standing if showing.kind != "attention" and showing.answer in ("a", "b")]
    left = share(sum(showing.answer == showing.left_is for showing in decided), len(decided))
    times = [showing.milliseconds / 1000 for showing in standing if showing.milliseconds is not None]
    first = {showing.pair_id: P_A.get(str(showing.answer)) for showing in kinds["vote"]}
    pairs = [(first.get(again.pair_id), P_A.get(str(again.answer))) for again in kinds["repeat"]]
    both = [(once, twice) for once, twice in pairs if once is not None and twice is not None]
    alike = share(sum(once == twice for once, twice in both), len(both))
    shown = [showing.answer for showing in kinds["attention"] if showing.answer != "skip"]
    passed = share(shown.count("a"), len(shown))
    seconds = median(times) if times else None
    found = findings(left, seconds, len(times), alike, passed)
    votes = sum(said[answer] for answer in ("a", "b", "tie", "both_bad"))
    return Voter(name, votes, said["tie"], said["both_bad"], said["skip"], undone, left, seconds, alike, passed, found)


def findings(
    left: Share | None, seconds: float | None, answers: int, alike: Share | None, passed: Share | None
) -> list[str]:
    """What speaks for answers that were given without looking, each by its rule."""
    found = []
    if passed and (failed := passed.of - passed.count) >= FAILED_AT_LEAST and failed > FAILED_SHARE * passed.of:
        found.append(f"attention: {failed} of {passed.of} spoiled pictures not told apart")
    if left and (left.low > SIDED[1] or left.high < SIDED[0]):
        found.append(f"side: left in {left.count} of {left.of} decided answers")
    if seconds is not None and answers >= HASTY_FROM and seconds < HASTY_SECONDS:
        found.append(f"haste: a median of {seconds:.1f} s")
    if alike and alike.of >= REPEATS_FROM and alike.count <= STEADY * alike.of:
        found.append(f"repeats: {alike.count} of {alike.of} answered alike")
    return found


def lines(report: Report) -> list[str]:
    """The report as text."""
    spread = ", ".join(f"{pairs} with {votes}" for votes, pairs in report.by_votes.items())
    said = [f"{report.votes} votes on {report.pairs} pairs" + (f" ({spread})" if spread else "")]
    said.append(f"agreement between people: {report.agreement}")
    for found in report.voters:
        speed = "" if found.seconds is None else f", {found.seconds:.1f} s each"
        said.append(
            f"{found.name}: {found.votes} votes ({found.ties} ties, {found.both_bad} both bad), {found.skipped} skipped{speed}"
        )
        told = {"left of decided": found.left, "repeats alike": found.alike, "attention passed": found.passed}
        said.extend(f"  {what}: {value}" for what, value in told.items() if value)
        said.extend(f"  look at {finding}" for finding in found.findings)
    return said


def write(run: Run, report: Report) -> Path:
    """The page `annotate/report.html`, which opens from disk without a network."""
    templates = Environment(loader=PackageLoader("aifeedback_dpo.annotate"), autoescape=True, undefined=StrictUndefined)
    path = run.root / "annotate" / "report.html"
    text = templates.get_template("report.html").render(report=report, run=run.recipe.name, **asdict(report))
    run.write_text(path, text)
    return path
