"""Is a child ready: its `/ready`, asked again and again over one connection.

A coordinator asks each of its children every second, and does little else while it is idle. A client for any server
spends most of its CPU on what such a request has not: redirects, cookies, a pool, headers as objects. The parser is
that of uvicorn.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

from contract.child_api import READY_PATH, Readiness
from coordinator.supervision.lifecycle import Reason

_LARGEST_BYTES: Final = 1024 * 1024  # as JSON parsed in some 20 ms
_NO_HTTP: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)


@dataclass(frozen=True)
class ProbeResult:
    """One look at a child's `/ready`: what it said, or why it said nothing. `reason` is None exactly if it is ready."""

    reason: Reason | None
    detail: str | None = None
    readiness: Readiness | None = None

    @classmethod
    def of(cls, readiness: Readiness) -> ProbeResult:
        """Return the result of a probe that this child answered."""
        reason = None if readiness.reason is None else Reason(readiness.reason.value)
        return cls(reason, readiness.detail, readiness)


def read_ready(status: int, body: Any, instance_id: str) -> ProbeResult:
    """Judge the answer of a child's `/ready`: HTTP status and parsed JSON body.

    An answer of another start, or of a stranger on the port, is `port_taken`.
    """
    if not isinstance(body, dict) or body.get("instance_id") != instance_id:
        return ProbeResult(Reason.PORT_TAKEN, "another program answers on the child's port")
    readiness = Readiness.from_json(status, body)
    if readiness is None:
        return ProbeResult(Reason.PROBE_FAILED, f"/ready gives no known reason (HTTP {status})")
    return ProbeResult.of(readiness)


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes


class ReadyProbe:
    """Probes one start of one child. One probe at a time; close it in the end."""

    def __init__(self, url: str, instance_id: str, *, timeout_s: float) -> None:
        """`url` is the child's, without a path; it has `timeout_s` seconds to answer, and as many to accept."""
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._request = f"GET {READY_PATH} HTTP/1.1\r\nhost: {address.netloc}\r\n\r\n".encode()
        self._instance_id = instance_id
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._last: tuple[_Answer, ProbeResult] | None = None

    async def probe(self) -> ProbeResult:
        """Ask for readiness; whatever goes wrong is a result with a reason, never an error."""
        try:
            answer = await self._ask()
            # A child that goes on as it was says the same again, to the byte.
            if self._last is None or self._last[0] != answer:
                self._last = answer, read_ready(answer.status, json.loads(answer.body), self._instance_id)
        except TimeoutError:
            self.close()
            return ProbeResult(Reason.PROBE_FAILED, "no answer from /ready in time")
        except (OSError, *_NO_HTTP, ValueError, RecursionError) as error:  # the last: deeply nested JSON
            self.close()
            return ProbeResult(Reason.PROBE_FAILED, f"/ready cannot be read ({type(error).__name__})")
        return self._last[1]

    def close(self) -> None:
        """Close the connection, if there is one; the next probe opens another. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _ask(self) -> _Answer:
        if self._connection is not None and self._connection.is_open:
            try:
                return await self._connection.ask(self._request, self._timeout_s)
            except ConnectionError:
                # The child closes a connection that is idle for long, perhaps at this moment. What it says on a new one
                # counts.
                pass
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, self._connection = await loop.create_connection(_Connection, self._host, self._port)
        return await self._connection.ask(self._request, self._timeout_s)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 to one server, one request at a time, without pipelining.

    https://www.rfc-editor.org/rfc/rfc9112#section-6.3 tells where a body ends.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[_Answer] | None = None
        self._body: list[bytes] = []
        self._received = 0
        self._has_head = False

    async def ask(self, request: bytes, timeout_s: float) -> _Answer:
        """Send these bytes, and return the response. Raises OSError, _NO_HTTP, ValueError if it is too large.

        TimeoutError, after so many seconds, is an OSError.
        """
        assert self._transport  # noqa: S101 - set as soon as it is connected
        self._body, self._received, self._has_head = [], 0, False
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        timer = loop.call_later(timeout_s, self._fail, TimeoutError())
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            timer.cancel()
            self._answer = None

    def close(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream
        self._transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._answer is None:  # nobody has asked for this
            self.close()
        elif self._received > _LARGEST_BYTES:
            self._fail(ValueError("the child's answer is too large"))
        else:
            try:
                self._parser.feed_data(data)
            except _NO_HTTP as error:
                self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        # Without a length, the end of the connection is that of the body. JSON that was cut is none.
        if error is None and self._has_head:
            self.on_message_complete()
        self._fail(error or ConnectionResetError("the child closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()

    # What the parser calls

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim response; the final one follows (RFC 9110, section 15.2)
            self._has_head = False
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(_Answer(status, b"".join(self._body)))
        else:
            self.close()  # a second answer: which one belongs to which probe is not known any more
