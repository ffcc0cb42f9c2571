"""The page in a real browser: whole sessions by keyboard, mouse and thumb, and what axe finds on each page.

One file, since one browser is started for all of it.
"""

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from aifeedback_dpo.annotate import ballots, page, pictures, report
from aifeedback_dpo.annotate.guard import Invitations
from aifeedback_dpo.store import Run
from tests.annotate import studies
from tests.annotate.studies import Opened, opened
from tests.browser import DESK, IN_CHROMIUM, PHONE, chromium, violations

pytestmark = IN_CHROMIUM

PAIRS = 6


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return studies.write(tmp_path_factory.mktemp("browser") / "run", PAIRS, sizes=((320, 320), (320, 240), (200, 320)))


@pytest.fixture
def run(shown_run: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(shown_run.root, tmp_path / "run")), shown_run.recipe)


@contextmanager
def served(there: Opened, port: int = 0, blur: bool = False) -> Iterator[str]:
    """The study on a port, from a thread; the address."""
    people = Invitations(str(there.journal.setting("secret")), there.journal.annotators())
    shown = pictures.Pictures(there.run, pictures.of_run(there.run))
    look = page.Look(page.default_instructions(), blur)
    app = page.build(there.assignment, shown, people, ["localhost"], look)
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=1))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Guest:
    """One person in a browser of their own, who has read the instructions."""

    def __init__(self, browser, there: Opened, address: str, name: str = "ann", **kind) -> None:
        self.context = browser.new_context(**kind)
        self.page = self.context.new_page()
        self.page.set_default_timeout(8000)
        self.trouble: list[str] = []
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", lambda said: self.trouble.append(said.text) if said.type == "error" else None)
        link = Invitations(str(there.journal.setting("secret")), [name]).link(name)
        self.page.goto(f"{address}/?token={link}")
        self.page.click("#agree")
        self.ready()

    def ready(self) -> str | None:
        """Waits until the pictures stand (or the thanks), and gives the showing."""
        self.page.wait_for_selector("#ballot.ready, .done")
        return self.page.get_attribute("#ballot", "data-showing")

    def after(self, act) -> str | None:
        """What stands on the page when an act has changed it."""
        before = self.page.get_attribute("#ballot", "data-showing")
        act()
        self.page.wait_for_selector(f'#ballot:not([data-showing="{before}"])' if before else "#ballot[data-showing]")
        return self.ready()

    def press(self, key: str) -> str | None:
        return self.after(lambda: self.page.keyboard.press(key))

    def click(self, what: str) -> str | None:
        return self.after(lambda: self.page.click(what))

    def tap(self, what: str) -> str | None:
        return self.after(lambda: self.page.tap(what))

    def is_within_the_screen(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def said(there: Opened, name: str = "ann") -> list[str]:
    """The answers that stand, in order, with sides instead of letters."""
    stand = [s for s in there.journal.showings() if s.annotator == name and s.counts]
    sides = {"a": {"a": "left", "b": "right"}, "b": {"b": "left", "a": "right"}}
    return [sides[s.left_is].get(s.answer, s.answer) for s in sorted(stand, key=lambda s: s.answer_id)]


def test_a_session_by_keyboard_with_undo_and_a_pause(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        guest.press("1")
        guest.press("ArrowRight")
        guest.press("0")
        guest.press("x")
        guest.press("u")
        guest.press("s")
        guest.page.keyboard.press("p")
        assert guest.page.is_visible("#resume")
        guest.page.keyboard.press("1")  # says nothing while paused
        guest.page.keyboard.press("p")
        assert guest.page.is_hidden("#resume")
        guest.press("2")
        assert guest.press("ArrowLeft") is None
        assert guest.page.inner_text("h1") == "Thank you"
        assert "6 pairs" in guest.page.inner_text(".done")
        assert said(there) == ["left", "right", "tie", "skip", "right", "left"]
        assert all(0 <= s.milliseconds < 60_000 for s in there.journal.showings() if s.answer)
        guest.press("u")
        assert said(there) == ["left", "right", "tie", "skip", "right"]
        assert guest.trouble == []
        guest.context.close()


def test_a_session_by_mouse(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        for what in ("#answer-left img", "#answer-right", "#answer-tie", "#answer-undo", "#answer-both_bad"):
            guest.click(what)
        guest.after(lambda: guest.page.dblclick("#answer-left"))  # at most one vote a pair
        guest.page.wait_for_load_state("networkidle")
        guest.ready()
        answered = [showing.pair_id for showing in there.journal.showings() if showing.counts]
        assert len(answered) == len(set(answered))
        assert said(there)[:4] == ["left", "right", "both_bad", "left"]
        guest.page.click("#help")
        assert guest.page.inner_text("h1") == "Which picture is better?"
        guest.page.click("#go-on")
        assert guest.ready()
        assert guest.trouble == []
        guest.context.close()


def test_a_session_on_a_phone(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address, **PHONE)
        assert guest.is_within_the_screen()
        for what in ("button", "a.button"):
            for target in guest.page.locator(what).all():
                if target.is_visible():
                    box = target.bounding_box()
                    assert box["height"] >= 44 and box["width"] >= 44
        upper, lower = (guest.page.locator(f"#answer-{side} img").bounding_box() for side in ("left", "right"))
        assert upper["y"] + upper["height"] <= lower["y"]
        undo = guest.page.locator("#answer-undo").bounding_box()
        assert undo["y"] + undo["height"] <= 844  # all of it on the first screen
        for what in ("#answer-left", "#answer-right", "#answer-tie", "#answer-undo", "#answer-skip"):
            guest.tap(what)
        assert guest.page.inner_text("#answer-left .caption").strip() == "Upper is better"
        for _ in range(3):
            guest.tap("#answer-right img")
        assert guest.page.inner_text("h1") == "Thank you"
        assert guest.is_within_the_screen()
        assert said(there) == ["left", "right", "skip", "right", "right", "right"]
        assert guest.trouble == []
        guest.context.close()


def test_a_key_held_down_answers_once(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        guest.after(lambda: [guest.page.keyboard.down("1") for _ in range(5)])
        guest.page.keyboard.up("1")
        guest.page.wait_for_load_state("networkidle")
        assert said(there) == ["left"]
        guest.context.close()


def test_single_keys_can_be_turned_off(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        guest.page.click("#pause")
        guest.page.uncheck("#keys")
        guest.page.click("#resume")
        guest.page.keyboard.press("1")
        guest.click("#answer-tie")
        assert said(there) == ["tie"]
        guest.context.close()


def test_what_is_blurred_shows_at_the_first_key_and_is_answered_at_the_second(browser, run: Run):
    with opened(run, "ann") as there, served(there, blur=True) as address:
        guest = Guest(browser, there, address)
        assert guest.page.locator(".veiled").count() == 1
        guest.page.keyboard.press("1")
        assert guest.page.locator(".veiled").count() == 0
        assert said(there) == []
        guest.press("1")
        assert said(there) == ["left"]
        assert guest.page.locator(".veiled").count() == 1
        guest.context.close()


def test_the_next_pictures_are_there_before_the_vote(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        guest.page.wait_for_load_state("networkidle")
        asked: list[str] = []
        guest.page.on("request", lambda request: asked.append(request.url))
        following = guest.press("1")
        guest.page.wait_for_load_state("networkidle")
        fetched = guest.page.evaluate(
            "performance.getEntriesByType('resource').filter((r) => r.transferSize).map((r) => r.name)"
        )
        assert sum(following in url for url in fetched) == 2  # once a side, ahead
        assert f"{address}/vote" in asked
        guest.context.close()


def test_two_people_at_once_share_the_pairs(browser, run: Run):
    with opened(run, "ann", "bob") as there, served(there) as address:
        ann, bob = (Guest(browser, there, address, name) for name in ("ann", "bob"))
        for _ in range(PAIRS // 2):
            ann.press("1")
            bob.press("2")
        assert ann.page.inner_text("h1") == bob.page.inner_text("h1") == "Thank you"
        assert said(there, "ann") == ["left"] * 3 and said(there, "bob") == ["right"] * 3
        assert ballots.export(run, there.journal) == PAIRS
        ann.context.close()
        bob.context.close()


def test_two_tabs_of_one_person_never_give_two_votes_on_a_pair(browser, run: Run):
    with opened(run, "ann") as there, served(there) as address:
        guest = Guest(browser, there, address)
        other = guest.context.new_page()
        other.goto(address)
        first = guest.page.get_attribute("#ballot", "data-showing")
        assert other.get_attribute("#ballot", "data-showing") == first
        second = guest.press("1")
        with other.expect_response("**/vote"):
            other.click("#answer-right")
        other.wait_for_selector(f'#ballot[data-showing="{second}"]')
        assert said(there) == ["left"]
        guest.context.close()


def test_a_server_that_stops_and_comes_back_loses_nothing(browser, run: Run):
    with opened(run, "ann") as there:
        with served(there) as address:
            port = int(address.rpartition(":")[2])
            guest = Guest(browser, there, address)
            standing = guest.press("1")
        guest.page.keyboard.press("2")
        guest.page.wait_for_selector("#trouble", state="visible")
        assert "Not saved" in guest.page.inner_text("#trouble")
        there.restart()
        with served(there, port):
            assert guest.page.get_attribute("#ballot", "data-showing") == standing
            guest.press("2")
            assert guest.page.is_hidden("#trouble")
            assert said(there) == ["left", "right"]
        guest.context.close()


@pytest.mark.parametrize(("kind", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk, light", "phone, dark"])
def test_axe_finds_nothing_on_any_page(browser, run: Run, scheme: str, kind: dict[str, object]):
    def broken(shown) -> list[str]:
        return [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in violations(shown)]

    with opened(run, "ann", "bob", overlap=2) as there, served(there) as address:
        guest = Guest(browser, there, address, color_scheme=scheme, bypass_csp=True, **kind)
        assert broken(guest.page) == []
        guest.page.click("#pause")
        assert broken(guest.page) == []
        guest.page.click("#resume")
        guest.page.click("#help")
        assert broken(guest.page) == []
        guest.page.click("#go-on")
        guest.ready()
        for _ in range(PAIRS):
            guest.press("1")
        assert broken(guest.page) == []
        newcomer = browser.new_context(color_scheme=scheme, bypass_csp=True, **kind).new_page()
        link = Invitations(str(there.journal.setting("secret")), ["bob"]).link("bob")
        newcomer.goto(f"{address}/?token={link}")
        assert broken(newcomer) == []
        for _ in range(PAIRS):
            there.vote("bob", "left", 100)
        newcomer.goto(report.write(run, report.measure(there.journal)).as_uri())
        assert broken(newcomer) == []
        newcomer.context.close()
        guest.context.close()
