"""From the journal to the run's tables, and what the report makes of it: numbers by hand."""

from pathlib import Path

import pytest

from aifeedback_dpo.annotate import ballots, report
from aifeedback_dpo.annotate.agreement import alpha, share
from aifeedback_dpo.annotate.journal import Journal, Kind, Said, Side
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.store import Run
from tests.annotate import studies
from tests.annotate.studies import opened


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return studies.write(tmp_path / "run")


def say(
    journal: Journal, name: str, pair: str, said: Said, kind: Kind = "vote", left_is: Side = "a", ms: int | None = 2000
) -> None:
    """An answer straight into the journal."""
    with journal.transaction():
        showing = journal.show(name, 0, kind, pair, left_is)
        journal.answer(showing, said, ms)


def test_votes_are_people_on_pairs_and_preferences_their_mean(run: Run):
    one, two, three, four, five, _ = sorted(run.done("pairs"))
    with opened(run, "ann", "bob", "cem") as there:
        journal = there.journal
        for name, said in (("ann", "a"), ("bob", "b"), ("cem", "a")):
            say(journal, name, one, said, ms=1000)
        say(journal, "ann", two, "tie")
        say(journal, "ann", three, "both_bad", ms=None)
        say(journal, "ann", four, "skip")
        say(journal, "ann", five, "b")
        say(journal, "ann", five, "a", kind="repeat")
        say(journal, "bob", five, "a", kind="attention")
        assert ballots.export(run, journal) == 6

    votes = {(row["pair_id"], row["annotator"]): row for row in run.rows("votes")}
    assert {key: row["p_a"] for key, row in votes.items()} == {
        (one, "ann"): 1.0,
        (one, "bob"): 0.0,
        (one, "cem"): 1.0,
        (two, "ann"): 0.5,
        (three, "ann"): 0.5,
        (five, "ann"): 0.0,
    }
    assert {row["source"] for row in votes.values()} == {"annotate"}
    assert [votes[key]["seconds"] for key in ((one, "ann"), (two, "ann"), (three, "ann"))] == [1.0, 2.0, None]
    settled = {row["pair_id"]: row for row in run.rows("preferences", name="human")}
    assert {pair: row["p_a"] for pair, row in settled.items()} == {
        one: pytest.approx(2 / 3),
        two: 0.5,
        three: 0.5,
        five: 0.0,
    }
    assert [settled[pair]["votes"] for pair in (one, two)] == [3, 1]


def test_only_the_first_standing_answer_of_a_person_on_a_pair_counts(run: Run):
    pair = min(run.done("pairs"))
    with opened(run, "ann") as there:
        with there.journal.transaction():
            undone = there.journal.show("ann", 0, "vote", pair, "a")
            there.journal.answer(undone, "a", 1)
            there.journal.undo(undone)
        say(there.journal, "ann", pair, "b")
        say(there.journal, "ann", pair, "tie")  # not by the page, which shows no pair twice as a vote
        (row,) = ballots.rows(there.journal.showings(), {pair})
    assert row["p_a"] == 0.0


def test_votes_on_pairs_that_the_run_has_lost_stay_in_the_journal(run: Run):
    with opened(run, "ann") as there:
        say(there.journal, "ann", "gone", "a")
        assert ballots.export(run, there.journal) == 0
        assert not run.parts("votes")


def test_exporting_again_changes_no_byte_and_after_undoing_all_leaves_no_vote(run: Run):
    with opened(run, "ann") as there:
        there.vote("ann")
        ballots.export(run, there.journal)
        (part,) = run.parts("votes")
        before = part.read_bytes()
        ballots.export(run, there.journal)
        assert part.read_bytes() == before
        there.assignment.undo("ann")
        assert ballots.export(run, there.journal) == 0
        assert run.rows("votes") == run.rows("preferences", name="human") == []


@pytest.mark.parametrize("failures", [0, 1])
def test_the_exporter_writes_what_changed_says_what_fails_and_tries_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, failures: int
):
    monkeypatch.setattr(ballots, "EVERY", 0.0)
    told: list[str] = []
    asked: list[int] = []
    tried: list[int] = []
    export = ballots.export

    def sometimes(*arguments):
        tried.append(1)
        if len(tried) <= failures:
            raise DdpoError("the disk is full")
        return export(*arguments)

    def changes() -> int:
        asked.append(1)
        if len(asked) == 6:
            exporter._stop.set()
        return min(len(asked), 2)  # one change, after the start

    monkeypatch.setattr(ballots, "export", sometimes)
    with opened(run, "ann") as there:
        there.vote("ann")
        exporter = ballots.Exporter(run, there.journal, changes, told.append)
        exporter.start()
        exporter._thread.join(60)
    assert len(tried) == failures + 1
    assert len(told) == failures and all("votes are safe in" in line for line in told)
    assert len(run.rows("votes")) == 1


def test_alpha_by_hand():
    """Four pairs, two people, (a, a), (a, b), (b, b), (tie, tie). Of 8 values 3 are a, 3 b, 2 tie.

    Observed disagreement 2 / 8; expected (64 - 9 - 9 - 4) / (8 * 7) = 3 / 4; alpha = 1 - (1 / 4) / (3 / 4) = 2 / 3.
    """
    said = {
        "1": {"ann": 1.0, "bob": 1.0},
        "2": {"ann": 1.0, "bob": 0.0},
        "3": {"ann": 0.0, "bob": 0.0},
        "4": {"ann": 0.5, "bob": 0.5},
        "alone": {"ann": 1.0},
    }
    found = alpha(said)
    assert found.value == pytest.approx(2 / 3)
    assert (found.pairs, found.low) == (4, None)
    assert "too few pairs" in found.why_not


def test_alpha_has_an_interval_around_it_from_five_pairs_on():
    said = {str(number): {"ann": number % 2, "bob": number % 2 if number % 5 else 0.5} for number in range(20)}
    found = alpha(said)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "no pair has the votes of two"),
        ({"1": {"ann": 1.0}, "2": {"bob": 0.0}}, "no pair has the votes of two"),
        ({"1": {"ann": 1.0, "bob": 1.0}}, "all said the same on 1 pairs"),
    ],
)
def test_alpha_says_why_there_is_none(said, why):
    assert alpha(said).value is None
    assert why in str(alpha(said))


def test_a_share_carries_wilsons_interval():
    """8 of 10, z = 1.96: (0.8 + z^2 / 20 +- z sqrt(0.8 * 0.2 / 10 + z^2 / 400)) / (1 + z^2 / 10)."""
    found = share(8, 10)
    z2 = 1.959964**2
    centre, half = (0.8 + z2 / 20) / (1 + z2 / 10), (z2 * (0.016 + z2 / 400)) ** 0.5 / (1 + z2 / 10)
    assert (found.low, found.high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert share(0, 0) is None


def test_the_report_counts_by_hand(run: Run):
    """ann: a, b, tie, both bad, one skipped; repeats of the first two, one alike; one attention pair failed, one passed."""
    one, two, three, four, five, _ = sorted(run.done("pairs"))
    with opened(run, "ann", "bob") as there:
        journal = there.journal
        told = ((one, "a", "a"), (two, "b", "a"), (three, "tie", "a"), (four, "both_bad", "b"), (five, "skip", "a"))
        for ms, (pair, said, left_is) in zip((1000, 2000, 3000, 4000, 9000), told, strict=True):
            say(journal, "ann", pair, said, left_is=left_is, ms=ms)
        say(journal, "ann", one, "a", "repeat", left_is="b", ms=None)
        say(journal, "ann", two, "tie", "repeat", ms=None)
        say(journal, "ann", one, "a", "attention", ms=None)
        say(journal, "ann", two, "tie", "attention", ms=None)
        say(journal, "bob", one, "a")
        found = report.measure(journal)
        path = report.write(run, found)

    ann, bob = found.voters
    assert (found.votes, found.pairs, found.by_votes) == (5, 4, {1: 3, 2: 1})
    assert (ann.votes, ann.ties, ann.both_bad, ann.skipped, ann.seconds) == (4, 1, 1, 1, 3.0)
    assert (ann.left.count, ann.left.of) == (1, 3)  # a on the left; b and then a on the right
    assert (ann.alike.count, ann.alike.of) == (1, 2)
    assert (ann.passed.count, ann.passed.of) == (1, 2)
    assert (bob.votes, bob.alike, bob.passed, bob.findings) == (1, None, None, [])
    text = path.read_text()
    assert "ann" in text and "http" not in text  # opens without a network
    assert any("repeats alike: 1 of 2" in line for line in report.lines(found))


def test_each_finding_follows_its_rule_and_not_a_hair_less():
    def names(**given):
        asked = {"left": None, "seconds": None, "answers": 10, "alike": None, "passed": None, **given}
        return [finding.split(":")[0] for finding in report.findings(**asked)]

    assert names(passed=share(7, 9)) == ["attention"]  # 2 of 9 failed
    assert names(passed=share(8, 10)) == []  # a fifth, not more
    assert names(passed=share(0, 1)) == []
    assert names(left=share(38, 50)) == ["side"]  # 63 to 86 %
    assert names(left=share(36, 50)) == []  # 58 to 83 %
    assert names(left=share(12, 50)) == ["side"]
    assert names(seconds=0.99) == ["haste"]
    assert names(seconds=1.0) == names(seconds=0.5, answers=9) == []
    assert names(alike=share(5, 10)) == ["repeats"]
    assert names(alike=share(6, 10)) == names(alike=share(0, 9)) == []


def test_names_are_escaped_in_the_page(run: Run):
    with opened(run, "<script>x</script>") as there:
        there.vote("<script>x</script>")
        assert "<script>" not in report.write(run, report.measure(there.journal)).read_text()
