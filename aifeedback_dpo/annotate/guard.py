"""What no request gets past: a name of this machine in Host, no other site behind a POST, a small body, an invitation.

Every answer carries the headers that keep a page to itself: a policy without inline scripts, no referrer, no sniffing.
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 4096
POLICY = (
    "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Invitations:
    """Who may come in. A person's link and cookie follow from the journal's secret, and cannot be guessed."""

    def __init__(self, secret: str, names: Iterable[str]) -> None:
        self._secret = secret.encode()
        self._links = {self.link(name): name for name in names}
        self._cookies = {self.cookie(name): name for name in self._links.values()}
        self.cookie_name = f"ddpo_{self._sign('cookie')[:8]}"  # so that studies on several ports do not mix

    def link(self, name: str) -> str:
        """The token in the link of a person."""
        return self._sign("link", name)

    def cookie(self, name: str) -> str:
        """The token in the cookie that the link is exchanged for."""
        return self._sign("session", name)

    def by_link(self, token: str) -> str | None:
        """Whose link this is."""
        return _match(self._links, token)

    def by_cookie(self, token: str) -> str | None:
        """Whose cookie this is."""
        return _match(self._cookies, token)

    def _sign(self, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:40]


class Guard:
    """ASGI middleware. The person who asks is in `request.state.annotator` behind it."""

    def __init__(self, app: ASGIApp, invitations: Invitations, hosts: Sequence[str]) -> None:
        self.app = app
        self.invitations = invitations
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope, receive)
        status, reason = self._refusal(request)
        body = b""
        if not status:
            body, too_large = await _read(receive)
            status, reason = (413, "The request is too large.") if too_large else (0, "")
        if status:
            await PlainTextResponse(reason, status)(scope, receive, guarded)
            return
        await self.app(scope, _replay(body, receive), guarded)

    def _refusal(self, request: Request) -> tuple[int, str]:
        """The status and the reason of a request that is not let in; 0 for one that is."""
        if not is_known_host(request.headers.get("host", ""), self.hosts):
            return 403, "This address is not one of this server's."
        if request.method not in ("GET", "HEAD") and not is_same_site(request.headers):
            return 403, "The request comes from another site."
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return 413, "The request is too large."
        by_link = request.url.path == "/" and "token" in request.query_params
        name = (
            self.invitations.by_link(request.query_params["token"])
            if by_link
            else self.invitations.by_cookie(request.cookies.get(self.invitations.cookie_name, ""))
        )
        if name is None:
            return 403, "Please open the link that you were given; without it this page stays closed."
        request.state.annotator = name
        return 0, ""


def is_known_host(header: str, hosts: Iterable[str]) -> bool:
    """Whether the Host header is an address, or a name of this machine: what a rebound name of elsewhere never is."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in hosts
    return True


def is_same_site(headers: Headers) -> bool:
    """Whether a POST comes from a page of this server, or from no page at all."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None or (origin == "null" and site == "same-origin"):  # browsers hide it where there is no referrer
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def own_names(host: str) -> list[str]:
    """The names by which this machine may be asked."""
    return ["localhost", host, socket.gethostname(), socket.getfqdn()]


def _match(known: dict[str, str], token: str) -> str | None:
    found = None
    for candidate, name in known.items():
        if hmac.compare_digest(candidate.encode(), token.encode()):
            found = name
    return found


async def _read(receive: Receive) -> tuple[bytes, bool]:
    """The whole body, or the news that it is too large."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return b"", True
        if message["type"] != "http.request" or not message.get("more_body"):
            return body, False


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
