"""How both programs serve HTTP with uvicorn.

Import it only to serve: a child starts its browser first, and that does not wait for uvicorn's import.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from contract.http_protocol import ConnectionLimits, HttpProtocol
from contract.listener import BACKLOG
from contract.logs import AtMostEvery

log = structlog.get_logger(__name__)

GRACE_S: Final = 2
"""How long uvicorn waits for connections at its end: a backstop, for every request has ended before it is told to."""

_ACCEPT_FAILED: Final = "socket.accept() out of system resource"
_accept_failed: Final = AtMostEvery(1.0)


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals alone, and does nothing while nobody asks it.

    uvicorn's own handlers refuse connections at once, while running answers are still to be finished. Its own loop
    wakes ten times a second, to see whether it is to end and to write the date: half of what an idle child costs.
    `protocol` serves one connection within `limits`; `options` are further ones of `uvicorn.Config`.
    """

    def __init__(
        self, app: ASGIApp, *, limits: ConnectionLimits, protocol: type[HttpProtocol] = HttpProtocol, **options: Any
    ) -> None:
        self._ending = asyncio.Event()
        idle: dict[HttpProtocol, None] = {}
        http: Any = partial(protocol, limits=limits, idle=idle)  # uvicorn only calls it
        keep_alive_s: Any = limits.keep_alive_s  # uvicorn's type says int, and its loop takes any number
        super().__init__(
            uvicorn.Config(
                app,
                http=http,
                ws="none",
                loop="asyncio",  # uvloop refuses handlers of SIGCHLD, which process 1 needs
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=keep_alive_s,
                timeout_graceful_shutdown=GRACE_S,
                **options,
            )
        )
        self.server_state = _DatedState()

    @property
    def should_exit(self) -> bool:
        """Whether it is told to end. To be set in the thread of the event loop."""
        return self._ending.is_set()

    @should_exit.setter
    def should_exit(self, ends: bool) -> None:
        if ends:
            self._ending.set()
        else:
            self._ending.clear()

    async def main_loop(self) -> None:
        """Wait until told to end."""
        await self._ending.wait()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on these sockets until told to end."""
        asyncio.get_running_loop().set_exception_handler(_on_loop_error)
        await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handler."""
        yield


class _DatedState(ServerState):
    """A server's state whose date header (RFC 9110, 6.6.1) is that of the moment in which an answer begins."""

    def __init__(self) -> None:
        self._second = -1
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer: the date, made once a second at most."""
        if (second := int(time.time())) != self._second:
            self._second = second
            self._headers = [(b"date", formatdate(second, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task will see; one line a second where connections cannot be accepted.

    asyncio tries again after a second, but reports each connection that it would have taken.
    """
    if context.get("message") != _ACCEPT_FAILED:
        loop.default_exception_handler(context)
    elif _accept_failed.due():
        log.error("accept_failed", error=getattr(context.get("exception"), "strerror", None))
