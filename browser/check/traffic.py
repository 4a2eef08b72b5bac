"""What the page asked for over the network, seen from outside: to find out why an answer was not caught."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page, Request, Response, WebSocket

from browser.site.schema import Network, glob_to_regex

_SHOWN = 8
_OF_INTEREST = {"fetch", "xhr", "eventsource", "websocket", "other"}
_STREAMED = {"text/event-stream": "sse", "application/x-ndjson": "jsonl", "application/jsonl": "jsonl"}


@dataclass
class Asked:
    """One request; `at_s` in seconds since the check began, `status` None as long as nothing came back."""

    at_s: float
    kind: str
    method: str
    url: str
    status: int | None = None
    content_type: str = ""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        query = "?…" if parts.query else ""
        came = f"{self.status} {self.content_type}".strip() if self.status else "no response yet"
        return f"{self.method} {parts.scheme}://{parts.netloc}{parts.path}{query}  ({self.kind}: {came})"


class Traffic:
    """The requests of one page, in order."""

    def __init__(self, page: Page) -> None:
        self._began = time.monotonic()
        self._asked: list[Asked] = []
        self._by_request: dict[Request, Asked] = {}
        self._mark = 0
        page.on("request", self._note)
        page.on("response", self._answered)
        page.on("websocket", self._opened)

    def _note(self, request: Request) -> None:
        asked = Asked(self._now(), request.resource_type, request.method, request.url)
        self._by_request[request] = asked
        self._asked.append(asked)

    def _answered(self, response: Response) -> None:
        if asked := self._by_request.get(response.request):
            asked.status = response.status
            asked.content_type = response.headers.get("content-type", "").partition(";")[0].strip()

    def _opened(self, socket: WebSocket) -> None:
        self._asked.append(Asked(self._now(), "websocket", "GET", socket.url, 101))

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def mark(self) -> None:
        """From here on `hints` speaks of what comes."""
        self._mark = len(self._asked)

    def hints(self, network: Network) -> list[str]:
        """Say how what the page asked for misses what the site file expects, else what it asked for since the mark."""
        lines = self.misfits(network)
        if lines:
            return lines
        seen = [asked for asked in self._asked[self._mark :] if asked.kind in _OF_INTEREST]
        if network.kind == "websocket":
            seen = [asked for asked in self._asked if asked.kind == "websocket"]
        what = "websockets of the page" if network.kind == "websocket" else "what the page asked for after the send"
        more = [f"  and {len(seen) - _SHOWN} more"] if len(seen) > _SHOWN else []
        return [f"{what}: {len(seen) or 'nothing'}", *(f"  {asked}" for asked in seen[:_SHOWN]), *more]

    def misfits(self, network: Network) -> list[str]:
        """Say of each request that has the address wanted what else about it is not as wanted."""
        fitting = re.compile(glob_to_regex(network.url))
        lines = [misfit(asked, network) for asked in self._asked if fitting.match(asked.url)]
        return list(dict.fromkeys(filter(None, lines)))

    def as_jsonl(self) -> bytes:
        return b"".join(json.dumps(vars(asked), ensure_ascii=False).encode() + b"\n" for asked in self._asked)


def misfit(asked: Asked, network: Network) -> str:
    """Say what of a request that has the address wanted is not as wanted, if anything."""
    if (asked.kind == "websocket") != (network.kind == "websocket"):
        wanted = "websocket" if asked.kind == "websocket" else "sse or jsonl"
        return f"capture.network.url fits {asked}, but kind is {network.kind!r}; expected {wanted}"
    if network.method and network.method != asked.method:
        return f"capture.network.url fits {asked}, but method is {network.method!r}"
    kind = _STREAMED.get(asked.content_type)
    if kind and kind != network.kind:
        return f"capture.network.url fits {asked}, but kind is {network.kind!r}; expected {kind!r}"
    return ""


def plain(value: Any, limit: int = 160) -> str:
    """Return text for one line of the screen: shortened, without control characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(character if character.isprintable() else "␤" if character == "\n" else " " for character in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
