"""A receiver of webhooks on loopback, which verifies each with the library of Standard Webhooks."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from standardwebhooks import Webhook

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE="
URL_TOKEN: Final = "canary-url-token-1d77"
Answer = Callable[["_Handler"], None]


@dataclass
class Received:
    """One request as it came; `body` is the JSON, which was verified."""

    path: str
    headers: dict[str, str]
    raw: bytes
    body: dict[str, Any]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class WebhookServer:
    """What came, all of it and what was taken with 2xx; `answers` are given first, then 204."""

    url: str
    received: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)
    released: threading.Event = field(default_factory=threading.Event)
    """Ends what hangs."""

    def kinds(self) -> list[str]:
        return [one.body["type"] for one in self.taken]

    def told(self) -> list[tuple[str, str | None, str | None]]:
        """Kind, child or site, and what it recovered from, of each alert that was taken."""
        data = [(one.body["type"], one.body["data"]) for one in self.taken]
        return [(kind, what.get("child") or what.get("site"), what.get("recovered_from")) for kind, what in data]


def status(code: int, **headers: str) -> Answer:
    def answer(handler: _Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return answer


def closes(handler: _Handler) -> None:
    """Say nothing, and close."""
    handler.close_connection = True


def hangs(handler: _Handler) -> None:
    """Say nothing, and keep the connection until the server ends."""
    handler.server.kept.released.wait(60)  # type: ignore[attr-defined]
    handler.close_connection = True


def endless(handler: _Handler) -> None:
    """Take it, and send a body until the other end has had enough."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)
    handler.close_connection = True


def not_http(handler: _Handler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        kept: WebhookServer = self.server.kept  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = Webhook(SECRET).verify(raw, headers)
        except Exception as error:  # noqa: BLE001 - a test looks at `wrong`
            kept.wrong.append(repr(error))
            status(401)(self)
            return
        one = Received(self.path, headers, raw, body)
        kept.received.append(one)
        answer = kept.answers.popleft() if kept.answers else None
        if answer is None or answer is endless:
            kept.taken.append(one)
        (answer or status(204))(self)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    kept: WebhookServer

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no failure of a test."""


@contextlib.contextmanager
def webhook_server(
    *, port: int = 0, kept: WebhookServer | None = None, certificate: tuple[Path, Path] | None = None
) -> Iterator[WebhookServer]:
    """A receiver that runs in a thread; `kept` goes on with what an earlier one on this port got."""
    server = _Server(("127.0.0.1", port), _Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if certificate else "http"
    server.kept = kept or WebhookServer(f"{scheme}://127.0.0.1:{server.server_port}/hook?token={URL_TOKEN}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.kept
    finally:
        server.kept.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def write_secret(folder: Path) -> Path:
    path = folder / "alert-secret"
    path.write_text(f"{SECRET}\n")
    return path
