"""What the page requested over the network, seen from outside: to find out why an answer was not caught."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from playwright.async_api import Page, Request, Response, WebSocket

from browser.capture.framing import WIRE_FORMATS
from browser.check.diagnosis import Diagnosis
from browser.site.schema import Network, SendRequest, glob_to_regex

MAX_SHOWN = 8
_OF_INTEREST = {"fetch", "xhr", "eventsource", "websocket", "other"}
_STREAMED = {"text/event-stream": "sse", "application/x-ndjson": "jsonl", "application/jsonl": "jsonl"}


@dataclass
class PageRequest:
    """One request of the page; `at_s` in seconds since the check began, `status` None until something came back."""

    at_s: float
    kind: str
    method: str
    url: str
    status: int | None = None
    content_type: str = ""

    def __str__(self) -> str:
        """Return it for the screen, without the query: that may hold a secret."""
        parts = urlsplit(self.url)
        query = "?…" if parts.query else ""
        came = f"{self.status} {self.content_type}".strip() if self.status else "no response yet"
        return f"{self.method} {parts.scheme}://{parts.netloc}{parts.path}{query}  ({self.kind}: {came})"


class Traffic:
    """The requests of one page, in order."""

    def __init__(self, page: Page) -> None:
        self._began = time.monotonic()
        self._requests: list[PageRequest] = []
        self._by_request: dict[Request, PageRequest] = {}
        self._mark = 0
        page.on("request", self._on_request)
        page.on("response", self._on_response)
        page.on("websocket", self._on_websocket)

    def _on_request(self, request: Request) -> None:
        noted = PageRequest(self._now(), request.resource_type, request.method, request.url)
        self._by_request[request] = noted
        self._requests.append(noted)

    def _on_response(self, response: Response) -> None:
        if noted := self._by_request.get(response.request):
            noted.status = response.status
            noted.content_type = response.headers.get("content-type", "").partition(";")[0].strip()

    def _on_websocket(self, socket: WebSocket) -> None:
        self._requests.append(PageRequest(self._now(), "websocket", "GET", socket.url, 101))

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def mark(self) -> None:
        """Begin a new answer: `requests` tells of what comes from here on."""
        self._mark = len(self._requests)

    def requests(self, network: Network) -> list[str]:
        """Return lines for the screen: what the page requested since the mark, or all of its websockets."""
        seen = self._since_mark()
        over_websocket = WIRE_FORMATS[network.kind].source == "websocket"
        if over_websocket:  # it may have been opened long before the prompt
            seen = [noted for noted in self._requests if noted.kind == "websocket"]
        what = "websockets of the page" if over_websocket else "what the page asked for after the send"
        return _lines(what, seen)

    def sent(self) -> list[str]:
        """Return lines for the screen: what the page requested since the mark."""
        return _lines("what the page asked for after the send", self._since_mark())

    def _since_mark(self) -> list[PageRequest]:
        return [noted for noted in self._requests[self._mark :] if noted.kind in _OF_INTEREST]

    def has_sent(self, wanted: SendRequest) -> bool:
        """Return whether the page has made this request since the mark."""
        url = re.compile(glob_to_regex(wanted.url))
        requests = self._requests[self._mark :]
        return any(noted.method == wanted.method and url.match(noted.url) for noted in requests)

    def mismatch(self, network: Network) -> Diagnosis:
        """Say of each request that has the address wanted what else about it is not as wanted.

        Nothing, if one is as wanted: some pages use an address in several ways, as socket.io does for long polling.
        """
        wanted = re.compile(glob_to_regex(network.url))
        found = [mismatch(noted, network) for noted in self._requests if wanted.match(noted.url)]
        return sum(found, Diagnosis()) if all(found) else Diagnosis()

    def as_jsonl(self) -> bytes:
        """Return all requests, a JSON object a line."""
        return b"".join(json.dumps(vars(noted)).encode() + b"\n" for noted in self._requests)


def _lines(what: str, seen: list[PageRequest]) -> list[str]:
    more = [f"  and {len(seen) - MAX_SHOWN} more"] if len(seen) > MAX_SHOWN else []
    return [f"{what}: {len(seen) or 'nothing'}", *(f"  {noted}" for noted in seen[:MAX_SHOWN]), *more]


def mismatch(request: PageRequest, network: Network) -> Diagnosis:
    """Say what of a request that has the address wanted is not as wanted, if anything."""
    fits = f"capture.network.url fits {request}, but"
    source = WIRE_FORMATS[network.kind].source
    if (request.kind == "websocket") != (source == "websocket"):
        wanted = "websocket" if request.kind == "websocket" else "sse or jsonl"
        return Diagnosis((f"{fits} kind is {network.kind!r}; expected {wanted}",), ("capture.network.kind",))
    if network.method and network.method != request.method:
        return Diagnosis((f"{fits} method is {network.method!r}",), ("capture.network.method",))
    kind = _STREAMED.get(request.content_type)
    if kind and kind != source:
        return Diagnosis((f"{fits} kind is {network.kind!r}; expected {kind!r}",), ("capture.network.kind",))
    return Diagnosis()
