"""Every response names its request, also where no route had it: callers quote that id, and logs have it."""

from __future__ import annotations

import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.child_api import REQUEST_ID_HEADER

_NAME: Final = REQUEST_ID_HEADER.encode()


class RequestIds:
    """An ASGI application that gives the responses of another one an id, those that have none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if all(name.lower() != _NAME for name, _ in headers):
                    message["headers"] = [*headers, (_NAME, secrets.token_hex(16).encode())]
            await send(message)

        await self._app(scope, receive, send_named)
