"""Whom a frame reaches: any order of pages, connections, answers and forged frames, over a real stream port.

A small model says who may be given what: a connection belongs to the page whose token it has shown, with that page's
origin, while the page was open. A frame of it reaches the answer or the looks of that page that its nonce names, and
nobody else, whatever tokens and nonces it knows of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from dataclasses import dataclass, field
from unittest import mock

import aiohttp
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from browser.capture import stream_server
from browser.capture.frames import Feed, Frame, FrameKind
from browser.capture.look_channel import LookChannel
from browser.capture.stream_port import StreamPort
from browser.capture.stream_receiver import StreamReceiver
from tests.support.ports import free_range
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S

ORIGINS = ("https://chat.example.com", "https://other.example.com", "https://third.example.com")
KINDS = (FrameKind.CHUNK, FrameKind.EVENT, FrameKind.DOM_ADD, FrameKind.LOOK)
JUNK = (b"", b"short", b"\x00" * 24, b"x" * 24 + bytes([77]))
"""No frames: too short, or of a kind that there is not. The empty message would be an answer if a look were asked."""

STEPS = st.sampled_from([0, 0, 0, 0, 1, -1])
"""From the number that is waited for to the one that is sent."""

TURNS = 50
"""Of the loop: several times what a task needs to take all that is in its queue."""

Answer = list[tuple[FrameKind, bytes]]


@dataclass(eq=False)
class Reply:
    """An answer of a page, and what it is to be given."""

    nonce: str
    feed: Feed
    connection: Connection | None = None
    next_sequence: int = 0
    has_gap: bool = False
    expected: Answer = field(default_factory=list)
    got: Answer = field(default_factory=list)

    def take(self, connection: Connection, sequence: int, kind: FrameKind, payload: bytes) -> None:
        if self.connection is None:
            self.connection = connection
        if self.connection is not connection or self.has_gap:
            return
        if sequence == self.next_sequence:
            self.next_sequence += 1
            self.expected.append((kind, payload))
        else:
            self.lose()

    def lose(self) -> None:
        self.has_gap = True
        self.expected.append((FrameKind.GAP, b""))

    def lost(self, connection: Connection) -> None:
        if self.connection is connection and not self.has_gap:
            self.lose()


@dataclass(eq=False)
class Page:
    """A page's end of the port; `channel` is that of the looks of its present document."""

    origin: str
    token: str
    receiver: StreamReceiver
    channel: LookChannel
    is_open: bool = True
    reply: Reply | None = None
    looked_over: Connection | None = None
    channel_is_over: bool = False


@dataclass(eq=False)
class Connection:
    """A client of the port. `page` is set once it has shown a token that counts."""

    socket: aiohttp.ClientWebSocketResponse
    origin: str
    admits: frozenset[Page]
    """The pages of its origin that were open when it came."""
    page: Page | None = None
    is_over: bool = False


async def settle() -> None:
    """Let the port take what has come before its answer to a ping or its close: it has received that already.

    It answers while it reads, so that what was said before may still be in its queue. To take that needs turns of the
    loop, and no I/O.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)


class StreamPortMachine(RuleBasedStateMachine):
    pages = Bundle("pages")
    connections = Bundle("connections")
    nonces = Bundle("nonces")

    def __init__(self) -> None:
        super().__init__()
        self.patch = mock.patch.object(stream_server, "HELLO_TIMEOUT_S", 3600.0)  # the model knows no time
        self.patch.start()
        self.runner = asyncio.Runner()
        self.numbers = itertools.count()
        self.all_pages: list[Page] = []
        self.all_connections: list[Connection] = []
        self.replies: list[Reply] = []
        self.port, self.url, self.session = self.runner.run(self.open())

    async def open(self) -> tuple[StreamPort, str, aiohttp.ClientSession]:
        number = free_range(1)
        port = StreamPort(number)
        await port.start()
        await port.serving()
        return port, f"ws://127.0.0.1:{number}/", aiohttp.ClientSession()

    # Pages

    @initialize(target=pages, origins=st.lists(st.sampled_from(ORIGINS[:2]), min_size=2, max_size=3))
    def some_pages_are_open(self, origins: list[str]) -> MultipleResults[Page]:
        return multiple(*map(self.a_new_page, origins))

    @rule(target=pages, origin=st.sampled_from(ORIGINS[:2]))
    def a_page_opens(self, origin: str) -> Page:
        return self.a_new_page(origin)

    def a_new_page(self, origin: str) -> Page:
        token = f"token-{next(self.numbers)}"
        receiver = StreamReceiver(origin=origin, token=token)
        self.port.add(receiver)
        page = Page(origin, token, receiver, receiver.open_channel())
        self.all_pages.append(page)
        return page

    @rule(page=pages)
    def a_page_closes_or_opens_again(self, page: Page) -> None:
        """What it had of connections stays its own until they are gone."""
        if page.is_open:
            self.port.remove(page.receiver)
        else:
            self.port.add(page.receiver)
        page.is_open = not page.is_open

    @rule(target=nonces, page=pages)
    def a_page_has_another_document(self, page: Page) -> str:
        page.channel = page.receiver.open_channel()
        page.looked_over, page.channel_is_over = None, False
        return page.channel.nonce

    @rule(target=nonces, page=pages)
    def an_answer_begins(self, page: Page) -> str:
        return self.begin(page, f"nonce-{next(self.numbers):010}")

    @rule(page=pages, nonce=nonces)
    def an_answer_begins_with_a_nonce_that_was_used_before(self, page: Page, nonce: str) -> None:
        """By another page too: chance does not do that, and nothing depends on it."""
        self.begin(page, nonce)

    def begin(self, page: Page, nonce: str) -> str:
        page.reply = Reply(nonce, page.receiver.open_feed(nonce))
        self.replies.append(page.reply)
        return nonce

    @rule(page=pages)
    def an_answer_ends(self, page: Page) -> None:
        if page.reply is not None:
            page.receiver.close_feed(page.reply.feed)
            page.reply = None

    # Connections

    @rule(target=connections, origin=st.sampled_from(ORIGINS))
    def somebody_connects(self, origin: str) -> Connection | MultipleResults[Connection]:
        return self.connect(origin) or multiple()

    @rule(target=connections, page=pages)
    def a_hook_connects(self, page: Page) -> Connection | MultipleResults[Connection]:
        """As the hook of a page does: with its origin and its token at once."""
        connection = self.connect(page.origin)
        if connection is None:
            return multiple()
        self.it_shows_a_token(connection, page, as_text=True)
        return connection

    def connect(self, origin: str) -> Connection | None:
        admits = frozenset(page for page in self.all_pages if page.is_open and page.origin == origin)
        open_pages = sum(page.is_open for page in self.all_pages)
        strangers = sum(one.page is None and not one.is_over for one in self.all_connections)
        refused = not admits or strangers >= stream_server.MAX_STRANGERS * open_pages

        async def connect() -> aiohttp.ClientWebSocketResponse | None:
            try:
                return await self.session.ws_connect(self.url, origin=origin, autoping=False)
            except aiohttp.WSServerHandshakeError as error:
                return None if error.status == 403 else pytest.fail(f"refused with {error.status}")

        socket = self.runner.run(connect())
        assert (socket is None) == refused
        connection = Connection(socket, origin, admits) if socket else None
        if connection:
            self.all_connections.append(connection)
        return connection

    @rule(connection=connections, page=pages, as_text=st.sampled_from([True, True, True, False]))
    def it_shows_a_token(self, connection: Connection, page: Page, as_text: bool) -> None:
        """The first thing that it says; later ones are no frames, and end it."""
        if connection.is_over:
            return
        is_first, said = connection.page is None, page.token
        self.say(connection, said if as_text else said.encode())
        if is_first and as_text and page.is_open and page in connection.admits:
            connection.page = page
            self.confirm(connection)
        elif is_first or as_text:
            self.has_ended(connection)
        else:  # bytes that are no frame
            self.loses(connection)
            self.confirm(connection)

    @rule(target=connections, page=pages, first=st.sampled_from([True, False]))
    def a_page_closes_or_opens_while_a_hook_of_it_connects(
        self, page: Page, first: bool
    ) -> Connection | MultipleResults[Connection]:
        """Between the handshake and the token, or before the one and after the other."""
        if first:
            self.a_page_closes_or_opens_again(page)
        connection = self.connect(page.origin)
        self.a_page_closes_or_opens_again(page)
        if connection is None:
            return multiple()
        self.it_shows_a_token(connection, page, as_text=True)
        return connection

    @rule(connection=connections, kind=st.sampled_from(KINDS), step=STEPS, count=st.integers(1, 3))
    def it_sends_frames_of_its_own_page(self, connection: Connection, kind: FrameKind, step: int, count: int) -> None:
        page = connection.page
        if page is not None:
            nonce = page.channel.nonce if kind is FrameKind.LOOK else page.reply.nonce if page.reply else None
            if nonce is not None:
                self.it_sends_frames(connection, nonce, kind, step, count)

    @rule(targets=(connections,), page=pages, turns=st.lists(st.booleans(), min_size=2, max_size=5))
    def two_hooks_of_a_page_send_in_turn(self, page: Page, turns: list[bool]) -> MultipleResults[Connection]:
        """As of a page that was loaded anew: the first to deliver is the answer's, the other is not heard."""
        hooks = [connection for _ in range(2) if (connection := self.connect(page.origin))]
        for connection in hooks:
            self.it_shows_a_token(connection, page, as_text=True)
        if page.reply is None:
            self.an_answer_begins(page)
        for turn in turns if len(hooks) == 2 else []:
            self.it_sends_frames_of_its_own_page(hooks[turn], FrameKind.CHUNK, 0, 1)
        return multiple(*hooks)

    @rule(connection=connections, of=pages, kind=st.sampled_from(KINDS), count=st.integers(1, 3))
    def it_sends_frames_of_another_page(self, connection: Connection, of: Page, kind: FrameKind, count: int) -> None:
        """With the nonce and the number that this one waits for."""
        nonce = of.channel.nonce if kind is FrameKind.LOOK else of.reply.nonce if of.reply else None
        if nonce is not None:
            self.it_sends_frames(connection, nonce, kind, 0, count)

    @rule(connection=connections, nonce=nonces, kind=st.sampled_from(KINDS), step=STEPS, count=st.integers(1, 3))
    def it_sends_frames(self, connection: Connection, nonce: str, kind: FrameKind, step: int, count: int) -> None:
        """With any nonce that was ever given out, in the order that its answer waits for or in another."""
        if connection.is_over:
            return
        page = connection.page
        own = page.reply if page else None
        awaited = own or next((reply for reply in reversed(self.replies) if reply.nonce == nonce), None)
        first = max(0, (awaited.next_sequence if awaited else 0) + step)
        for sequence in range(first, first + count):
            payload = f"frame {next(self.numbers)}".encode()
            self.say(connection, struct.pack(">16sIIB", nonce.encode(), sequence, 1, kind) + payload)
            if page is None:
                self.has_ended(connection)  # it has shown no token
                return
            if kind is FrameKind.LOOK:
                self.looked(page, connection, nonce)
            elif page.reply is not None and page.reply.nonce == nonce:
                page.reply.take(connection, sequence, kind, payload)
        self.confirm(connection)

    def looked(self, page: Page, connection: Connection, nonce: str) -> None:
        if nonce == page.channel.nonce and page.looked_over is None and not page.channel_is_over:
            page.looked_over = connection

    @rule(connection=connections, junk=st.sampled_from(JUNK))
    def it_sends_junk(self, connection: Connection, junk: bytes) -> None:
        if connection.is_over:
            return
        self.say(connection, junk)
        if connection.page is None:
            self.has_ended(connection)
            return
        self.loses(connection)
        self.confirm(connection)

    @rule(connection=consumes(connections))
    def it_leaves(self, connection: Connection) -> None:
        if not connection.is_over:
            self.runner.run(connection.socket.close())
            self.runner.run(settle())
            self.is_gone(connection)

    # What follows

    def say(self, connection: Connection, said: str | bytes) -> None:
        send = connection.socket.send_str if isinstance(said, str) else connection.socket.send_bytes
        self.runner.run(send(said))  # type: ignore[arg-type]

    def confirm(self, connection: Connection) -> None:
        """Wait until all that it has said was taken."""

        async def ask() -> None:
            await connection.socket.ping()
            assert (await connection.socket.receive(HANG_LIMIT_S)).type is aiohttp.WSMsgType.PONG
            await settle()

        self.runner.run(ask())

    def has_ended(self, connection: Connection) -> None:
        """The port has closed the connection: it answers no ping any more."""

        async def ask() -> None:
            with contextlib.suppress(ConnectionError):
                await connection.socket.ping()
            assert (await connection.socket.receive(HANG_LIMIT_S)).type is aiohttp.WSMsgType.CLOSE
            await connection.socket.close()
            await settle()

        self.runner.run(ask())
        self.is_gone(connection)

    def is_gone(self, connection: Connection) -> None:
        connection.is_over = True
        self.loses(connection)

    def loses(self, connection: Connection) -> None:
        """What the page waits for over this connection is lost."""
        page = connection.page
        if page is None:
            return
        if page.reply is not None:
            page.reply.lost(connection)
        if page.looked_over is connection:
            page.looked_over, page.channel_is_over = None, True

    # What always holds

    @invariant()
    def each_answer_has_been_given_exactly_its_own_frames(self) -> None:
        for reply in self.replies:
            while reply.feed._items:
                item = self.runner.run(reply.feed.next())
                assert isinstance(item, Frame)
                reply.got.append((item.kind, item.payload))
            assert reply.got == reply.expected, reply.nonce

    @invariant()
    def looks_are_asked_over_the_pages_own_connection_alone(self) -> None:
        for page in self.all_pages:
            assert page.channel.is_open == (page.looked_over is not None)

    def teardown(self) -> None:
        async def close() -> None:
            await self.session.close()
            await self.port.stop()

        self.runner.run(close())
        self.runner.close()
        self.patch.stop()


TestStreamPort = StreamPortMachine.TestCase
TestStreamPort.settings = settings(max_examples=size(25, 300), stateful_step_count=40, deadline=None)
