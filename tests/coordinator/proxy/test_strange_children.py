"""What no child sends: the client gets a whole response that nobody repeats, and the coordinator goes on."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from contract.api_error import NOTHING_SUBMITTED
from coordinator.proxy import exchange
from coordinator.proxy.exchange import Outcome
from tests.coordinator.proxy.proxied import SOON, Conversation, ask, chat, request, scripted

STATUSES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/2.0 200 OK"),
    *(b"HTTP/1.1 %d X" % status for status in (101, 204, 301, 304, 307, 408, 429, 500, 503, 600, 999)),
    *(b"HTTP/1.1 0 ", b"HTTP/1.1 99999 X", b"HTTP/1.1 2\xc2\xb2 X", b"HTTP/1.1 200 \xff", b"\xff\xfe"),
)
HEADERS = (
    *(b"content-type: text/event-stream", b"content-type: application/json", b"content-type: \xff;charset=none"),
    *(b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"content-encoding: br", b"trailer: x"),
    *(b"content-length: 5", b"content-length: -1", b"content-length: 5, 5", b"content-length: " + b"9" * 400),
    *(b"set-cookie: =;;\x01", b"set-cookie: a=b; expires=never", b"retry-after: \xe9", b"x-should-retry: false"),
    *(b"x: " + b"y" * 9000, b": empty", b"x: a\r\n b", b"x: \x00", b"x: \x7f", b"x: \x0b", b'a"b: 1', b"x-\xff: 1"),
    *(b"connection: close", b"connection: upgrade", b"upgrade: h2c", b"location: http://127.0.0.1:1/"),
)
BODIES = (
    *(b"", b"data: x\n\n", b"data: [DONE]\n\n", b"data: " + b"[" * 100_000 + b"\n\n", b"[" * 100_000, b"\n" * 100),
    *(b"5\r\nhello\r\n0\r\n\r\n", b"1\r\n\n\r\n" * 9, b"-5\r\n", b"f" * 20 + b"\r\n", b"5;" + b"x" * 20_000),
    *(b"0\r\nx: " + b"y" * 70_000, b'data: {"error":{"code":[]}}\n\n', b"\x1f\x8b\x08\x00junk", b"x" * 2_000_000),
)


def response(rng: random.Random) -> bytes:
    """Return what is HTTP nearly, or not at all."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(300))
    lines = [rng.choice(STATUSES), *rng.sample(HEADERS, rng.randrange(4))]
    return b"\r\n".join((*lines, b"", b"")) + b"".join(rng.choices(BODIES, k=rng.randrange(3)))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_a_child_writes_ends_that_request_alone(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    async def script(conversation: Conversation) -> None:
        await conversation.send(data)
        if resets:
            conversation.writer.transport.abort()

    async with scripted(tmp_path, script, limits=replace(SOON, first_token_s=0.5, idle_s=0.5)) as api:
        for number in range(60):
            data, resets = response(rng), rng.random() < 0.3
            answer = await ask(api.port, request(chat(f"prompt {number}", stream=rng.random() < 0.5)))
            what = (data[:300], answer.status, answer.headers)
            assert answer.status in (200, 204, 408, 500, 502), what
            assert answer.status not in NOTHING_SUBMITTED, what
            assert answer.status < 400 or answer.header("x-should-retry") == "false", what
        assert (Outcome.FAILED, None) not in await api.outcomes(), "the proxy itself failed"
        data, resets = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", False
        assert (await ask(api.port, request(chat()))).body == b"{}"


@pytest.mark.parametrize("status", [101, 301, 307, 600, 999])
async def test_a_status_that_no_child_has_is_a_broken_answer(tmp_path: Path, status: int) -> None:
    """A client would follow a redirect with its prompt, and our server cuts the connection for an unknown one."""

    async def script(conversation: Conversation) -> None:
        await conversation.whole(b"{}", "location: http://127.0.0.1:1/", status=f"{status} X")

    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (502, "child_lost")
        assert answer.header("x-should-retry") == "false"


async def test_a_header_that_our_server_would_refuse_is_left_out(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.whole(b"{}", "x-odd: a\x7fb", "x-fine: a\tb")

    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.header("x-odd"), answer.header("x-fine")) == (200, None, "a\tb")


@pytest.mark.parametrize("length", ["content-length: 1000001", "transfer-encoding: identity"])
async def test_a_whole_answer_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: str
) -> None:
    monkeypatch.setattr(exchange, "_LARGEST_WHOLE_BYTES", 1_000_000)

    async def script(conversation: Conversation) -> None:
        await conversation.send(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\n\r\n".encode())
        await conversation.send(b"x" * 1_000_001)
        await conversation.until_closed()

    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (502, "child_lost")
