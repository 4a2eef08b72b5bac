"""Which requests are admitted: key, content type, size, and the least a body must hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.types import Receive

from contract.api_error import ApiError, ErrorCode, unavailable
from contract.chat_body import longest_s, read_head
from contract.content_coding import Decoder, decoder_of
from contract.dialects.chat import CHAT
from contract.dialects.dialect import Dialect
from contract.keys import KeyStore, Role, check_key
from coordinator.proxy.headers import CLOSE, HeaderMap

_START_RETRY_S = 5.0
_BUFFER_RETRY_S = 5.0
_LARGE_BYTES = 256 * 1024  # parsed in 3 ms at most
_TURNS = 10  # of the loop, in which a probe comes in and is answered


@dataclass
class Access:
    """Which keys count now; None as long as they are not known, and then nobody is admitted.

    `keys` is replaced as a whole by a reload.
    """

    keys: KeyStore | None = None

    @property
    def enforced(self) -> bool:
        """Whether a request needs a key."""
        return self.keys is None or bool(self.keys)

    def check(self, headers: HeaderMap) -> None:
        """Raise ApiError (401) unless the request carries an accepted key, or no keys are set."""
        self._check(headers, None)

    def check_viewer(self, headers: HeaderMap) -> None:
        """Raise ApiError for who must not see what pages show: 401 as `check`, 403 without the role, or any keys."""
        self._check(headers, Role.VIEW)

    def check_operator(self, headers: HeaderMap) -> None:
        """Raise ApiError for who must not act on the fleet: 401 as `check`, 403 without the role, or any keys."""
        self._check(headers, Role.OPERATE)

    def _check(self, headers: HeaderMap, needed: Role | None) -> None:
        """`needed` is the role for what an open API does not give to everybody."""
        if self.keys is None:
            raise unavailable(
                ErrorCode.STARTING, "The server is starting; try again later.", retry_after_s=_START_RETRY_S
            )
        check_key(self.keys, headers.presented_key, needed)


@dataclass(frozen=True)
class BodyLimits:
    """How large one body, and all that are held together, may be; how many seconds may pass between two pieces."""

    max_bytes: int
    max_buffered_bytes: int
    idle_s: float


class ChatBody(NamedTuple):
    """A request body that may go to a page, and what routing needs of it.

    `came` is the body as it came: it stays what it was where `raw` is replaced by what the child is to get.
    """

    raw: bytes
    came: bytes
    model: str
    stream: bool


@dataclass
class _Held:
    """What has come of one body, decoded."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class BodyReader:
    """Reads bodies of chat requests within the limits. Make it inside a running loop."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._buffered_bytes = 0
        self._one_large = asyncio.Lock()

    async def read(
        self, headers: HeaderMap, receive: Receive, dialect: Dialect, *, is_here: bool = False
    ) -> ChatBody | None:
        """Return the body of a request for a page, which counts as held until `release`; None when the client left.

        `is_here` says that all of it has come: then no time limit is set, which costs some 8 us.

        Raises ApiError: 415 for another type than JSON or another coding, 413 for too large a body, 408 for one that
        comes too slowly, 503 where too much is held already, 400 for what is no request of this dialect at all.
        """
        kind = (headers.get(b"content-type") or "").partition(";")[0].strip().lower()
        # Only this type makes a browser ask before it posts (CORS), and nobody here says yes.
        if kind != "application/json":
            raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
        length = headers.get(b"content-length")
        # int() raises ValueError for thousands of digits.
        if length is not None and (len(length) > 15 or int(length) > self._limits.max_bytes):
            raise self._too_large()
        decoder = decoder_of(headers.get(b"content-encoding"))
        held, body = _Held(), None
        try:
            if await (self._collect if is_here else self._receive)(receive, held, decoder):
                body = await self._parse(held, dialect)
        finally:
            if body is None:
                self._buffered_bytes -= held.size
        return body

    def release(self, body: ChatBody) -> None:
        """Count a body no longer as held."""
        self._buffered_bytes -= len(body.came)

    async def _receive(self, receive: Receive, held: _Held, decoder: Decoder | None) -> bool:
        """Collect the parts within the time limits, and return whether the client stayed."""
        idle_s, now = self._limits.idle_s, asyncio.get_running_loop().time
        end = now() + longest_s(idle_s)
        try:
            async with asyncio.timeout(idle_s) as limit:
                return await self._collect(receive, held, decoder, lambda: limit.reschedule(min(end, now() + idle_s)))
        except TimeoutError:
            raise ApiError(ErrorCode.REQUEST_TIMEOUT, "The body did not arrive in time.", headers=CLOSE) from None

    async def _collect(
        self, receive: Receive, held: _Held, decoder: Decoder | None, on_part: Callable[[], None] = lambda: None
    ) -> bool:
        """Collect the parts, and return whether the client stayed; `on_part` is called before the next is awaited."""
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            part = message.get("body", b"")
            size += len(part)  # as it came: a coding can take any number of bytes to say nothing
            if size > self._limits.max_bytes:
                raise self._too_large()
            if decoder is None:
                self._hold(part, held)
            else:
                for piece in decoder.pieces(part):
                    self._hold(piece, held)
                    await asyncio.sleep(0)
            if not message.get("more_body"):
                break
            on_part()
        if decoder is not None:
            decoder.finish()
        return True

    def _hold(self, part: bytes, held: _Held) -> None:
        """Add a part. Raises ApiError: 413 where the body gets too large, 503 where all bodies together do."""
        if held.size + len(part) > self._limits.max_bytes:
            raise self._too_large()
        self._count(len(part))
        held.size += len(part)
        held.parts.append(part)

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count as held what a request takes beside its body. Raises ApiError (503) where too much is held already."""
        self._count(size)
        try:
            yield
        finally:
            self._buffered_bytes -= size

    def _count(self, size: int) -> None:
        if self._buffered_bytes + size > self._limits.max_buffered_bytes:
            what = "The server holds as many bytes of requests as it may (MAX_BUFFERED_BYTES)"
            raise unavailable(ErrorCode.BUFFER_FULL, f"{what}; try again.", retry_after_s=_BUFFER_RETRY_S)
        self._buffered_bytes += size

    async def _parse(self, held: _Held, dialect: Dialect) -> ChatBody:
        raw = held.parts[0] if len(held.parts) == 1 else b"".join(held.parts)
        held.parts.clear()  # or both were held until the answer's end
        if len(raw) < _LARGE_BYTES:
            return parse_chat_body(raw, dialect)
        # A parser in a thread keeps the interpreter's lock all the same: others get their turns between two large ones.
        async with self._one_large:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            return parse_chat_body(raw, dialect)

    def _too_large(self) -> ApiError:
        message = f"The body is larger than {self._limits.max_bytes} bytes (MAX_BODY_BYTES)."
        return ApiError(ErrorCode.BODY_TOO_LARGE, message)


def parse_chat_body(raw: bytes, dialect: Dialect = CHAT) -> ChatBody:
    """Check the least that a request of this dialect must hold. Raises ApiError (400)."""
    head = read_head(raw, dialect.conversation, may_be_text=dialect.may_be_text)
    return ChatBody(raw, raw, head.model, head.stream)
