"""Requests from the proxy to a child: which headers pass, and what can break."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from contract.child_api import TOKEN_HEADER

if TYPE_CHECKING:
    from coordinator.proxy.pool import Backend
    from coordinator.proxy.wire import Headers

REQUEST_ID: Final = b"x-request-id"
_CHAT_PATH: Final = "/v1/chat/completions"
_KEEP_ALIVE_S: Final = 15  # far below the 75 s that children keep a connection: none dies in use
_CONNECT_TIMEOUT_S: Final = 5.0
_LARGE_BYTES: Final = 1024 * 1024

# RFC 9110, section 7.6.1: these belong to one connection, not to the message.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_CONTROL_TOKEN: Final = TOKEN_HEADER.encode()
_NOT_SENT_ON: Final = _HOP_BY_HOP | {b"host", b"content-length", b"expect", REQUEST_ID, _CONTROL_TOKEN}
# The length too: a stream may end with one more event than the child sent.
_NOT_SENT_BACK: Final = _HOP_BY_HOP | {b"content-length", b"date", b"server", REQUEST_ID, _CONTROL_TOKEN}


class Broken(Exception):
    """The connection to a child broke before the answer was complete.

    `delivered` is False only if no byte of the request was sent; `answered` is True if the head of the
    response had come.
    """

    def __init__(self, *, delivered: bool = True, answered: bool = False) -> None:
        super().__init__("the connection to the child broke")
        self.delivered = delivered
        self.answered = answered


class Upstream:
    """One pool of connections to all children. Opened by the first request, inside the loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def post(self, backend: Backend, headers: list[tuple[str, str]], body: bytes) -> aiohttp.ClientResponse:
        """Send a chat request and wait for the head of the response. Raises Broken."""
        session = self._session or self._open()
        # aiohttp warns of large bytes, because it writes them in one go.
        data = body if len(body) < _LARGE_BYTES else io.BytesIO(body)
        try:
            return await session.post(self._url(backend), data=data, headers=headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise Broken(delivered=False) from None
        except (aiohttp.ClientError, OSError):
            raise Broken from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        return self._session

    def _url(self, backend: Backend) -> URL:
        url = self._urls.get(backend.url)
        if url is None:
            url = self._urls[backend.url] = URL(backend.url + _CHAT_PATH)
        return url


def request_headers(headers: Headers, backend: Backend, request_id: str) -> list[tuple[str, str]]:
    """What the child gets of the client's headers, with this request's id and the child's own token."""
    named = _named_by_connection(headers)
    passed = [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in headers
        if name not in _NOT_SENT_ON and name not in named
    ]
    return [*passed, ("x-request-id", request_id), (TOKEN_HEADER, backend.token)]


def response_headers(response: aiohttp.ClientResponse, request_id: bytes) -> Headers:
    """What the client gets of the child's headers, with this request's id."""
    lowered = [(name.lower(), value) for name, value in response.raw_headers]
    named = _named_by_connection(lowered)
    passed = [(name, value) for name, value in lowered if name not in _NOT_SENT_BACK and name not in named]
    passed.append((REQUEST_ID, request_id))
    return passed


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Further names that a Connection header makes hop-by-hop; mostly none."""
    for name, value in headers:
        if name == b"connection" and value not in (b"keep-alive", b"close"):
            return frozenset(token.strip().lower() for token in value.split(b","))
    return frozenset()
