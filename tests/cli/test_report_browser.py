"""The report in a real browser, from disk: what axe finds, both grounds, a phone, paper, and pictures by every key and hand.

One file, since one browser is started for all of it.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from aifeedback_dpo import config
from aifeedback_dpo.codec import encode_image
from aifeedback_dpo.compare import pictures, report
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.store import Run
from tests import reports
from tests.browser import DESK, IN_CHROMIUM, PHONE, chromium, violations

pytestmark = IN_CHROMIUM

SAID = "document.querySelector('#lightbox .where').textContent"
ZOOM = "document.querySelector('#lightbox .zoom').textContent"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def made(root: Path, told: dict) -> Path:
    """The page of a result, with all of its pictures but one."""
    run = Run(root / "a run #1", config.load("shapes"))
    ids = pictures.wanted(told)
    colours = [((37 * at) % 256, (91 * at) % 256, 120) for at in range(len(ids))]
    rows = [
        {
            "image_id": image,
            "prompt_id": "p",
            "model": "m",
            "seed": 0,
            "image": {"bytes": encode_image(Image.new("RGB", (32, 32), colour)), "path": None},
        }
        for image, colour in zip(ids[:-1], colours, strict=False)
    ]
    run.commit("images", rows, "000000", "base")
    if told["sets"][0]["factors"]:
        folder = run.policy_folder("human", 0)
        folder.mkdir(parents=True)
        lines = [{"step": step, "implicit_accuracy": 0.5, "winner_drift": 0.0} for step in range(8)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report.write(run, told, run.report, Silent())
    return run.report / "index.html"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The awkward result."""
    return made(tmp_path_factory.mktemp("report"), reports.example())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without live figures, which take a browser seconds."""
    told = reports.example()
    told["sets"][0]["factors"] = None
    told["judges"]["calibration"] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report.figures, "write", lambda *_: {})
        return made(tmp_path_factory.mktemp("plain"), told)


class Reader:
    """One person before the page."""

    def __init__(self, browser, page: Path, **kind) -> None:
        self.context = browser.new_context(**kind)
        self.page = self.context.new_page()
        self.page.set_default_timeout(8000)
        self.trouble: list[str] = []
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", lambda said: self.trouble.append(said.text) if said.type == "error" else None)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(page.as_uri())

    def live(self) -> "Reader":
        self.page.wait_for_selector("html.live .plot .main-svg")
        return self

    def says(self, what: str, where: str = SAID) -> None:
        self.page.wait_for_function(f"wanted => {where} === wanted", arg=what)


@pytest.fixture
def desk(browser, plain) -> Iterator[Reader]:
    yield from reading(Reader(browser, plain, **DESK))


@pytest.fixture
def phone(browser, plain) -> Iterator[Reader]:
    yield from reading(Reader(browser, plain, **PHONE))


@pytest.fixture(scope="module")
def figured(browser, written) -> Iterator[Reader]:
    """A page with live figures, for tests that leave it as it was."""
    yield from reading(Reader(browser, written, **DESK).live())


def reading(reader: Reader) -> Iterator[Reader]:
    yield reader
    assert reader.trouble == []
    reader.context.close()


def opened(reader: Reader) -> Reader:
    """The first picture, whole."""
    reader.page.locator("#gallery .shot a").first.click()
    reader.says("1 of 8: base model")
    return reader


def test_axe_finds_nothing_on_either_ground_and_nothing_comes_from_anywhere_else(figured):
    page = figured.page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = violations(page)
    page.emulate_media(color_scheme="dark")
    contrast = {"runOnly": ["color-contrast"]}
    found += violations(page, context="#judges", options=contrast)
    found += violations(page, context="#set-0", options=contrast)
    opened(figured)
    found += violations(page, context="#lightbox")
    page.keyboard.press("Escape")
    page.emulate_media(color_scheme="light")

    assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in figured.asked)


def test_figures_change_with_the_ground(figured):
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    for ground, colour in (("light", "rgb(35, 38, 43)"), ("dark", "rgb(232, 230, 225)"), ("light", "rgb(35, 38, 43)")):
        figured.page.emulate_media(color_scheme=ground)
        figured.says(colour, ink)  # --ink of report.css


def test_paper_has_drawings_in_place_of_live_figures_and_no_controls(figured):
    page = figured.page
    page.emulate_media(media="print")
    assert page.locator(".still").first.is_visible()
    assert page.locator(".plot").first.is_hidden()
    assert page.locator(".switch").first.is_hidden()
    page.emulate_media(media="screen")


def test_a_phone_scrolls_tables_and_never_the_page(browser, written):
    phone = Reader(browser, written, **PHONE).live()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert phone.page.evaluate(wide) == 0
    assert phone.page.evaluate(
        "[...document.querySelectorAll('.scroll')].some(one => one.scrollWidth > one.clientWidth)"
    )
    phone.context.close()


def test_a_cell_tells_the_rest_to_mouse_keyboard_and_thumb(desk, phone):
    cell = desk.page.locator("[data-tip]").first
    cell.hover()
    desk.page.wait_for_selector("#tip:not([hidden])")
    assert "60 won, 20 tied, 40 lost (pictures)" in desk.page.inner_text("#tip")
    desk.page.keyboard.press("Escape")
    assert desk.page.locator("#tip").is_hidden()
    cell.focus()
    assert desk.page.locator("#tip").is_visible()
    assert cell.get_attribute("aria-describedby") == "tip"
    desk.page.locator("[data-tip]:visible").last.focus()  # far below: the page scrolls there
    desk.page.wait_for_function("scrollY > 0")
    desk.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert desk.page.locator("#tip").is_visible()
    phone.page.locator("[data-tip]").first.tap()
    assert "by Holm" in phone.page.inner_text("#tip")


def test_switches_change_what_cells_show(desk):
    page = desk.page
    assert page.locator("#set-0 .swap td.one").first.is_visible()
    assert page.locator("#set-0 .swap td.two").first.is_hidden()
    page.click("label[for=wins-cells-0-2]")
    assert page.locator("#set-0 .swap td.two").first.is_visible()
    assert page.locator("#set-0 .swap td.one").first.is_hidden()
    page.click("label[for=rule-kappa]")
    assert page.locator(".matrix .said-kappa").first.is_visible()
    assert page.locator(".matrix .said-1").first.is_hidden()


def test_pictures_by_keyboard(desk):
    press = opened(desk).page.keyboard.press
    press("ArrowRight")
    desk.says("2 of 8: base model")
    press("ArrowLeft")
    press("ArrowLeft")
    desk.says("8 of 8: left")  # the pairs in dispute follow, and the first comes after the last
    press("ArrowRight")
    press("2")
    desk.says("1 of 8: human (simulated)")
    press("ArrowDown")
    desk.says(f"1 of 8: {reports.ODD}")
    press("b")
    desk.says("1 of 8: base model")  # A is the first, until it is chosen
    press("b")
    press("a")
    press("1")
    press("b")
    desk.says(f"1 of 8: {reports.ODD}")
    for key, zoom in (("+", "150 %"), ("-", "100 %"), ("+", "150 %"), ("0", "100 %")):
        press(key)
        desk.says(zoom, ZOOM)
    press("Escape")
    desk.page.wait_for_selector("#lightbox:not([open])", state="attached")
    assert desk.page.evaluate("document.activeElement.closest('.shot') !== null")


def test_flicker_shows_two_in_turn_until_it_is_told_to_stop(desk):
    opened(desk).page.keyboard.press("2")
    desk.page.keyboard.press("f")
    for name in ("base model", "human (simulated)", "base model"):
        desk.says(f"1 of 8: {name}")
    desk.page.keyboard.press("f")
    desk.says("1 of 8: human (simulated)")
    assert desk.page.get_attribute("[data-do=flicker]", "aria-pressed") == "false"


def test_focus_stays_among_the_pictures_controls(desk):
    opened(desk)
    for _ in range(30):
        desk.page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || document.activeElement.closest('#lightbox') !== null"
        assert desk.page.evaluate(inside)


def test_wheel_and_drag_move_the_picture(desk):
    opened(desk)
    box = desk.page.locator("#lightbox .stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    desk.page.mouse.move(x, y)
    desk.page.mouse.wheel(0, -400)
    desk.says("272 %", ZOOM)  # e
    moved = "new DOMMatrix(getComputedStyle(document.querySelector('#lightbox .stage img')).transform).e"
    before = desk.page.evaluate(moved)
    desk.page.mouse.down()
    desk.page.mouse.move(x + 40, y)
    desk.page.mouse.up()
    assert desk.page.evaluate(moved) - before == pytest.approx(40)


def test_pictures_by_thumb(phone):
    phone.page.locator("#gallery .shot a").first.tap()
    phone.says("1 of 8: base model")
    phone.page.locator("#lightbox [data-do=on]").tap()
    phone.says("2 of 8: base model")
    phone.page.get_by_role("button", name="2 human (simulated)").tap()
    phone.says("2 of 8: human (simulated)")
    assert phone.page.evaluate("document.querySelector('#lightbox').scrollWidth <= innerWidth")
    phone.page.locator("#lightbox [data-do=close]").tap()
    phone.page.wait_for_selector("#lightbox:not([open])", state="attached")


def test_the_whole_picture_is_shown_and_its_thumbnail_where_the_run_is_gone(browser, plain, tmp_path):
    whole = "document.querySelector('#lightbox .stage img').src"
    reader = opened(Reader(browser, plain, **DESK))
    assert "/pictures/" in reader.page.evaluate(whole)
    moved = Path(shutil.copytree(plain.parent, tmp_path / "moved"))
    away = opened(Reader(browser, moved / "index.html", **DESK))
    away.page.wait_for_function(f"{whole}.includes('/thumbnails/')")
    reader.context.close()
    away.context.close()


def test_the_method_is_copied(browser, plain):
    reader = Reader(browser, plain, **DESK, permissions=["clipboard-read", "clipboard-write"])
    reader.page.click(".copy")
    reader.page.wait_for_function("document.querySelector('.copied').textContent === 'copied'")
    assert reader.page.evaluate("navigator.clipboard.readText()") == reports.example()["method"]
    assert reader.trouble == []
    reader.context.close()


def test_without_a_script_all_numbers_and_drawings_are_there(browser, written):
    reader = Reader(browser, written, **DESK, java_script_enabled=False)
    assert reader.page.locator("img.still").count() == 3
    assert all(one.is_visible() for one in reader.page.locator("img.still").all())
    assert reader.page.locator("#set-0 .swap td.one").first.is_visible()
    assert reader.page.locator(".plot").first.is_hidden()
    reader.context.close()
