"""The command, in a process of its own: what it kept when it was killed, and how it ends in order."""

import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from aifeedback_dpo.annotate.journal import Journal
from tests.annotate import studies
from tests.conftest import ddpo


class Visitor:
    """A browser with a cookie and no scripts."""

    def __init__(self, link: str) -> None:
        self.address = link.partition("/?")[0]
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._open = urllib.request.build_opener(jar).open
        self._open(link).close()
        self.html = self._ask("/consent", {})

    def vote(self, answer: str) -> str:
        """The showing that was answered, once the server has confirmed it."""
        token = re.search(r'data-showing="([^"]+)"', self.html)[1]
        self.html = self._ask("/vote", {"showing": token, "answer": answer, "milliseconds": "1200"})
        return token

    def _ask(self, path: str, form: dict[str, str]) -> str:
        with self._open(self.address + path, urllib.parse.urlencode(form).encode()) as answer:
            return str(answer.read().decode())


def start(run: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The server, and the first link that it gives."""
    command = [sys.executable, "-m", "aifeedback_dpo", "annotate", "--run", str(run), "--port", "0", "--no-open"]
    process = subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise AssertionError(process.communicate()[1])


def test_votes_confirmed_before_a_kill_are_all_in_the_journal_and_after_it_in_the_run(tmp_path: Path):
    run = studies.write(tmp_path / "run", pairs=60)
    process, link = start(run.root, "--repeats", "0")
    visitor, confirmed, enough = Visitor(link), [], threading.Event()

    def vote() -> None:
        while True:
            try:
                confirmed.append(visitor.vote("left"))
            except (urllib.error.URLError, ConnectionError, http.client.HTTPException):
                return  # killed, with a vote under way
            if len(confirmed) == 12:
                enough.set()

    voter = threading.Thread(target=vote)
    voter.start()
    assert enough.wait(60)
    process.kill()
    process.communicate()
    voter.join()
    journal = Journal(run.root / "annotate" / "votes.sqlite")
    answered = {showing.token for showing in journal.showings() if showing.answer}
    journal.close()
    assert len(confirmed) >= 12
    assert set(confirmed) <= answered

    process, link = start(run.root)
    again = Visitor(link)
    confirmed.append(again.vote("right"))
    process.send_signal(signal.SIGTERM)
    said, warned = process.communicate(timeout=60)
    assert (process.returncode, warned) == (0, "")
    assert f"{len(answered) + 1} votes are in" in said
    assert len(run.rows("votes")) == len(run.rows("preferences", name="human")) == len(answered) + 1
    assert not any(token in said + warned for token in confirmed)


def test_ctrl_c_ends_in_order(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    process, link = start(run.root, "--annotator", "ann", "--annotator", "bob")
    Visitor(link).vote("tie")
    process.send_signal(signal.SIGINT)
    said, warned = process.communicate(timeout=60)
    assert (process.returncode, warned) == (0, "")
    assert "1 votes are in" in said
    assert [row["p_a"] for row in run.rows("preferences", name="human")] == [0.5]


def refused(run: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the one line of a command that is refused."""
    result = ddpo("annotate", *arguments, run=run)
    line = result.output.strip()
    assert line.count("\n") == 0, result.output
    return result.exit_code, line


def test_a_run_without_pairs_says_what_to_do(tmp_path: Path):
    code, line = refused(tmp_path / "none", "label.raters=null")
    assert code == 2
    assert "run `ddpo generate` or `ddpo import` first" in line
    assert not (tmp_path / "none").exists()


def test_simulated_people_are_not_joined_by_real_ones(tmp_path: Path):
    run = studies.write(tmp_path / "run", raters="simulated")
    for arguments in ((), ("--report",), ("--dry-run",)):
        code, line = refused(run.root, *arguments)
        assert code == 2
        assert "simulated" in line
    assert not (run.root / "annotate").exists()


def test_a_pair_whose_picture_is_missing_is_broken_data(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    (part,) = run.parts("images")
    part.unlink()
    code, line = refused(run.root)
    assert code == 3
    assert "12 images of the pairs are not in the run" in line


def test_a_taken_port_is_said_and_nothing_begins(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, line = refused(run.root, "--port", str(port))
    assert code == 2
    assert f"port {port} is taken" in line
    journal = Journal(run.root / "annotate" / "votes.sqlite")
    assert journal.study() is None and not journal.annotators()
    journal.close()


def test_a_host_of_another_machine_is_said(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    code, line = refused(run.root, "--host", "203.0.113.7", "--port", "0")
    assert (code, "cannot listen at 203.0.113.7:0" in line) == (2, True)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = studies.write(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, line = refused(run.root)
    assert code == 2
    assert 'pip install "aifeedback_dpo[annotate]"' in line


def test_a_report_before_any_vote_says_what_to_do(tmp_path: Path):
    code, line = refused(studies.write(tmp_path / "run").root, "--report")
    assert (code, "run `ddpo annotate` first" in line) == (2, True)


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\nb"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str):
    code, line = refused(studies.write(tmp_path / "run").root, "--annotator", name)
    assert (code, "is no name" in line) == (2, True)


def test_instructions_that_cannot_be_read_are_said(tmp_path: Path):
    code, line = refused(studies.write(tmp_path / "run").root, "--instructions", str(tmp_path / "none.md"))
    assert (code, "none.md cannot be read" in line) == (2, True)


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    result = ddpo("annotate", "--dry-run", "--overlap", "3", "--limit", "4", "--json", run=run.root)
    told = json.loads(result.output)
    assert (told["pairs"], told["votes"], told["study"]["overlap"]) == (4, 12, 3)
    assert not (run.root / "annotate").exists()


def test_the_report_of_the_command_line_is_data_and_a_page(tmp_path: Path):
    run = studies.write(tmp_path / "run")
    with studies.opened(run, "ann", "bob", overlap=2) as there:
        for _ in range(6):
            there.vote("ann")
            there.vote("bob", "right")
    told = json.loads(ddpo("annotate", "--report", "--json", run=run.root).output)
    assert (told["exported"], told["pairs"], told["by_votes"]) == (12, 6, {"2": 6})
    assert [voter["left"]["count"] for voter in told["voters"]] == [6, 0]
    assert Path(told["page"]).exists()
    text = ddpo("annotate", "--report", run=run.root).output
    assert "12 votes on 6 pairs (6 with 2)" in text and "alpha" in text
