"""A web on this machine: it serves what it is given, and fails in the way it is told."""

import contextlib
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Fault = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, answered by the web that it was made to."""

    protocol_version = "HTTP/1.1"
    web: "Web"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.web.requests.append((self.path, dict(self.headers), time.monotonic()))
        waiting = self.web.faults[path]
        fault = waiting.pop(0) if waiting else self.web.always.get(path)
        if fault is not None:
            fault(self)
        elif path in self.web.pages:
            self.serve(self.web.pages[path])
        else:
            self.answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def serve(self, body: bytes, *, etag: str | None = None) -> None:
        """The page, or the range of it that is asked for if the ETag is still the same."""
        etag = etag or self.web.etags.get(self.path, '"one"')
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range", etag) == etag:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
            if start >= len(body):
                self.answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
                return
            span = f"bytes {start}-{end}/{len(body)}"
            part = body[start : end + 1]
            self.answer(206, part, {"ETag": etag, "Content-Range": span})
            return
        self.answer(200, body, {"ETag": etag})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = self.web.types.get(self.path.partition("?")[0])
        named = {"Content-Length": str(len(body))} | (headers or {})
        for name, value in (named | ({"Content-Type": kind} if kind else {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # which `reset` means to bring about
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """What the server has: `pages` by path; `faults` are used up one a request, `always` stay."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.etags: dict[str, str] = {}
        self.faults: dict[str, list[Fault | None]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, dict[str, str], float]] = []
        handler = type("Handler", (Request,), {"web": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def asked(self, path: str) -> list[dict[str, str]]:
        """The headers of the requests for a path."""
        return [headers for one, headers, _ in self.requests if one.partition("?")[0] == path]


def status(number: int, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.answer(number, b"no", named)


def redirect(to: str) -> Fault:
    return status(302, Location=to)


def cut(body: bytes, at: int, *, etag: str = '"one"') -> Fault:
    """The whole is promised, the connection closed after `at` bytes of what was asked for."""

    def fault(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        rest = body[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(rest)))
        request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(rest[:at])
        request.close_connection = True

    return fault


def reset(request: Request) -> None:
    """The connection is reset before a word is said."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()


def drip(request: Request) -> None:
    """A byte now and then, for longer than anybody waits."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    try:
        for _ in range(400):
            request.wfile.write(b"x")
            time.sleep(0.02)
    except OSError:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web of one host, and turns at hosts that no other test takes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, args=(0.01,))
    thread.start()
    yield web
    web.server.shutdown()
    web.server.server_close()
    thread.join()


@pytest.fixture
def faults() -> dict[str, Callable[..., Fault] | Fault]:
    """The ways to fail, by name."""
    return {"status": status, "redirect": redirect, "cut": cut, "reset": reset, "drip": drip}
