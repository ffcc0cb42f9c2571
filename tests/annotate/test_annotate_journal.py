"""What is written down, and who sees which pair."""

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifeedback_dpo import seeds
from aifeedback_dpo.annotate import study
from aifeedback_dpo.annotate.journal import Journal
from aifeedback_dpo.annotate.study import Study, chosen
from aifeedback_dpo.errors import DataError, UserError
from aifeedback_dpo.store import Run
from tests.annotate import studies
from tests.annotate.studies import AWAY, Opened, opened

PEOPLE = ("ann", "bob", "cem")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return studies.write(tmp_path / "run")


def test_an_answer_sent_twice_is_one_vote_and_answers_with_the_next_pair(run: Run):
    with opened(run, "ann") as there:
        first = there.assignment.turn("ann").showing
        after = there.assignment.answer("ann", first.token, "left", 900)
        again = there.assignment.answer("ann", first.token, "right", 100)

        assert again.showing == after.showing
        answers = [showing for showing in there.journal.showings() if showing.answer]
        assert [(showing.token, showing.answer, showing.milliseconds) for showing in answers] == [
            (first.token, first.left_is, 900)
        ]


def test_somebody_elses_showing_cannot_be_answered(run: Run):
    with opened(run, "ann", "bob") as there:
        token = there.assignment.turn("ann").showing.token
        with pytest.raises(KeyError):
            there.assignment.answer("bob", token, "left", 1)


def test_undo_keeps_the_row_and_shows_the_same_pair_on_the_same_sides(run: Run):
    with opened(run, "ann") as there:
        first = there.assignment.turn("ann").showing
        there.vote("ann", "tie")
        turn = there.assignment.undo("ann")

        assert turn.showing.token != first.token
        assert (turn.showing.pair_id, turn.showing.left_is, turn.done) == (first.pair_id, first.left_is, 0)
        kept = [(showing.answer, showing.undone) for showing in there.journal.showings() if showing.answer]
        assert kept == [("tie", True)]


def test_undo_goes_back_answer_by_answer_and_forward_in_the_same_order(run: Run):
    with opened(run, "ann") as there:
        seen = [there.assignment.turn("ann").showing.pair_id]
        seen += [there.vote("ann").showing.pair_id for _ in range(3)]
        back = [there.assignment.undo("ann").showing.pair_id for _ in range(3)]
        forth = [there.vote("ann").showing.pair_id for _ in range(3)]

        assert back == seen[2::-1]
        assert forth == seen[1:]
        assert not there.assignment.undo("ann").note


def test_undoing_a_skip_does_not_take_the_pair_back_from_who_has_it_now(run: Run):
    with opened(run, "ann", "bob", limit=1) as there:
        there.vote("ann", "skip")
        there.vote("bob", "left")
        turn = there.assignment.undo("ann")

        assert "somebody else" in turn.note
        assert turn.showing is None


def test_a_restart_changes_nothing_that_anyone_sees(run: Run):
    with opened(run, *PEOPLE, overlap=2, repeats=0.3, attention=0.3) as there:
        moves = (("ann", "left"), ("bob", "tie"), ("ann", "skip"), ("cem", "right"), ("ann", "left"), ("bob", "left"))
        for name, choice in moves:
            there.vote(name, choice)
        there.assignment.undo("ann")
        before = [there.assignment.turn(name) for name in PEOPLE]
        there.restart()

        assert [there.assignment.turn(name) for name in PEOPLE] == before


def test_sides_are_the_seeded_draw_and_differ_between_people(run: Run):
    with opened(run, *PEOPLE, overlap=3, seed=5) as there:
        exhaust(there)
        votes = [showing for showing in there.journal.showings() if showing.answer]

    assert len(votes) == 18
    for showing in votes:
        left = "a" if seeds.uniform(5, "left", showing.pair_id, showing.annotator) < 0.5 else "b"
        assert (showing.left_is, showing.answer) == (left, left)
    assert {showing.left_is for showing in votes} == {"a", "b"}


def test_each_person_has_an_order_of_their_own(tmp_path: Path):
    run = studies.write(tmp_path / "run", pairs=8)
    orders = [Study(0).order(sorted(run.done("pairs")), name) for name in PEOPLE]
    assert len({tuple(order) for order in orders}) == 3


@settings(max_examples=25, deadline=None)
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["left", "tie", "skip", "undo", "away", "restart", "look"])),
        max_size=60,
    ),
    overlap=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_no_pair_gets_more_than_its_votes_and_all_get_them_in_the_end(
    small_run: Run, moves: list[tuple[str, str]], overlap: int, seed: int
):
    with tempfile.TemporaryDirectory() as folder:
        place = Run(Path(folder), small_run.recipe)
        (Path(folder) / "pairs").symlink_to(small_run.root / "pairs")
        with opened(place, *PEOPLE, overlap=overlap, seed=seed, repeats=0.2, attention=0.1) as there:
            skips = 0
            for name, move in moves:
                act(there, name, move)
                skips += move == "skip"
                assert all(count <= overlap for count in coverage(there).values())
            exhaust(there)
            counts = coverage(there)
            assert all(count <= overlap for count in counts.values())
            if not skips:
                assert set(counts.values()) == {overlap}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return studies.write(tmp_path_factory.mktemp("small") / "run", pairs=5)


def act(there: Opened, name: str, move: str) -> None:
    if move == "undo":
        there.assignment.undo(name)
    elif move == "away":
        there.clock.now += AWAY
    elif move == "restart":
        there.restart()
    elif there.assignment.turn(name).showing and move != "look":
        there.vote(name, move)


def exhaust(there: Opened) -> None:
    """Everyone votes until there is nothing left, and takes over what others left."""
    for _ in range(3):
        there.clock.now += AWAY
        for name in there.journal.annotators():
            while there.assignment.turn(name).showing:
                there.vote(name)


def coverage(there: Opened) -> Counter[str]:
    """Votes by pair, a person's once."""
    standing = [s for s in there.journal.showings() if s.kind == "vote" and s.counts and s.answer != "skip"]
    assert len({(s.pair_id, s.annotator) for s in standing}) == len(standing)
    return Counter(s.pair_id for s in standing)


def test_pairs_that_others_have_begun_come_before_fresh_ones(run: Run):
    with opened(run, "ann", "bob", overlap=2) as there:
        for _ in range(3):
            there.vote("ann")
        begun = {showing.pair_id for showing in there.journal.showings() if showing.annotator == "ann"}
        seen = []
        for _ in range(3):
            seen.append(there.assignment.turn("bob").showing.pair_id)
            there.vote("bob")
        assert set(seen) <= begun


def test_repeats_come_at_least_ten_pairs_later_with_each_pair_once(tmp_path: Path):
    run = studies.write(tmp_path / "run", pairs=40)
    with opened(run, "ann", repeats=0.25) as there:
        exhaust(there)
        shown = [showing for showing in there.journal.showings() if showing.answer]
    places = {showing.pair_id: showing.place for showing in shown if showing.kind == "vote"}
    repeats = [showing for showing in shown if showing.kind == "repeat"]

    assert len(repeats) == 10  # a quarter of 40
    assert len({showing.pair_id for showing in repeats}) == 10
    early = [showing for showing in repeats if showing.place - places[showing.pair_id] <= 10]
    last_vote = max(places.values())
    assert all(showing.place > last_vote for showing in early)  # only where nothing else was left


def test_attention_pairs_come_in_their_share_and_of_pairs_that_were_seen(tmp_path: Path):
    run = studies.write(tmp_path / "run", pairs=40)
    with opened(run, "ann", attention=0.2) as there:
        exhaust(there)
        shown = there.journal.showings()
    seen: set[str] = set()
    attention = 0
    for showing in shown:
        if showing.kind == "attention":
            attention += 1
            assert showing.pair_id in seen
        elif showing.answer:
            seen.add(showing.pair_id)
    assert 7 <= attention <= 8  # a fifth of 40; one that falls before the first vote has no picture to show


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5])
def test_a_share_is_drawn_exactly_give_or_take_one_at_the_end(share: float):
    assert abs(sum(chosen(share, number, 0, "x") for number in range(1000)) - 1000 * share) <= 1


def test_a_study_goes_on_as_it_began_and_names_the_key_that_contradicts(tmp_path: Path):
    journal = Journal(tmp_path / "votes.sqlite")
    journal.begin(study.settings(Study(seed=3, overlap=2)))

    assert study.settle(journal, 3, None, None, None, None, None) == Study(seed=3, overlap=2)
    with pytest.raises(UserError, match=r"overlap=2, and 3 is asked for"):
        study.settle(journal, 3, 3, None, None, None, None)
    with pytest.raises(UserError, match=r"seed=3, and 4"):
        study.settle(journal, 4, None, None, None, None, None)
    journal.close()


def test_a_share_of_overlap_means_two_people_and_quotas_follow_it():
    settled = study.settle(None, 0, None, 0.25, None, None, None)
    quotas = Counter(settled.quota(str(number)) for number in range(2000))
    assert settled.overlap == 2
    assert 400 < quotas[2] < 600  # 500 expected, five standard deviations of 19 each way


def test_a_file_that_is_no_journal_is_said_in_one_line(tmp_path: Path):
    path = tmp_path / "votes.sqlite"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(DataError, match="is no journal of votes"):
        Journal(path)


def test_two_servers_do_not_share_a_study(tmp_path: Path):
    first, second = Journal(tmp_path / "votes.sqlite"), Journal(tmp_path / "votes.sqlite")
    first.alone()
    with pytest.raises(UserError, match="being served by another"):
        second.alone()
    first.close()
    second.close()


def test_many_threads_write_one_after_the_other(tmp_path: Path):
    journal = Journal(tmp_path / "votes.sqlite")
    names = [f"person {number}" for number in range(40)]
    journal.invite(names)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(journal.consent, names))  # raises what a thread raised
    assert all(journal.annotators().values())
    journal.close()
