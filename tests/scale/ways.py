"""The ways from cells to the store of claims: network namespaces of the test's own, or relays where there are none.

Both can be cut, so that what is sent is neither delivered nor refused, and healed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.coordinator.program import ROOT
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S, eventually

STORE = "store"


class Ways(Protocol):
    """Where each party runs, and its way to the store."""

    kind: str
    store_host: str
    """The address at which the store listens, for its certificate too."""

    def command(self, name: str) -> tuple[str, ...]:
        """What stands before a command that is to run where this party does."""

    def address(self, cell: str) -> str:
        """Host and port by which a cell reaches the store."""

    async def open_door(self, cell: str, port: int, socket: Path) -> str | None:
        """Let the test reach a port of the cell; return the path of a socket for that, None if it needs none."""

    def cut(self, cell: str) -> None:
        """Lose everything between the cell and the store from now on."""

    def heal(self, cell: str) -> None:
        """Undo `cut`."""


def run(*command: str) -> None:
    """Run a command of the system, which must succeed; what it says is in the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Namespaces:
    """A switch, and one namespace for each name, joined to it; a cut takes a name's port out of the switch.

    They have no names: each is held open by a process that dies with the test, so that nothing of them can be left.
    """

    kind = "network namespaces"

    def __init__(self, stack: contextlib.ExitStack, names: Sequence[str], store_port: int) -> None:
        self._stack, self._store_port = stack, store_port
        self._holders = {name: self._hold() for name in ("switch", *names)}
        self._ip("switch", "link", "add", "br0", "type", "bridge")
        self._ip("switch", "link", "set", "br0", "up")
        for number, name in enumerate(names):
            port, pid = f"to-{name}", str(self._holders[name])
            self._ip("switch", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid)
            self._ip("switch", "link", "set", port, "master", "br0", "up")
            self._ip(name, "address", "add", f"10.251.0.{10 + number}/24", "dev", "eth0")
            self._ip(name, "link", "set", "eth0", "up")
            self._ip(name, "link", "set", "lo", "up")
        self.store_host = f"10.251.0.{10 + list(names).index(STORE)}"

    def _hold(self) -> int:
        words = ("unshare", "--net", "--", "sh", "-c", "echo there && exec sleep infinity")
        holder = subprocess.Popen(
            [*DIES_WITH_PARENT, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert holder.stderr is not None
        self._stack.enter_context(holder.stdout)
        self._stack.enter_context(holder.stderr)
        self._stack.callback(holder.wait)
        self._stack.callback(holder.kill)
        if holder.stdout.readline() != b"there\n":
            raise RuntimeError(f"unshare --net: {holder.stderr.read().decode().strip()}")
        return holder.pid

    def _ip(self, name: str, *words: str) -> None:
        run(*self.command(name), "ip", *words)

    def command(self, name: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self._holders[name]}/ns/net", "--")

    def address(self, cell: str) -> str:  # the same for all
        return f"{self.store_host}:{self._store_port}"

    async def open_door(self, cell: str, port: int, socket: Path) -> str | None:
        door = self._door(cell, port, socket)
        await eventually(lambda: socket.exists() or door.poll() is not None)
        assert door.poll() is None
        return str(socket)

    def _door(self, cell: str, port: int, socket: Path) -> subprocess.Popen[bytes]:
        program = (sys.executable, "-m", "tests.scale.door", str(socket), str(port))
        door = subprocess.Popen([*DIES_WITH_PARENT, *self.command(cell), *program], cwd=ROOT)
        self._stack.callback(door.wait)
        self._stack.callback(door.kill)
        return door

    def cut(self, cell: str) -> None:
        self._ip("switch", "link", "set", f"to-{cell}", "nomaster")

    def heal(self, cell: str) -> None:
        self._ip("switch", "link", "set", f"to-{cell}", "master", "br0")


class Relay:
    """One cell's way to the store on loopback, through the test's process."""

    def __init__(self, store_port: int) -> None:
        self._store_port = store_port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection; while it is cut, hold what comes."""
        with contextlib.suppress(OSError):
            await self._open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._store_port)
            answers = asyncio.create_task(self._carry(there, writer))
            self._tasks.add(answers)
            answers.add_done_callback(self._tasks.discard)
            await self._carry(reader, back)

    async def _carry(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(1024 * 1024):
                await self._open.wait()
                to.write(piece)
        to.close()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()


class Relays:
    """All on loopback, a relay for each cell."""

    kind = "relays on loopback"
    store_host = "127.0.0.1"

    def __init__(self, relays: dict[str, Relay], ports: dict[str, int]) -> None:
        self._relays, self._ports = relays, ports

    def command(self, name: str) -> tuple[str, ...]:
        return ()

    def address(self, cell: str) -> str:
        return f"127.0.0.1:{self._ports[cell]}"

    async def open_door(self, cell: str, port: int, socket: Path) -> str | None:
        return None

    def cut(self, cell: str) -> None:
        self._relays[cell].cut()

    def heal(self, cell: str) -> None:
        self._relays[cell].heal()


@contextlib.contextmanager
def namespaces(names: Sequence[str], store_port: int) -> Iterator[Ways]:
    """Join the store and cells of these names by namespaces. Raises RuntimeError, OSError where that is impossible."""
    with contextlib.ExitStack() as stack:
        yield Namespaces(stack, [STORE, *names], store_port)


@contextlib.asynccontextmanager
async def relays(names: Sequence[str], store_port: int) -> AsyncIterator[Ways]:
    """Join the store and cells of these names by relays."""
    async with contextlib.AsyncExitStack() as stack:
        made = {name: Relay(store_port) for name in names}
        ports = {}
        for name, relay in made.items():
            server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            ports[name] = server.sockets[0].getsockname()[1]
        yield Relays(made, ports)


def why_no_namespaces() -> str | None:
    """Return why there can be no network namespaces here; None: there can."""
    if os.environ.get("SCALE_NAMESPACES") == "no":
        return "SCALE_NAMESPACES=no"
    try:
        with namespaces(["probe"], free_range(1)):
            return None
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return str(error)


def other_clocks() -> tuple[str, ...]:
    """What stands before a command so that its clocks since boot are others; empty where that is not allowed."""
    # Without --fork the command itself may keep its clocks (Linux before 6.2): time_namespaces(7).
    words = ("unshare", "--time", "--boottime", "1234567", "--monotonic", "76543", "--fork", "--kill-child=KILL", "--")
    try:
        run(*words, "true")
    except (OSError, RuntimeError):
        return ()
    return words
