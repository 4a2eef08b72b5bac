"""Profile sources of the coordinator, a folder and S3, which can be made to fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.s3 import S3Server, s3_server


class Source(Protocol):
    """A profile source, and the settings that select it."""

    environment: Mapping[str, str]

    async def put(self, name: str, state: Mapping[str, Any]) -> None:
        """Write one profile, a storage state."""

    async def remove(self, name: str) -> None:
        """Remove one profile."""

    async def fail(self) -> None:
        """Become unavailable: from now on a reload fails."""

    async def recover(self) -> None:
        """Become available again."""


@dataclass
class LocalSource:
    """A folder, which fails by being renamed."""

    folder: Path
    environment: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.environment = {"LOCAL_PROFILE_DIR": str(self.folder)}
        self._away = self.folder.with_suffix(".away")

    async def put(self, name: str, state: Mapping[str, Any]) -> None:
        draft = self._here / f"{name}.new"
        draft.write_text(json.dumps(state))
        draft.rename(draft.with_suffix(".json"))

    async def remove(self, name: str) -> None:
        (self._here / f"{name}.json").unlink(missing_ok=True)

    async def fail(self) -> None:
        if self.folder.exists():
            self.folder.rename(self._away)

    async def recover(self) -> None:
        if self._away.exists():
            self._away.rename(self.folder)

    @property
    def _here(self) -> Path:
        return self.folder if self.folder.exists() else self._away


@dataclass
class S3Source:
    """A bucket of a real server behind a relay, which in turn refuses connections and does not respond."""

    server: S3Server
    relay: Relay
    environment: Mapping[str, str]
    _silent_next: bool = False

    async def put(self, name: str, state: Mapping[str, Any]) -> None:
        content = {f"active/{name}.json": json.dumps(state).encode()}
        await asyncio.to_thread(self.server.upload, content)

    async def remove(self, name: str) -> None:
        await asyncio.to_thread(self.server.delete, f"active/{name}.json")

    async def fail(self) -> None:
        if self._silent_next:
            self.relay.silent = True
            self.relay.cut()
        else:
            await self.relay.close()
        self._silent_next = not self._silent_next

    async def recover(self) -> None:
        self.relay.silent = False
        self.relay.cut()
        await self.relay.open()


class Relay:
    """A TCP relay to a loopback port, which can be closed, silenced or cut."""

    def __init__(self, target_port: int) -> None:
        self.silent = False
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen; keep the port of the first time."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and abort all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Abort all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.silent:
                await reader.read()
                return
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(onward)
            await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
            self._writers.discard(onward)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def s3_source(folder: Path) -> AsyncIterator[S3Source]:
    """Run an S3 server while the context lasts; the coordinator's credentials may only read the bucket."""
    (folder / "s3").mkdir()
    stack = contextlib.ExitStack()
    server = await asyncio.to_thread(stack.enter_context, s3_server(folder / "s3"))
    with stack:
        relay = Relay(int(server.url.rpartition(":")[2]))
        await relay.open()
        environment = {
            **server.credentials(),
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{relay.port}",
            "PROFILE_BACKEND": "s3",
            "AUTH_PROFILE_S3_BUCKET": "profiles",
            "AUTH_PROFILE_S3_CONNECT_TIMEOUT_S": "1",
            "AUTH_PROFILE_S3_READ_TIMEOUT_S": "1",
            "AUTH_PROFILE_CACHE_DIR": str(folder / "cache"),
        }
        try:
            yield S3Source(server, relay, environment)
        finally:
            await relay.close()
