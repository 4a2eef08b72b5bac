"""How both programs serve HTTP with uvicorn.

Import it only to serve: a child starts its browser first, and that does not wait for uvicorn's import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from contract.http_protocol import HttpProtocol
from contract.listener import BACKLOG

GRACE_S: Final = 2
"""How long uvicorn waits for connections at its end: a backstop, for every request has ended before it is told to."""

_KEEP_ALIVE_S: Final = 75  # whoever calls keeps an idle connection for less, so that none dies in use


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals alone.

    uvicorn's own handlers refuse connections at once, while running answers are still to be finished.
    `protocol` serves one connection, of which a peer that does not read has `write_timeout_s` seconds; `options` are
    further ones of `uvicorn.Config`.
    """

    def __init__(
        self, app: ASGIApp, *, write_timeout_s: float, protocol: type[HttpProtocol] = HttpProtocol, **options: Any
    ) -> None:
        http: Any = partial(protocol, write_timeout_s=write_timeout_s)  # uvicorn only calls it
        super().__init__(
            uvicorn.Config(
                app,
                http=http,
                loop="asyncio",  # uvloop refuses handlers of SIGCHLD, which process 1 needs
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                **options,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handler."""
        yield
