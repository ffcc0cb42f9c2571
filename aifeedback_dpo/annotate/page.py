"""The web page: instructions and consent first, then one pair after another. It knows no model, policy or score."""

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.middleware import Middleware

from aifeedback_dpo.annotate.assignment import Assignment, Choice, Turn
from aifeedback_dpo.annotate.guard import Guard, Invitations
from aifeedback_dpo.annotate.pictures import Pictures
from aifeedback_dpo.errors import DataError

COOKIE_SECONDS = 90 * 24 * 3600
LONGEST = 3_600_000  # milliseconds; what is beyond is not a response time
SMALL = 128  # pixels up to which a picture is shown with hard edges, not smeared
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
KEPT = {"Cache-Control": "private, max-age=86400, immutable"}


@dataclass(frozen=True)
class Look:
    """How the page looks, and what it says first."""

    instructions: str  # markdown
    blur: bool = False


def build(
    assignment: Assignment, pictures: Pictures, invitations: Invitations, hosts: list[str], look: Look
) -> FastAPI:
    """The application."""
    page = Page(assignment, pictures, invitations, look)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=[Middleware(Guard, invitations, hosts)])
    app.get("/")(page.voting)
    app.get("/instructions")(page.instructions)
    app.post("/consent")(page.consent)
    app.post("/vote")(page.vote)
    app.post("/undo")(page.undo)
    app.get("/picture/{showing}/{side}")(page.picture)
    app.get("/static/{name}")(page.static)
    for kind in (DataError, sqlite3.Error):
        app.add_exception_handler(kind, broken)
    return app


class Page:
    """What each address answers."""

    def __init__(self, assignment: Assignment, pictures: Pictures, invitations: Invitations, look: Look) -> None:
        self.assignment, self.pictures, self.invitations, self.look = assignment, pictures, invitations, look
        self.files = {path.name: path.read_bytes() for path in _folder("static").iterdir() if path.suffix in TYPES}
        self.templates = Environment(
            loader=PackageLoader("aifeedback_dpo.annotate"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals["static"] = {
            name: f"/static/{name}?v={hashlib.sha256(data).hexdigest()[:12]}" for name, data in self.files.items()
        }
        text = MarkdownIt("commonmark", {"html": False}).render(look.instructions)
        self.text = Markup(text)  # noqa: S704 (the renderer escapes, html is off)

    def voting(self, request: Request) -> Response:
        """The pair at hand; a link is exchanged for a cookie first, and consent asked for."""
        name = request.state.annotator
        if "token" in request.query_params:
            entered = RedirectResponse("/", 303)
            cookie = self.invitations.cookie(name)
            entered.set_cookie(
                self.invitations.cookie_name, cookie, max_age=COOKIE_SECONDS, httponly=True, samesite="strict"
            )
            return entered
        if not self.assignment.journal.annotators()[name]:
            return RedirectResponse("/instructions", 303)
        return self._render("vote.html", **self._view(self.assignment.turn(name)))

    def instructions(self, request: Request) -> Response:
        """What people read first, and may read again."""
        name = request.state.annotator
        consented = self.assignment.journal.annotators()[name]
        return self._render("instructions.html", name=name, instructions=self.text, consented=consented)

    def consent(self, request: Request) -> Response:
        """Somebody takes part."""
        self.assignment.journal.consent(request.state.annotator)
        return Response(headers={"HX-Redirect": "/"}) if by_script(request) else RedirectResponse("/", 303)

    def vote(
        self,
        request: Request,
        showing: Annotated[str, Form()],
        answer: Annotated[Choice, Form()],
        milliseconds: Annotated[str, Form()] = "",
    ) -> Response:
        """An answer, which is on the disk when the next pair is sent."""
        try:
            turn = self.assignment.answer(request.state.annotator, showing, answer, response_time(milliseconds))
        except KeyError as error:
            raise HTTPException(404) from error
        return self._ballot(request, turn)

    def undo(self, request: Request) -> Response:
        """The last answer is taken back."""
        return self._ballot(request, self.assignment.undo(request.state.annotator))

    def picture(self, request: Request, showing: str, side: str) -> Response:
        """One of the two pictures of a showing of one's own."""
        try:
            left = {"left": True, "right": False}[side]
            data = self.pictures.of(self.assignment.showing(request.state.annotator, showing), left)
        except KeyError as error:
            raise HTTPException(404) from error
        return Response(data, media_type="image/webp", headers=KEPT)

    def static(self, name: str) -> Response:
        """Script, style and icon."""
        if name not in self.files:
            raise HTTPException(404)
        return Response(self.files[name], media_type=TYPES[Path(name).suffix], headers=KEPT)

    def _ballot(self, request: Request, turn: Turn) -> Response:
        """The part of the page that changes; a browser without scripts gets the whole page again."""
        if not by_script(request):
            return RedirectResponse("/", 303)
        return self._render("ballot.html", **self._view(turn))

    def _render(self, template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(template).render(**values))

    def _view(self, turn: Turn) -> Mapping[str, Any]:
        """What the templates show of a turn."""
        pair = self.pictures.pairs[turn.showing.pair_id] if turn.showing else None
        pace = turn.seconds_a_pair
        return {
            "turn": turn,
            "pair": pair,
            "small": bool(pair and 0 < max(pair.width, pair.height) <= SMALL),
            "a_minute": round(60 / pace) if pace else None,
            "minutes": round(pace * (turn.total - turn.done) / 60) if pace else None,
            "blur": self.look.blur,
        }


def broken(request: Request, error: Exception) -> Response:  # noqa: ARG001 (FastAPI gives both)
    """What a page hears of a picture that cannot be read, or of a full disk."""
    return PlainTextResponse("This could not be read or saved. What was saved before is safe.", 500)


def by_script(request: Request) -> bool:
    """Whether htmx asks, which takes a part of a page."""
    return "hx-request" in request.headers


def response_time(sent: str) -> int | None:
    """The milliseconds that a page measured; None for what is none, or longer than an hour."""
    return int(sent) if sent.isascii() and sent.isdecimal() and int(sent[:9]) <= LONGEST and len(sent) < 9 else None


def default_instructions() -> str:
    """What is said before the first pair, when the study says nothing of its own."""
    return _folder("templates").joinpath("instructions.md").read_text(encoding="utf-8")


def _folder(name: str) -> Path:
    return Path(str(resources.files("aifeedback_dpo.annotate"))) / name
