"""Frames: the pieces in which the hook sends what the page receives, and the feed that brings those of one answer.

A frame is a binary message: the answer's nonce (16 ASCII bytes), a sequence number and a stream number (unsigned
32 bits, big-endian), a kind (8 bits), and the payload. The sender is browser/capture/hook.js.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from contract.errors import TabfleetError

TURN_FRAMES = 64
"""After so many frames in a row whoever handles them lets other tasks have a turn: none may wait for a whole burst."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
_HEADER = struct.Struct(">16sIIB")


class FrameKind(IntEnum):
    """What a frame carries; the numbers are hook.js's.

    A stream is one response body, EventSource or WebSocket of the page. OPEN, CHUNK, END and BROKEN tell of a body
    (END also of a WebSocket that closed); EVENT is one message that the page received whole. The frames named DOM_
    tell what the page shows; LOOK is the answer to a look of the child (`browser.capture.look_channel`).
    """

    ARMED = 0
    OPEN = 1
    CHUNK = 2
    END = 3
    BROKEN = 4
    EVENT = 5
    DOM_ADD = 6
    DOM_SET = 7
    DOM_DONE = 8
    DOM_ERROR = 9
    LOGIN_LOST = 10
    DOM_REASONING = 11
    LOOK = 12
    GAP = 255  # made in this process: some frame of the answer was lost


@dataclass(frozen=True)
class Frame:
    """One frame. `stream` tells the page's bodies and sockets apart; 0 is none of them."""

    kind: FrameKind
    stream: int = 0
    payload: bytes = b""

    @property
    def text(self) -> str:
        """The payload as text; bytes that are not UTF-8 are replaced."""
        return self.payload.decode("utf-8", "replace")


class BadFrame(TabfleetError):
    """A message is not a frame."""


def unpack(message: bytes) -> tuple[bytes, int, Frame]:
    """Return a message's nonce, sequence number and frame. Raises BadFrame."""
    try:
        nonce, sequence, stream, kind = _HEADER.unpack_from(message)
        return nonce, sequence, Frame(FrameKind(kind), stream, message[_HEADER.size :])
    except (struct.error, ValueError):
        raise BadFrame("a message of the page is not a frame") from None


class Feed:
    """The frames of one answer, in order and without a hole: a hole is a frame of the kind GAP."""

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self._items: deque[Frame | Exception] = deque()
        self._arrived = asyncio.Event()
        self._connection: object = None
        self._next_sequence = 0
        self._waiting_bytes = 0
        self._has_gap = False
        self._taken = 0

    def deliver(self, connection: object, sequence: int, frame: Frame) -> None:
        """Take a frame from a connection. The first connection to deliver is the answer's; others are ignored."""
        if self._connection is None:
            self._connection = connection
        if self._connection is not connection or self._has_gap:
            return
        # A page can send faster than anybody reads: past the limit the rest counts as lost.
        if sequence != self._next_sequence or self._waiting_bytes > MAX_WAITING_BYTES:
            self._lose()
            return
        self._next_sequence += 1
        self.put(frame)

    def closed(self, connection: object) -> None:
        """Note that a connection is gone: the rest of an answer that came over it is lost."""
        if self._connection is connection and not self._has_gap:
            self._lose()

    def _lose(self) -> None:
        self._has_gap = True
        self.put(Frame(FrameKind.GAP))

    def put(self, item: Frame | Exception) -> None:
        """Add a frame that did not come over the port, or an error for `next` to raise."""
        if isinstance(item, Frame):
            self._waiting_bytes += len(item.payload)
        self._items.append(item)
        self._arrived.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait up to timeout_s seconds for a frame to be there. Returns whether one is."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    async def next(self) -> Frame:
        """Return the next frame. Raises the error that was put in its place."""
        await self._arrived.wait()
        self._taken += 1
        if self._taken % TURN_FRAMES == 0:
            await asyncio.sleep(0)  # before a frame is taken: a cancellation here loses none
        item = self._items.popleft()
        if not self._items:
            self._arrived.clear()
        if isinstance(item, Exception):
            raise item
        self._waiting_bytes -= len(item.payload)
        return item
