"""Connections from the proxy to the children."""

from __future__ import annotations

import io
from collections.abc import Iterable
from types import TracebackType
from typing import Final

import aiohttp
from yarl import URL

from coordinator.errors import UpstreamBroken
from coordinator.proxy.pool import Backend

_KEEP_ALIVE_S: Final = 15  # far below the 75 s that children keep a connection: none dies in use
_CONNECT_TIMEOUT_S: Final = 5.0
_LARGE_BYTES: Final = 1024 * 1024


class Upstream:
    """One pool of connections to all children. Opened by the first request, inside the loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}  # parsed once for each route of a child, not for each request

    def post(self, backend: Backend, path: str, headers: list[tuple[str, str]], body: bytes) -> _Post:
        """Send a request to this route; yield the response as soon as its head is there, and close it in the end.

        Raises UpstreamBroken, also in place of what reading the response raises.
        """
        address = backend.url + path
        url = self._urls.get(address)
        if url is None:
            url = self._urls[address] = URL(address)
        return _Post(self._open(), url, headers, body)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
                # No total timeout: a long answer is no stalled one. StallWatch tells the two apart.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                request_class=_Request,
            )
        return self._session


class _Request(aiohttp.ClientRequest):
    """A request with no headers but those it is given. `skip_auto_headers` does that too, at some 4 us a request."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add none."""


class _Post:
    """One request; see Upstream.post. A class: `asynccontextmanager` makes an async generator for each request."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, headers: list[tuple[str, str]], body: bytes) -> None:
        self._session, self._url, self._headers, self._body = session, url, headers, body
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        # aiohttp warns of large bytes, because it writes them in one go.
        data = self._body if len(self._body) < _LARGE_BYTES else io.BytesIO(self._body)
        try:
            response = await self._session.post(self._url, data=data, headers=self._headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise UpstreamBroken(delivered=False) from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamBroken from None
        # No child redirects. Our server knows no status above 599, and would cut the connection to the client.
        if response.status // 100 not in (2, 4, 5):
            response.close()
            raise UpstreamBroken(answered=True)
        self._response = response
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.close()  # does nothing to a connection that is fit for the next request
        if isinstance(error, (aiohttp.ClientError, OSError)):
            raise UpstreamBroken(answered=True) from None
