"""How both programs serve HTTP with uvicorn.

Import it only to serve: a child starts its browser first, and that does not wait for uvicorn's import.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from contract.http_protocol import ConnectionLimits, HttpProtocol
from contract.listener import BACKLOG
from contract.logs import AtMostEvery

log = structlog.get_logger(__name__)

GRACE_S: Final = 2
"""How long uvicorn waits for connections at its end: a backstop, for every request has ended before it is told to."""

_ACCEPT_FAILED: Final = "socket.accept() out of system resource"
_accept_failed: Final = AtMostEvery(1.0)


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals alone.

    uvicorn's own handlers refuse connections at once, while running answers are still to be finished.
    `protocol` serves one connection within `limits`; `options` are further ones of `uvicorn.Config`.
    """

    def __init__(
        self, app: ASGIApp, *, limits: ConnectionLimits, protocol: type[HttpProtocol] = HttpProtocol, **options: Any
    ) -> None:
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

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on these sockets until told to end."""
        asyncio.get_running_loop().set_exception_handler(_on_loop_error)
        await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handler."""
        yield


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task will see; one line a second where connections cannot be accepted.

    asyncio tries again after a second, but reports each connection that it would have taken.
    """
    if context.get("message") != _ACCEPT_FAILED:
        loop.default_exception_handler(context)
    elif _accept_failed.due():
        log.error("accept_failed", error=getattr(context.get("exception"), "strerror", None))
