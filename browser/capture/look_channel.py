"""Looks at the page over the hook's own connection, past the browser's driver.

The child sends an empty message over the hook's WebSocket. The hook (browser/capture/hook.js) answers each, in their
order, with a frame (`browser.capture.frames`) of the kind LOOK, which has the channel's nonce, a number that counts the
answers, and what dom.js's `look` found as JSON, nothing where the look failed; or with an empty message where it found
the same as before. Answer 0 it gives unasked, when it is told of the nonce. Of empty messages Playwright's driver tells
the child nothing: what it tells costs both of them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

Send = Callable[[str], Awaitable[None]]
LAST_NUMBER = 2**32 - 1


class LookChannel:
    """Asks the hook of one document, as long as that has its connection.

    Its nonce is known to the hook of that document and to nobody else: no other document's answer is taken for its.
    """

    def __init__(self) -> None:
        self.nonce = secrets.token_hex(8)
        self._connection: object = None
        self._send: Send | None = None
        self._number = 0
        self._awaited: dict[int, asyncio.Future[bytes]] = {}
        self._answered = -1
        self._found = b""
        self._late: int | None = None
        """The last answer that must come before others are asked for."""

    @property
    def is_open(self) -> bool:
        """Whether the hook has answered once over a connection that it still has."""
        return self._send is not None

    async def look(self, timeout_s: float) -> dict[str, Any] | None:
        """Return what the hook sees now; None if it cannot look, or does not answer within timeout_s seconds.

        Where an answer is late none is asked for until it has come: answers are told apart by their order alone.
        """
        if self._send is None or self._late is not None:
            return None
        self._number = number = (self._number + 1) & LAST_NUMBER
        answer = self._awaited[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send("")
                return _parsed(await answer)
        except TimeoutError:
            if self._answered != self._number:
                self._late = self._number
            return None
        except ConnectionError:
            self.close()
            return None
        finally:
            self._awaited.pop(number, None)

    def take(self, connection: object, number: int, found: bytes, send: Send) -> None:
        """Take an answer from a connection. The first to answer, as the hook does unasked, is the document's."""
        if self._connection is None:
            self._connection, self._send = connection, send
        if self._is_asked(connection) and number == self._next_number:
            self._found = found
            self._note_answer()

    def take_same(self, connection: object) -> bool:
        """Take the answer that all is as it was; return whether it was asked for over this connection."""
        is_asked = self._is_asked(connection) and self._answered >= 0
        if is_asked:
            self._note_answer()
        return is_asked

    def _is_asked(self, connection: object) -> bool:
        return self._connection is connection and self._answered != self._number

    @property
    def _next_number(self) -> int:
        return (self._answered + 1) & LAST_NUMBER

    def _note_answer(self) -> None:
        self._answered = self._next_number
        if self._answered == self._late:
            self._late = None
        answer = self._awaited.get(self._answered)
        if answer and not answer.done():
            answer.set_result(self._found)

    def closed(self, connection: object) -> None:
        """Note that a connection is gone."""
        if self._connection is connection:
            self.close()

    def close(self) -> None:
        """Ask nothing any more. A look that waits finds nothing."""
        self._connection, self._send = self, None  # no connection can take this one's place
        for answer in self._awaited.values():
            if not answer.done():
                answer.set_result(b"")


def _parsed(found: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        snapshot = json.loads(found)
        if isinstance(snapshot, dict):
            return snapshot
    return None
