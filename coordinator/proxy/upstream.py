"""Connections from the proxy to the children."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

    @asynccontextmanager
    async def post(
        self, backend: Backend, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to this route; yield the response as soon as its head is there, and close it in the end.

        Raises UpstreamBroken, also in place of what reading the response raises.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
                # No total timeout: a long answer is no stalled one. StallWatch tells the two apart.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        address = backend.url + path
        url = self._urls.get(address)
        if url is None:
            url = self._urls[address] = URL(address)
        # aiohttp warns of large bytes, because it writes them in one go.
        data = body if len(body) < _LARGE_BYTES else io.BytesIO(body)
        try:
            response = await self._session.post(url, data=data, headers=headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise UpstreamBroken(delivered=False) from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamBroken from None
        try:
            # No child redirects. Our server knows no status above 599, and would cut the connection to the client.
            if response.status // 100 not in (2, 4, 5):
                raise UpstreamBroken(answered=True)
            yield response
        except (aiohttp.ClientError, OSError):
            raise UpstreamBroken(answered=True) from None
        finally:
            response.close()  # does nothing to a connection that is fit for the next request

    async def close(self) -> None:
        """Close all connections; idempotent."""
        if self._session is not None:
            await self._session.close()
