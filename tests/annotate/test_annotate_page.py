"""The page: who gets in, and what it never tells."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo.annotate import pictures
from aifeedback_dpo.annotate.guard import LARGEST_BODY
from aifeedback_dpo.annotate.page import response_time
from aifeedback_dpo.codec import decode_image
from aifeedback_dpo.store import Run
from tests.annotate import studies
from tests.annotate.studies import ADDRESS, SECRET_POLICY, opened

HTMX = {"HX-Request": "true"}
PAGES = ("/", "/instructions", "/static/annotate.js", "/picture/x/left")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return studies.write(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture
def there(run: Run, tmp_path):
    place = Run(tmp_path, run.recipe)
    for table in ("prompts", "images", "pairs"):
        (tmp_path / table).symlink_to(run.root / table)
    with opened(place, "ann", "b<i>b", overlap=2, attention=0.3, repeats=0.3) as study:
        yield study


def showing_of(html: str) -> str:
    return re.search(r'data-showing="([^"]+)"', html)[1]


def test_nothing_opens_without_the_link(there):
    client = there.client(None)
    assert {client.get(path).status_code for path in PAGES} == {403}
    assert client.post("/vote", data={"showing": "x", "answer": "left"}).status_code == 403
    assert client.get("/", params={"token": "wrong"}).status_code == 403
    client.cookies.set(next(iter(there.client("ann").cookies.keys())), "wrong")
    assert client.get("/").status_code == 403


def test_the_link_becomes_a_strict_cookie_and_leaves_the_address(there):
    client = there.client(None)
    there_client = there.client("ann")
    (name,) = there_client.cookies.keys()
    from aifeedback_dpo.annotate.guard import Invitations

    link = Invitations(there.journal.setting("secret"), ["ann"]).link("ann")
    entered = client.get("/", params={"token": link}, follow_redirects=False)

    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"].lower()
    assert cookie.startswith(f"{name.lower()}=") and "httponly" in cookie and "samesite=strict" in cookie
    assert link not in cookie  # who sees the one does not have the other


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": ADDRESS},
    ],
)
def test_another_site_cannot_vote(there, headers):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    for path in ("/vote", "/undo", "/consent"):
        refused = client.post(path, data={"showing": token, "answer": "left"}, headers=headers)
        assert refused.status_code == 403
    assert not any(showing.answer for showing in there.journal.showings())


@pytest.mark.parametrize("headers", [{"Origin": ADDRESS}, {"Origin": "null", "Sec-Fetch-Site": "same-origin"}, {}])
def test_its_own_page_can_vote(there, headers):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    voted = client.post("/vote", data={"showing": token, "answer": "left"}, headers={**HTMX, **headers})
    assert voted.status_code == 200 and showing_of(voted.text) != token


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8008", "127.0.0.1.evil.example", "", "[", "localhost@evil"]
)
def test_a_rebound_name_is_refused(there, host):
    assert there.client("ann").get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:1", "[::1]:8008", "LOCALHOST"])
def test_names_of_this_machine_are_its_own_at_any_port(there, host):
    assert there.client("ann").get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fpage.py",
        "/static/..%2f..%2fguard.py",
        "/static/%2e%2e/page.py",
        "/static/annotate.css%00",
        "/static/htmx.LICENSE/x",
        "/picture/..%2f..%2fvotes.sqlite/left",
        "/picture/x/left",
        "/docs",
        "/openapi.json",
        "/redoc",
        "/votes.sqlite",
    ],
)
def test_path_tricks_find_nothing(there, path):
    assert there.client("ann").get(path).status_code == 404


def test_a_large_body_is_refused_with_and_without_its_length(there):
    client = there.client("ann")
    large = b"showing=" + b"x" * LARGEST_BODY

    def chunks():
        yield large[:100]
        yield large[100:]

    assert client.post("/vote", content=large).status_code == 413
    assert client.post("/vote", content=chunks()).status_code == 413
    assert client.post("/vote", content=b"x", headers={"Content-Length": "-1"}).status_code == 413


def test_a_form_that_is_none_is_refused(there):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    assert client.post("/vote", data={"showing": token, "answer": "elephant"}).status_code == 422
    assert client.post("/vote", data={"answer": "left"}).status_code == 422
    assert client.post("/vote", data={"showing": "x", "answer": "left"}).status_code == 404


def test_pictures_of_others_are_not_found(there):
    token = showing_of(there.client("ann").get("/").text)
    assert there.client("b<i>b").get(f"/picture/{token}/left").status_code == 404
    assert there.client("ann").get(f"/picture/{token}/middle").status_code == 404


def test_every_answer_carries_the_headers(there):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    for path, status in (("/", 200), ("/x", 404), (f"/picture/{token}/left", 200), ("/instructions", 200)):
        answer = client.get(path)
        assert answer.status_code == status
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        kept = "private, max-age=86400, immutable" if path.startswith("/picture") else "no-store"
        assert answer.headers["cache-control"] == kept


def test_names_prompts_and_instructions_are_escaped(there):
    client = there.client("b<i>b", instructions="**bold** <script>alert(1)</script> [x](javascript:alert(1))")
    text = client.get("/instructions").text
    assert "b&lt;i&gt;b" in text and "<strong>bold</strong>" in text
    assert "<script>alert" not in text and 'href="javascript' not in text
    assert "&amp; &lt;b&gt;bold&lt;/b&gt;" in client.get("/").text


def test_nothing_that_a_browser_gets_names_a_policy_a_model_or_an_id(there):
    client = there.client("ann")
    ids = {row[key] for row in there.run.rows("pairs") for key in ("pair_id", "prompt_id", "image_a", "image_b")}
    secrets = [SECRET_POLICY, *ids]
    html = client.get("/").text
    answered = 0
    while 'data-showing="' in html:
        token = showing_of(html)
        both = [client.get(f"/picture/{token}/{side}") for side in ("left", "right")]
        for answer in (*both, client.get("/instructions")):
            told = str(answer.headers).encode() + answer.content
            assert not any(secret.encode() in told for secret in secrets)
        assert not any(secret in html for secret in secrets)
        html = client.post("/vote", data={"showing": token, "answer": "left"}, headers=HTMX).text
        answered += 1
    assert answered >= 7  # six pairs, attention pairs and repeats


def test_pictures_are_the_pixels_without_any_metadata_on_the_side_that_was_drawn(there):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    showing = there.assignment.showing("ann", token)
    (row,) = [row for row in there.run.rows("pairs") if row["pair_id"] == showing.pair_id]
    left, right = ("image_a", "image_b") if showing.left_is == "a" else ("image_b", "image_a")
    for side, image_id in (("left", row[left]), ("right", row[right])):
        data = client.get(f"/picture/{token}/{side}").content
        shown = Image.open(io.BytesIO(data))
        ((_, stored),) = there.run.images([image_id])
        assert (Image.open(io.BytesIO(stored)).getexif(), SECRET_POLICY.encode() in stored) != ({}, False)
        assert shown.format == "WEBP" and not shown.getexif() and set(shown.info) <= {"loop", "background"}
        assert np.array_equal(np.asarray(decode_image(data)), np.asarray(decode_image(stored)))


def test_an_attention_pair_shows_one_picture_whole_and_spoiled(there):
    shown = pictures.Pictures(there.run, pictures.of_run(there.run))
    with there.journal.transaction():
        pair_id = sorted(there.run.done("pairs"))[0]
        showing = there.journal.show("ann", 0, "attention", pair_id, "b")
    spoiled, whole = (np.asarray(decode_image(shown.of(showing, left)), float) for left in (True, False))
    ids = shown.pairs[pair_id]
    stored = [np.asarray(decode_image(data)) for _, data in there.run.images([ids.a, ids.b])]

    assert any(np.array_equal(whole, image) for image in stored)  # right, as the spoiled one is `b` and on the left
    assert np.abs(spoiled - whole).mean() > 20


def test_the_pictures_in_memory_stay_under_the_bound(there):
    pairs = pictures.of_run(there.run)
    shown = pictures.Pictures(there.run, pairs, kept_bytes=9000)
    with there.journal.transaction():
        showings = [there.journal.show("ann", 0, "vote", pair_id, "a") for pair_id in pairs]
    assert sum(len(shown.of(showing, left)) for showing in showings for left in (True, False)) > 20_000
    assert 0 < sum(map(len, shown._kept.values())) <= 9000


def test_before_consent_there_are_only_instructions(there):
    client = there.client(None)
    from aifeedback_dpo.annotate.guard import Invitations

    client.get("/", params={"token": Invitations(there.journal.setting("secret"), ["ann"]).link("ann")})
    page = client.get("/")
    assert page.url.path == "/instructions" and "I agree" in page.text
    assert not there.journal.showings()


def test_without_scripts_the_buttons_bring_the_next_page(there):
    client = there.client("ann")
    token = showing_of(client.get("/").text)
    page = client.post("/vote", data={"showing": token, "answer": "tie"})
    assert page.url.path == "/" and showing_of(page.text) != token
    assert showing_of(client.post("/undo").text) != showing_of(page.text)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("0", 0),
        ("1500", 1500),
        ("3600000", 3_600_000),
        ("3600001", None),
        ("-1", None),
        ("", None),
        ("1e3", None),
        ("²", None),
        ("9" * 30, None),
    ],
)
def test_a_response_time_is_whole_milliseconds_up_to_an_hour(sent, taken):
    assert response_time(sent) == taken
