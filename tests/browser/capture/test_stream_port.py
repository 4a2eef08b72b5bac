"""The stream port: frames in order, and pages and processes that must not be able to send any."""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest
from structlog.testing import capture_logs

from browser.capture import frames, stream_server
from browser.capture.frames import Feed, Frame, FrameKind
from browser.capture.stream_port import StreamPort
from browser.capture.stream_receiver import StreamReceiver
from browser.errors import StreamPortTaken
from tests.support.ports import free_range
from tests.support.turns import each_turn
from tests.support.waiting import HANG_LIMIT_S, eventually

ORIGIN = "https://chat.example.com"
TOKEN = "the-token-of-this-start"
NONCE = "0123456789abcdef"


def message(sequence: int, payload: bytes = b"", *, nonce: str = NONCE, kind: int = FrameKind.CHUNK) -> bytes:
    return struct.pack(">16sIIB", nonce.encode(), sequence, 1, kind) + payload


class Listener:
    """A stream port and clients of it."""

    def __init__(self, port: StreamPort, receiver: StreamReceiver, number: int, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.receiver = receiver
        self.number = number
        self._url = f"ws://127.0.0.1:{number}/"
        self._session = session

    async def connect(self, *, origin: str | None = ORIGIN) -> aiohttp.ClientWebSocketResponse:
        return await self._session.ws_connect(self._url, origin=origin)

    async def page(self) -> aiohttp.ClientWebSocketResponse:
        """A client that is let in."""
        socket = await self.connect()
        await socket.send_str(TOKEN)
        return socket


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    number = free_range(1)
    port, receiver = StreamPort(number), StreamReceiver(origin=ORIGIN, token=TOKEN)
    port.add(receiver)
    await port.start()
    async with aiohttp.ClientSession() as session:
        yield Listener(port, receiver, number, session)
    await port.stop()


async def received(feed: Feed, count: int) -> list[Frame]:
    async with asyncio.timeout(5):
        return [await feed.next() for _ in range(count)]


async def test_frames_of_a_page_that_knows_the_token_come_in_order(listener: Listener) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    for sequence, payload in enumerate([b"a", b"b"]):
        await socket.send_bytes(message(sequence, payload))
    assert await received(feed, 2) == [Frame(FrameKind.CHUNK, 1, b"a"), Frame(FrameKind.CHUNK, 1, b"b")]


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example.com", "http://chat.example.com", f"{ORIGIN}:81"]
)
async def test_another_origin_is_refused(listener: Listener, origin: str | None) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await listener.connect(origin=origin)
    assert caught.value.status == 403


@pytest.mark.parametrize("hello", ["", "the-token-of-another-start", b"the-token-of-this-start"])
async def test_frames_of_a_page_without_the_token_are_dropped(listener: Listener, hello: str | bytes) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.connect()
    await (socket.send_str(hello) if isinstance(hello, str) else socket.send_bytes(hello))
    await socket.send_bytes(message(0, b"forged"))
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    assert not await feed.wait(0)


async def test_a_page_that_says_nothing_is_dropped(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_server, "HELLO_TIMEOUT_S", 0.05)
    socket = await listener.connect()
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_only_so_many_connections_wait_for_their_token_at_once(listener: Listener) -> None:
    strangers = [await listener.connect() for _ in range(stream_server.MAX_STRANGERS)]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await listener.connect()
    await strangers[0].send_str(TOKEN)
    feed = listener.receiver.open_feed(NONCE)
    await strangers[0].send_bytes(message(0, b"a"))
    assert await received(feed, 1) == [Frame(FrameKind.CHUNK, 1, b"a")]
    await listener.connect()


async def test_refused_connections_are_logged_once_in_a_while(listener: Listener) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await listener.connect(origin="https://evil.example.com")
            socket = await listener.connect()
            await socket.send_str("no token")
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    assert [(line["event"], line["reason"]) for line in logs] == [("stream_port_refused", "origin")]


async def test_what_is_no_http_is_not_logged(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    for sent in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.number)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), HANG_LIMIT_S) == b""  # it is closed without a word
        writer.close()
    assert not caplog.records


@pytest.mark.parametrize("body", ["", "{}"])
@pytest.mark.parametrize("head", ["POST / HTTP/1.1\r\ncontent-length: 2\r\n", "GET / HTTP/1.1\r\n"])
async def test_http_that_opens_no_connection_is_refused(
    listener: Listener, caplog: pytest.LogCaptureFixture, head: str, body: str
) -> None:
    """A page may send that to any port of this machine, without being asked by anybody."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.number)
    writer.write(f"{head}host: 127.0.0.1\r\norigin: {ORIGIN}\r\n\r\n{body}".encode())
    said = await asyncio.wait_for(reader.read(), HANG_LIMIT_S)
    assert not said or said.startswith(b"HTTP/1.1 4")  # the library says nothing where a body comes along
    assert ORIGIN.encode() not in said
    writer.close()
    assert not caplog.records


async def test_two_origins_are_none(listener: Listener) -> None:
    headers = f"host: 127.0.0.1\r\norigin: {ORIGIN}\r\norigin: {ORIGIN}\r\n"
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.number)
    writer.write(f"GET / HTTP/1.1\r\n{headers}{upgrade}{key}\r\n".encode())
    assert b" 403 " in await asyncio.wait_for(reader.readline(), HANG_LIMIT_S)
    writer.close()


async def test_nothing_that_pages_send_is_logged(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    feed = listener.receiver.open_feed(NONCE)
    with caplog.at_level(logging.DEBUG):  # of the root, as with LOG_LEVEL=debug
        socket = await listener.page()
        await socket.send_bytes(message(0, b"an answer"))
        assert await received(feed, 1) == [Frame(FrameKind.CHUNK, 1, b"an answer")]
        await socket.close()
    assert not [record for record in caplog.records if record.name == "browser.stream_server"]
    assert TOKEN not in caplog.text
    assert "an answer" not in caplog.text


async def test_the_end_waits_for_no_connection_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_server, "HELLO_TIMEOUT_S", 3600.0)
    number = free_range(1)
    port = StreamPort(number)
    port.add(StreamReceiver(origin=ORIGIN, token=TOKEN))
    await port.start()
    await port.serving()
    _, no_request = await asyncio.open_connection("127.0.0.1", number)
    async with aiohttp.ClientSession() as session:
        no_hello = await session.ws_connect(f"ws://127.0.0.1:{number}/", origin=ORIGIN)
        await asyncio.wait_for(port.stop(), HANG_LIMIT_S)
        await no_hello.close()
    no_request.close()


async def test_another_nonce_is_dropped(listener: Listener) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    await socket.send_bytes(message(0, b"of an earlier answer", nonce="fedcba9876543210"))
    await socket.send_bytes(message(0, b"a"))
    assert await received(feed, 1) == [Frame(FrameKind.CHUNK, 1, b"a")]


async def test_a_nonce_of_an_answer_that_is_over_is_dropped(listener: Listener) -> None:
    old = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    await socket.send_bytes(message(0, b"a"))
    await received(old, 1)
    listener.receiver.close_feed(old)
    new = listener.receiver.open_feed("fedcba9876543210")
    await socket.send_bytes(message(1, b"late"))
    await socket.send_bytes(message(0, b"new", nonce="fedcba9876543210"))
    assert await received(new, 1) == [Frame(FrameKind.CHUNK, 1, b"new")]
    assert not await old.wait(0)


@pytest.mark.parametrize("sequence", [0, 2])
async def test_a_gap_or_a_repetition_ends_the_frames(listener: Listener, sequence: int) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    await socket.send_bytes(message(0, b"a"))
    await socket.send_bytes(message(sequence, b"forged or late"))
    await socket.send_bytes(message(1, b"b"))
    assert await received(feed, 2) == [Frame(FrameKind.CHUNK, 1, b"a"), Frame(FrameKind.GAP)]
    await socket.close()
    assert not await feed.wait(0)


@pytest.mark.parametrize("garbage", [b"", b"short", message(1, kind=77), message(1, kind=FrameKind.GAP)[:20]])
async def test_garbage_from_the_answers_own_page_is_a_gap(listener: Listener, garbage: bytes) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    await socket.send_bytes(message(0, b"a"))
    await socket.send_bytes(garbage)
    assert await received(feed, 2) == [Frame(FrameKind.CHUNK, 1, b"a"), Frame(FrameKind.GAP)]


async def test_a_connection_that_closes_takes_the_rest_with_it(listener: Listener) -> None:
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    await socket.send_bytes(message(0, b"a"))
    await socket.close()
    assert await received(feed, 2) == [Frame(FrameKind.CHUNK, 1, b"a"), Frame(FrameKind.GAP)]


async def test_a_second_connection_cannot_speak_for_the_first(listener: Listener) -> None:
    feed = listener.receiver.open_feed(NONCE)
    first, second = await listener.page(), await listener.page()
    await first.send_bytes(message(0, b"a"))
    await received(feed, 1)
    await second.send_bytes(message(1, b"forged"))
    await second.close()
    await first.send_bytes(message(1, b"b"))
    assert await received(feed, 1) == [Frame(FrameKind.CHUNK, 1, b"b")]


async def test_a_flood_is_cut_off(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_WAITING_BYTES", 10_000)
    feed = listener.receiver.open_feed(NONCE)
    socket = await listener.page()
    for sequence in range(100):
        await socket.send_bytes(message(sequence, b"x" * 1000))
    assert (await received(feed, 12))[-1] == Frame(FrameKind.GAP)


async def test_a_port_in_use_is_named(listener: Listener) -> None:
    number = listener.number
    with pytest.raises(StreamPortTaken, match=f"stream port {number} on 127.0.0.1 is in use"):
        await StreamPort(number).start()


async def test_other_tasks_get_turns_during_a_burst(listener: Listener) -> None:
    """All its frames are there at once, so that nothing has to be waited for."""
    feed = listener.receiver.open_feed(NONCE)
    turns: list[None] = []
    for sequence in range(10_000):
        feed.deliver(listener, sequence, Frame(FrameKind.CHUNK, 1, b"token"))
    async with each_turn(lambda: turns.append(None)):
        for _ in range(10_000):
            await feed.next()
    assert len(turns) >= 10_000 // frames.TURN_FRAMES - 1


async def test_other_tasks_get_turns_while_a_burst_comes_in(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, most, total = 0, 0, 0

    def take(*_: object) -> None:
        nonlocal taken, most, total
        taken, total = taken + 1, total + 1
        most = max(most, taken)

    def begin_turn() -> None:
        nonlocal taken
        taken = 0

    monkeypatch.setattr(listener.receiver, "take", take)
    socket = await listener.page()
    async with each_turn(begin_turn):
        for sequence in range(10_000):
            await socket.send_bytes(message(sequence, b"token"))
        await eventually(lambda: total == 10_000, timeout_s=30)
    assert most <= frames.TURN_FRAMES


async def test_answers_to_looks_are_taken_in_their_order_and_from_one_connection(listener: Listener) -> None:
    channel = listener.receiver.open_channel()
    page, stranger = await listener.page(), await listener.page()

    def answer(number: int, found: bytes = b'{"a": 1}') -> bytes:
        return message(number, found, nonce=channel.nonce, kind=FrameKind.LOOK)

    assert await channel.look(1) is None  # nobody is there to be asked
    await page.send_bytes(answer(0))
    await eventually(lambda: channel.is_open)
    looks = [asyncio.create_task(channel.look(30)) for _ in range(4)]
    assert [(await page.receive(5)).data for _ in looks] == [""] * 4
    await stranger.send_bytes(answer(1, b'{"a": 9}'))
    await stranger.send_bytes(b"")
    for said in (answer(3, b'{"a": 8}'), b"", answer(2, b'{"a": 2}'), b"", answer(4, b"")):
        await page.send_bytes(said)
    assert await asyncio.wait_for(asyncio.gather(*looks), 30) == [{"a": 1}, {"a": 2}, {"a": 2}, None]


async def test_an_answer_that_is_late_is_not_that_of_a_later_look(listener: Listener) -> None:
    channel = listener.receiver.open_channel()
    page = await listener.page()
    first, late, new = (
        message(number, b'{"a": %d}' % number, nonce=channel.nonce, kind=FrameKind.LOOK) for number in range(3)
    )
    await page.send_bytes(first)
    await eventually(lambda: channel.is_open)
    assert [await channel.look(0.01) for _ in range(3)] == [None] * 3
    await page.receive(5)
    await page.send_bytes(late)
    await eventually(lambda: channel._late is None)
    looking = asyncio.create_task(channel.look(30))
    await page.receive(5)  # it was asked twice in all
    await page.send_bytes(new)
    assert await asyncio.wait_for(looking, 30) == {"a": 2}
    waiting = asyncio.create_task(channel.look(30))
    await page.receive(5)
    await page.close()
    assert await asyncio.wait_for(waiting, 30) is None
    assert not channel.is_open
    assert await channel.look(1) is None


async def test_what_was_not_asked_for_is_garbage(listener: Listener) -> None:
    """From the connection of a channel that waits for no answer, too."""
    channel = listener.receiver.open_channel()
    feed = listener.receiver.open_feed(NONCE)
    page = await listener.page()
    await page.send_bytes(message(0, b"{}", nonce=channel.nonce, kind=FrameKind.LOOK))
    await page.send_bytes(message(0, b"a"))
    await page.send_bytes(b"")
    assert await received(feed, 2) == [Frame(FrameKind.CHUNK, 1, b"a"), Frame(FrameKind.GAP)]


async def test_a_frame_reaches_no_other_page_than_its_own() -> None:
    """Every origin with every token and every nonce, of pages that share a port, two of them of one origin."""
    number = free_range(1)
    port = StreamPort(number)
    origins = {"a": ORIGIN, "b": ORIGIN, "c": "https://other.example.com", "closed": ORIGIN}
    receivers = {name: StreamReceiver(origin=origin, token=f"token-{name}") for name, origin in origins.items()}
    for receiver in receivers.values():
        port.add(receiver)
    port.remove(receivers["closed"])
    await port.start()
    nonces = {name: f"nonce-of-{name:>7}" for name in receivers}
    reached: set[tuple[str, str, str, str]] = set()
    try:
        async with aiohttp.ClientSession() as session:
            for origin, token, nonce in itertools.product({ORIGIN, origins["c"]}, receivers, receivers):
                feeds = {name: receiver.open_feed(nonces[name]) for name, receiver in receivers.items()}
                socket = await session.ws_connect(f"ws://127.0.0.1:{number}/", origin=origin)
                await socket.send_str(f"token-{token}")
                await socket.send_bytes(message(0, b"frame", nonce=nonces[nonce]))
                await socket.close()
                reached |= {(origin, token, nonce, name) for name, feed in feeds.items() if await feed.wait(0)}
    finally:
        await port.stop()
    assert reached == {(origins[name], name, name, name) for name in ("a", "b", "c")}


async def test_a_page_that_is_closed_is_sent_no_further_connection(listener: Listener) -> None:
    socket = await listener.connect()
    listener.port.remove(listener.receiver)
    await socket.send_str(TOKEN)  # it came in time, and is late all the same
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await listener.connect()
