"""A hub on this machine: the few answers of the real one that huggingface_hub asks for, over real HTTP."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@dataclass
class Hub:
    """Its address, repositories (`models/owner/name` or `datasets/owner/name` -> file -> content), what was asked, by whom."""

    address: str = ""
    repositories: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: bool = False
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def answer(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path and a posted body."""
        if self.broken:
            return 503, {}, b"{}"
        parts = [unquote(part) for part in path.strip("/").split("/")]
        is_question = parts[0] == "api"
        kind = parts[1] if is_question else ("datasets" if parts[0] == "datasets" else "models")
        rest = parts[2:] if is_question else (parts[1:] if parts[0] == "datasets" else parts)
        name, rest = f"{kind}/{'/'.join(rest[:2])}", rest[2:]
        if name not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}, b"{}"
        files = self.repositories[name]
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if name in self.gated and (rest[:1] == ["auth-check"] or not is_question):
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if is_question and rest[:1] == ["tree"]:
            return 200, {}, json.dumps(tree(files, "/".join(rest[2:]))).encode()
        if is_question and rest[:1] == ["paths-info"]:
            return 200, {}, json.dumps([entry(files, path) for path in files if path in body["paths"]]).encode()
        if is_question:
            siblings = [{"rfilename": path} for path in files]
            return (
                200,
                {},
                json.dumps({"id": "/".join(name.split("/")[1:]), "sha": COMMIT, "siblings": siblings}).encode(),
            )
        content = files.get("/".join(rest[2:]))
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        return 200, {"ETag": f'"{oid(content)}"', "X-Repo-Commit": COMMIT}, content


def tree(files: Mapping[str, bytes], folder: str) -> list[dict[str, Any]]:
    """All files and folders below a folder, whether it was asked for recursively or not."""
    below = [path for path in files if not folder or path.startswith(f"{folder}/")]
    folders = {path.rpartition("/")[0] for path in below} - {folder}
    return [{"type": "directory", "path": path, "oid": ""} for path in folders] + [entry(files, path) for path in below]


def entry(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(files[path]), "oid": oid(files[path])}


def oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the context lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
            posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = hub.answer(path, json.loads(posted or b"{}"))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
