"""Probes of a child's `/ready`: one connection for all, another where it was closed, and no trust in who answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from coordinator.supervision.lifecycle import Reason
from coordinator.supervision.ready_probe import ReadyProbe
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S


def ready(**more: object) -> bytes:
    """Return a whole answer of a child that is ready."""
    body = json.dumps({"status": "ready", "instance_id": "id", **more}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Child:
    """Answers each probe with the next of `answers`, the last one for ever; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.connections = self.probes = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                self.probes += 1
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    return
                writer.write(answer)


@contextlib.asynccontextmanager
async def probing(*answers: bytes | None, timeout_s: float = HANG_LIMIT_S) -> AsyncIterator[tuple[Child, ReadyProbe]]:
    child = Child(*answers)
    server = await asyncio.start_server(child.serve, "127.0.0.1", 0)
    child.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with contextlib.closing(ReadyProbe(child.url, "id", timeout_s=timeout_s)) as probe:
        yield child, probe
    server.close()


async def test_all_probes_of_a_child_take_one_connection() -> None:
    async with probing(ready()) as (child, probe):
        for _ in range(5):
            assert (await probe.probe()).reason is None
        assert (child.connections, child.probes) == (1, 5)


async def test_what_is_said_anew_is_read_anew() -> None:
    unready = {"status": "unready", "reason": "page_broken"}
    said = [ready(busy=True), ready(busy=True), ready(), ready(**unready), ready()]
    async with probing(*said) as (_, probe):
        found = [await probe.probe() for _ in said]
    assert [(one.reason, one.readiness and one.readiness.busy) for one in found] == [
        (None, True),
        (None, True),
        (None, False),
        (Reason.PAGE_BROKEN, False),
        (None, False),
    ]


async def test_a_connection_that_the_child_closed_is_no_failure() -> None:
    async with probing(ready(), None, ready()) as (child, probe):
        assert (await probe.probe()).reason is None
        assert (await probe.probe()).reason is None  # closed as it was used: asked again
        assert (child.connections, child.probes) == (2, 3)


async def test_a_child_that_closes_each_connection_fails() -> None:
    async with probing(None) as (child, probe):
        for _ in range(2):
            assert (await probe.probe()).reason is Reason.PROBE_FAILED
        assert child.connections == 2


async def test_a_child_that_closes_after_its_answer_is_asked_on_a_new_connection() -> None:
    closing = ready().replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")
    async with probing(closing) as (child, probe):
        for _ in range(3):
            assert (await probe.probe()).reason is None
        assert (child.connections, child.probes) == (3, 3)


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    without = b"HTTP/1.1 200 OK\r\n\r\n" + ready().partition(b"\r\n\r\n")[2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(without[:-5])
        await writer.drain()
        writer.write(without[-5:])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with contextlib.closing(ReadyProbe(url, "id", timeout_s=HANG_LIMIT_S)) as probe:
        for _ in range(2):
            assert (await probe.probe()).reason is None
    server.close()


async def test_an_interim_response_is_passed_over() -> None:
    async with probing(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + ready()) as (child, probe):
        for _ in range(2):
            assert (await probe.probe()).reason is None
        assert child.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + ready(),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b" " * 2_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300_000 + b"\r\n",
    ],
)
async def test_an_answer_that_is_none_is_a_failed_probe_and_the_next_one_is_asked_anew(answer: bytes) -> None:
    async with probing(answer, ready()) as (child, probe):
        assert (await probe.probe()).reason is Reason.PROBE_FAILED
        assert (await probe.probe()).reason is None
        assert child.connections == 2


async def test_a_second_answer_to_one_probe_is_not_taken_for_that_of_the_next() -> None:
    async with probing(ready() + ready(busy=True), ready()) as (child, probe):
        assert (await probe.probe()).reason is None
        found = await probe.probe()
        assert found.readiness is not None
        assert not found.readiness.busy
        assert child.connections == 2


async def test_a_silent_child_is_given_up_and_asked_on_a_new_connection() -> None:
    async with probing(b"", ready(), timeout_s=0.2) as (child, probe):
        assert (await probe.probe()).detail == "no answer from /ready in time"
        probe._timeout_s = HANG_LIMIT_S
        assert (await probe.probe()).reason is None
        assert child.connections == 2


async def test_nobody_listens() -> None:
    with contextlib.closing(ReadyProbe(f"http://127.0.0.1:{free_range(1)}", "id", timeout_s=HANG_LIMIT_S)) as probe:
        found = await probe.probe()
    assert (found.reason, found.detail) == (Reason.PROBE_FAILED, "/ready cannot be read (ConnectionRefusedError)")


async def test_another_start_is_a_stranger() -> None:
    async with probing(ready(instance_id="another")) as (_, probe):
        assert (await probe.probe()).reason is Reason.PORT_TAKEN
