"""Answers that etcd may give, and servers that are none: whatever comes, the cell says whose fault it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.claims.etcd import EtcdClaims, _Holder, _Registered
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import ClaimStoreError, LeaseGone, StoreRefused, StoreUnreachable
from tests.coordinator.claims.etcd_cells import CANARY, store
from tests.coordinator.claims.worlds import LONG_TTL_S
from tests.support.size import size


class Other:
    """A server that answers every request by the same bytes, and closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            # What is closed with a request half read resets the connection, and the answer with it.
            found = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(self.answer)
            await writer.drain()
        writer.close()


# JSON with etcd's names in it, most of it of the wrong types.
NAMES = [
    "header",
    "cluster_id",
    "raft_term",
    "revision",
    "error",
    "code",
    "message",
    "grpc_code",
    "result",
    "ID",
    "TTL",
    "succeeded",
]
NAMES += ["responses", "response_range", "kvs", "key", "value", "lease", "mod_revision"]
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES |= st.sampled_from(["2", "0", "7", "-1", "L3Rlc3Q=", "99999999999999999999"])
HEADED = {"header": {"cluster_id": "18446744073709551615", "raft_term": "2"}, "ID": "7", "TTL": "60"}
ANSWERS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).map(lambda found: HEADED | found)
    ),
    max_leaves=15,
).map(json.dumps)


ASKS: list[Callable[[EtcdClaims], Awaitable[object]]] = [
    lambda cell: cell.register("a", SharedSettings(LONG_TTL_S), 5),
    lambda cell: cell.renew(),
    lambda cell: cell.view(),
    lambda cell: cell.claim("ann", CANARY),
    lambda cell: cell.release("ann"),
    lambda cell: cell.leave(),
    lambda cell: cell.rejoin(),
    lambda cell: cell.read("session", "ann"),
    lambda cell: cell.write("session", "ann", CANARY.encode()),
]


# Parts of HTTP that other bytes stand in the middle of.
HEADS = [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "]
HEADS += [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
TAILS = [b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n{}"]


class TestOtherServers:
    """Their words, for the operator."""

    @pytest.fixture
    async def other(self) -> AsyncIterator[Other]:
        async with Other() as running:
            yield running

    @pytest.fixture
    async def cell(self, other: Other) -> AsyncIterator[EtcdClaims]:
        async with store([other.url]) as made:
            yield made

    @pytest.mark.parametrize(
        ("status", "body", "error", "words"),
        [
            (200, b"<html>hello</html>", StoreRefused, "does not speak the JSON of etcd's v3 API"),
            (200, b"", StoreRefused, "does not speak"),
            (200, b"{}", StoreRefused, "does not speak"),
            (200, b"[" * 100_000, StoreRefused, "does not speak"),
            (200, b'{"header":{"raft_term":"2"}}', StoreRefused, "does not speak"),
            (301, b"", StoreRefused, "HTTP 301"),
            (401, b"who are you", StoreRefused, "HTTP 401"),
            (403, b"<html>", StoreRefused, "HTTP 403"),
            (404, b"Not Found", StoreRefused, "HTTP 404"),
            (502, b"<html>bad gateway</html>", StoreUnreachable, "HTTP 502"),
            (503, b'{"error":"etcdserver: no leader","code":14}', StoreUnreachable, "etcdserver: no leader"),
            (503, b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', StoreUnreachable, "no leader"),
            (503, b'{"code":14,"message":"etcdserver: leader changed","details":[]}', StoreUnreachable, "changed"),
            (429, b'{"error":"etcdserver: too many requests","code":8}', StoreUnreachable, "too many"),
            (500, b'{"error":"etcdserver: corrupt cluster","code":15}', StoreRefused, "corrupt cluster"),
            (404, b'{"error":"etcdserver: requested lease not found","code":5}', LeaseGone, "does not know the lease"),
            (403, b'{"error":"etcdserver: permission denied","code":7}', StoreRefused, "etcdctl auth disable"),
        ],
    )
    async def test_answers_have_their_words(
        self, other: Other, status: int, body: bytes, error: type[ClaimStoreError], words: str
    ) -> None:
        other.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
        async with store([other.url]) as cell:
            with pytest.raises(error) as raised:
                await cell.view()
        assert words in str(raised.value)

    @pytest.mark.parametrize(
        "answer",
        [
            *(b"", b"\0" * 100_000, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        ],
    )
    async def test_no_answer_is_none_that_ends_a_cell(self, other: Other, answer: bytes) -> None:
        other.answer = answer
        async with store([other.url]) as cell:
            with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_URL"):
                await cell.view()

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=size(40, 1000))
    @given(data=st.data())
    async def test_any_json_is_an_answer_or_an_error_of_the_store(
        self, other: Other, cell: EtcdClaims, data: st.DataObject
    ) -> None:
        body = data.draw(ANSWERS).encode()
        other.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (
            data.draw(st.sampled_from([200, 200, 400, 503])),
            len(body),
            body,
        )
        cell._registered, cell._gateway._cluster = _Registered(7, "a", _Holder()), None
        with contextlib.suppress(ClaimStoreError):
            await data.draw(st.sampled_from(ASKS))(cell)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=size(40, 1000))
    @given(head=st.sampled_from(HEADS), middle=st.binary(max_size=20), tail=st.sampled_from(TAILS))
    async def test_any_bytes_are_an_error_of_the_store(
        self, other: Other, cell: EtcdClaims, head: bytes, middle: bytes, tail: bytes
    ) -> None:
        other.answer = head + middle + tail
        with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_URL"):
            await cell.view()

    async def test_nothing_that_was_sent_is_said_again(self, other: Other) -> None:
        """A server that repeats the request in its error, as etcd does with some."""
        for form in (
            b'{"error":"etcdserver: %s","code":3}',
            b'{"error":"%s","code":14}',
            b"%s",
            b'{"error":{"a":"%s"}}',
        ):
            body = form % CANARY.lower().encode()
            other.answer = b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            async with store([other.url.replace("//", f"//ann:{CANARY}@")]) as cell:
                cell._registered = _Registered(7, "a", _Holder())
                for ask in ASKS:
                    with pytest.raises(ClaimStoreError) as raised:
                        await ask(cell)
                    assert CANARY.lower() not in str(raised.value).lower()
                    assert raised.value.__cause__ is None
                    assert raised.value.__context__ is None or raised.value.__suppress_context__
