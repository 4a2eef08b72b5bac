"""A login's cookie that changes with each load of the page, for apps that never change theirs by themselves."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any

from answers import record  # type: ignore[import-not-found]

ROTATES = "APP_ROTATES" in os.environ

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RotatingCookie:
    """ASGI middleware around an app: whoever loads `/` gets a new token, by `renew`, in place of the old one.

    The token before the newest still holds, and is given the same next one again: its response may have been lost. An
    older one gets 401 and an entry in the ledger, for it was in use before and has come back. `cookie` is how the
    cookie's name begins; `renew` returns None for what is no login.
    """

    def __init__(
        self, app: Callable[[Message, Receive, Send], Awaitable[None]], cookie: str, renew: Callable[[str], str | None]
    ) -> None:
        self._app, self._cookie, self._renew = app, cookie, renew
        self._next: dict[str, str] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        name, token = self._login(scope) if scope["type"] == "http" else ("", "")
        if self._next.get(self._next.get(token, ""), ""):
            record(spent=token[-8:])
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if not token or (scope["method"], scope["path"]) != ("GET", "/"):
            await self._app(scope, receive, send)
            return
        following = self._next.get(token) or self._renew(token)
        if following:
            self._next[token] = following

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and following:
                header = f"{name}={following}; Path=/; HttpOnly; SameSite=Lax".encode()
                message["headers"] = [*message["headers"], (b"set-cookie", header)]
            await send(message)

        await self._app(scope, receive, send_with_cookie)

    def _login(self, scope: Message) -> tuple[str, str]:
        cookies = SimpleCookie(
            "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
        )
        return next(((name, one.value) for name, one in cookies.items() if name.startswith(self._cookie)), ("", ""))
