"""A connection to etcd that loses what comes back, or brings what was sent much later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Link:
    """A way to one member by which a test's store sends its requests, as one that goes through `url`."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._lossy: set[asyncio.StreamWriter] = set()
        self._late: list[bytes] = []
        self.url = ""
        self.losses = 0
        """How many requests are yet to arrive whose connections break before their answers come."""
        self.loses = b"/v3/"
        """Only those with this in them."""
        self.holds = b""
        """Requests with this in them do not arrive; `deliver` brings them."""

    @property
    def held(self) -> int:
        """How many requests are on their way."""
        return len(self._late)

    async def deliver(self) -> None:
        """Bring what was held, and wait until it is answered."""
        while self._late:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(self._late.pop(0))
            assert await reader.read(1)
            writer.close()

    def close_all(self) -> None:
        """Close its connections, as what stands between may do with idle ones."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(self._host, self._port)
            answers = asyncio.create_task(self._answers(there, writer))
            self._tasks.add(answers)
            answers.add_done_callback(self._tasks.discard)
            is_held = False
            while request := await reader.read(1024 * 1024):
                if is_held:  # its body came by itself
                    self._late[-1] += request
                elif self.holds and self.holds in request:
                    is_held = True
                    self._late.append(request)
                else:
                    if self.losses and self.loses in request:
                        self.losses -= 1
                        self._lossy.add(writer)
                    back.write(request)
            back.close()
        writer.close()
        self._writers.discard(writer)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while answer := await there.read(1024 * 1024):
                if writer in self._lossy:
                    self._lossy.discard(writer)
                    break
                writer.write(answer)
        writer.close()


@contextlib.asynccontextmanager
async def link(address: str) -> AsyncIterator[Link]:
    """Run a link to the member at this address until the block ends."""
    made = Link(address)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
