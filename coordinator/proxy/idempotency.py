"""Answers to requests with an `Idempotency-Key`: recorded while they come, joined or replayed by their repeats.

The header: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/, as Stripe takes it:
any text, without quotes. All is held in memory, as digests but for the answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from anyio import CancelScope
from starlette.types import Message, Send

from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode, bad_request
from coordinator.proxy.exchange import RequestStats
from coordinator.proxy.headers import HeaderMap, Headers
from coordinator.proxy.repeats import caller_digest, repeated
from coordinator.proxy.response import Connection

REPLAYED_HEADER: Final = "idempotent-replayed"
"""Stands as `true` in a response that is that of an earlier request. https://docs.stripe.com/api/idempotent_requests"""

_KEY_HEADER: Final = b"idempotency-key"
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_PIECE_BYTES: Final = 1 << 18  # sent in one go; more waits for a client that reads slowly
_RECORD_BYTES: Final = 1024  # what one takes beside its body, roughly


def read_key(headers: HeaderMap) -> bytes | None:
    """Return the request's `Idempotency-Key`, None if it has none. Raises ApiError (400)."""
    given = headers.all(_KEY_HEADER)
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise bad_request("Idempotency-Key must be one header of 1 to 255 visible ASCII characters, without spaces.")
    return given[0]


def record_name(headers: HeaderMap, path: str, key: bytes) -> bytes:
    """Return the SHA-256 that stands for this key of this caller on this route."""
    return hashlib.sha256(caller_digest(headers, path) + key).digest()


@dataclass(frozen=True)
class RecordLimits:
    """How long an answer is kept after its end, in seconds, and how much of all answers, in bytes.

    Of an answer above `one_bytes`, and of the oldest ones above `all_bytes`, only the fact is kept; of `most` at most.
    """

    ttl_s: float = 600.0
    one_bytes: int = 8 * 1024 * 1024
    all_bytes: int = 64 * 1024 * 1024
    most: int = 100_000


class Record:
    """One answer, written once as ASGI messages and read by any number of clients, each at its own pace.

    To the response that is written here it is the `Connection` as well, one that no client leaves. `whole` means that
    the answer can be read from its beginning. One that grows above `limit_bytes` no longer can, and waits for those
    that read it.
    """

    lost = False
    stalled = False

    def __init__(self, name: bytes, body_digest: bytes, request_id: str, stats: RequestStats, limit_bytes: int) -> None:
        """`request_id` and `stats` are those of the request that is answered."""
        self.name, self.body_digest, self.request_id, self.stats = name, body_digest, request_id, stats
        self.whole = True
        self.ended = False  # with all that belongs to it
        self.cut = False
        self.closed = False  # nothing more is written
        self.refusal: ApiError | None = None
        self.start: Message | None = None
        self.readers: set[Reader] = set()
        self.expires_at = 0.0
        self._limit_bytes = limit_bytes
        self._body = bytearray()
        self._passed_bytes = 0  # read by all, and no longer in `_body`
        self._changed = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory."""
        return len(self._body) + _RECORD_BYTES

    # Writing

    async def send(self, message: Message) -> None:
        """Take the response's next ASGI message."""
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self._body += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self.wake()
        if len(self._body) > self._limit_bytes:
            self.whole = False
            while not self.ended and self._pass_read() > self._limit_bytes:
                await self.change()

    def abort(self) -> None:
        """Note that the response ends here, incomplete."""
        self.cut = True
        self.wake()

    def refuse(self, error: ApiError) -> None:
        """Note that nothing was sent but is to be this error."""
        self.refusal = error
        self.wake()

    def empty(self) -> None:
        """Keep only the fact that there was an answer, as soon as nobody reads it."""
        self.whole = False
        if not self.readers:
            self.start, self._body = None, bytearray()

    def _pass_read(self) -> int:
        """Drop what everybody has read; return how many bytes are left."""
        read = min((reader.at for reader in self.readers), default=self._passed_bytes + len(self._body))
        del self._body[: read - self._passed_bytes]
        self._passed_bytes = read
        return len(self._body)

    def call_when_lost(self, callback: Callable[[], None]) -> None:
        """Never call it: no client leaves."""

    def forget_when_lost(self, callback: Callable[[], None]) -> None:
        """Nothing is to be forgotten."""

    # Reading

    def piece(self, at: int) -> tuple[bytes, bool]:
        """Return what there is from this byte on, and whether it is the last of it."""
        begin = at - self._passed_bytes
        piece = bytes(self._body[begin : begin + _PIECE_BYTES])
        return piece, self.ended and begin + len(piece) == len(self._body)

    async def change(self) -> None:
        """Wait until it has gone on, or somebody has read."""
        await self._changed.wait()

    def leave(self, reader: Reader) -> None:
        """Read no longer."""
        self.readers.discard(reader)
        self.wake()
        if self.closed and not self.whole:
            self.empty()

    def wake(self) -> None:
        """Let all look again that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


class Reader:
    """One client of a record, from the record's first byte. It counts as reading from its making until `play` ends."""

    def __init__(self, record: Record) -> None:
        self.at = 0
        self.record = record
        record.readers.add(self)

    async def play(self, send: Send, connection: Connection, more: Callable[[], Headers]) -> bool:
        """Send the answer with these further headers; return whether the client stayed to its end.

        Raises ApiError for an answer that is one, and of which nothing was sent.
        """
        stayed = False
        try:
            with CancelScope() as scope:
                connection.call_when_lost(scope.cancel)
                stayed = await self._send_all(send, connection, more)
        finally:
            connection.forget_when_lost(scope.cancel)
            self.record.leave(self)
        return stayed and not connection.lost

    async def _send_all(self, send: Send, connection: Connection, more: Callable[[], Headers]) -> bool:
        record, begun = self.record, False
        while True:
            if record.refusal is not None:
                raise replace(record.refusal)
            if not begun and record.start is not None:
                begun = True
                await send({**record.start, "headers": [*record.start["headers"], *more()]})
                continue
            piece, is_last = record.piece(self.at)
            if piece or is_last:
                self.at += len(piece)
                record.wake()
                await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
                if is_last:
                    return True
            elif record.cut:
                connection.abort()
                return False
            else:
                await record.change()


class Records:
    """The answers that repeats may have. Make it inside a running loop."""

    def __init__(self, limits: RecordLimits) -> None:
        self.limits = limits
        self.held_bytes = 0  # of the ended ones that can be replayed
        self._running: dict[bytes, Record] = {}
        self._ended: OrderedDict[bytes, Record] = OrderedDict()  # the first to expire comes first
        self._replayable: OrderedDict[bytes, Record] = OrderedDict()  # of those
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    def open(self, name: bytes, body: bytes, request_id: str, stats: RequestStats) -> tuple[Record, bool]:
        """Return the record of that name, and whether this request is the first with it, which is to write it.

        Raises ApiError: 409 if the key came with another body, 400 if the answer is not kept any more.
        """
        body_digest = hashlib.sha256(body).digest()
        self.tidy()
        record = self._running.get(name) or self._ended.get(name)
        if record is None:
            record = self._running[name] = Record(name, body_digest, request_id, stats, self.limits.one_bytes)
            return record, True
        if record.body_digest != body_digest:
            message = "This Idempotency-Key came with another body before; each request needs a key of its own."
            raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message, headers=DO_NOT_RETRY)
        if not record.whole:
            why = "The request with this Idempotency-Key was submitted before, and its answer is not kept any more."
            raise repeated(why, "send it with another key")
        return record, False

    def end(self, record: Record, *, keep: bool) -> None:
        """Note that nothing more is written; with `keep` the record is there for repeats until its time is over."""
        del self._running[record.name]
        record.closed = True
        if not record.ended and record.refusal is None:
            record.abort()
        if not keep:
            return
        record.expires_at = self._loop.time() + self.limits.ttl_s
        self._ended[record.name] = record
        if record.ended and record.whole:
            self._replayable[record.name] = record
            self.held_bytes += record.held_bytes
        else:
            record.empty()
        self.tidy()

    def tidy(self) -> None:
        """Forget what is too old or too much. An answer that is just being read is not forgotten for its size."""
        now = self._loop.time()
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if oldest.expires_at > now and len(self._ended) <= self.limits.most:
                break
            del self._ended[oldest.name]
            self._release(oldest)
        if self.held_bytes > self.limits.all_bytes:
            for record in [one for one in self._replayable.values() if not one.readers]:
                self._release(record)
                record.empty()
                if self.held_bytes <= self.limits.all_bytes:
                    break
        if self._ended and self._timer is None:
            self._timer = self._loop.call_at(next(iter(self._ended.values())).expires_at, self._tidy_late)

    def _release(self, record: Record) -> None:
        if self._replayable.pop(record.name, None) is not None:
            self.held_bytes -= record.held_bytes

    def _tidy_late(self) -> None:
        self._timer = None
        self.tidy()
