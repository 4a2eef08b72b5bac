"""What the apps of this benchmark answer, and when each part of it left them, by the machine's monotonic clock.

An answer is so many numbered tokens as its prompt says in double square brackets. Notes go to the file in
APP_LEDGER, one JSON object a line: {"prompt", "at"} when an app has a prompt, {"token", "at"} when a token leaves
its server, {"over"} when an answer does. Needs nothing that not every environment has.
"""

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
    return f"token{number} "


def tokens(prompt: str) -> list[str]:
    """Note a prompt that came, and return its answer."""
    note_prompt(prompt, time.monotonic())
    wanted = _WANTED.search(prompt)
    return [token(number) for number in range(int(wanted[1]) if wanted else 5)]


def note_prompt(prompt: str, at: float) -> None:
    _seen.clear()
    _note(prompt=hashlib.sha256(prompt.encode()).hexdigest(), at=at)


def note_over() -> None:
    _note(over=True)


def note_sent(data: bytes, at: float) -> None:
    """Note the tokens in what was sent that were not sent before."""
    for number in map(int, _TOKEN.findall(data)):
        if number not in _seen:
            _seen.add(number)
            _note(token=number, at=at)


def _note(**fields: object) -> None:
    with open(os.environ["APP_LEDGER"], "a", encoding="utf-8") as ledger:  # noqa: PTH123 - quicker, and it counts here
        ledger.write(json.dumps(fields) + "\n")


class Stamped:
    """ASGI middleware: notes what leaves the server, by the time at which it does."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        async def stamped(message: Message) -> None:
            at = time.monotonic()
            await send(message)
            data = message.get("body") or message.get("bytes") or (message.get("text") or "").encode()
            note_sent(data, at)

        await self._app(scope, receive, stamped)
