"""Answers of the apps of this benchmark, and a record of when they are sent, by CLOCK_MONOTONIC.

An answer has as many numbered tokens as `[[tokens=N ...]]` in its prompt says. The file APP_LEDGER gets a JSON object
per line: {"prompt", "at"} when an app receives a prompt, {"token", "at"} when its server sends a token, {"over"} at the
end of an answer. This module runs in the apps' own environments, so it imports the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

USERNAME, PASSWORD = "ada", "lovelace"
PAUSE_S = 0.02
_WANTED = re.compile(r"\[\[tokens=(\d+)")
_TOKEN = re.compile(rb"token(\d+) ")

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
_seen: set[int] = set()


def token(number: int) -> str:
    """Return the text of a token."""
    return f"token{number} "


def tokens(prompt: str) -> list[str]:
    """Record a prompt, and return the tokens of its answer."""
    record_prompt(prompt, time.monotonic())
    wanted = _WANTED.search(prompt)
    return [token(number) for number in range(int(wanted[1]) if wanted else 5)]


def record_prompt(prompt: str, at: float) -> None:
    """Record when a prompt was received, a time.monotonic()."""
    _seen.clear()
    _record(prompt=hashlib.sha256(prompt.encode()).hexdigest(), at=at)


def record_end() -> None:
    """Record the end of an answer."""
    _record(over=True)


def record_sent(data: bytes, at: float) -> None:
    """Record the tokens in these bytes that were not sent before."""
    for number in map(int, _TOKEN.findall(data)):
        if number not in _seen:
            _seen.add(number)
            _record(token=number, at=at)


def _record(**fields: object) -> None:
    with open(os.environ["APP_LEDGER"], "a", encoding="utf-8") as ledger:  # noqa: PTH123 - faster than Path.open(), and inside the measurement
        ledger.write(json.dumps(fields) + "\n")


class TimestampMiddleware:
    """ASGI middleware that records the tokens in what the server sends."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        async def send_and_record(message: Message) -> None:
            at = time.monotonic()
            await send(message)
            data = message.get("body") or message.get("bytes") or (message.get("text") or "").encode()
            record_sent(data, at)

        await self._app(scope, receive, send_and_record)
