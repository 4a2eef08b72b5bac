"""Memory and `/live` of a coordinator under 200 hostile connections: `python -m benchmarks hostile`.

Every kind of connection in KINDS has the same share of CONNECTIONS, each opened anew whenever the coordinator ends it.
The coordinator's resident set is read every LOOK_S seconds, and `/live` is asked over a new connection each time. The
hostile connections are those of another process, so that `/live` is asked without delay:

    python -m benchmarks.hostile PORT [KIND ...]
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.load import KEY
from benchmarks.report import Figure, Result
from benchmarks.stub_fleet import stub_fleet
from tests.support.ports import free_range

CHILDREN = 2
CONNECTIONS = 200
HOSTILE_S = 30.0
REST_S = 3.0
LOOK_S = 0.05
PAUSE_S = 0.5  # between two bytes of who is slow
LIVE_LIMIT_S = 30.0
MORE_MB, LIVE_S = 150.0, 0.5
BIG_BYTES = 10 * 1024 * 1024 - 1  # just within MAX_BODY_BYTES

_HOST = b"host: 127.0.0.1\r\nauthorization: Bearer " + KEY.encode() + b"\r\n"
_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\n" + _HOST + b"content-type: application/json\r\n"
_STREAM = b'{"model": "bench", "stream": true, "messages": [{"role": "user", "content": "x"}]}'


async def slow_heads(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a head that never ends: most of what one may have at once, then byte by byte."""
    writer.write(b"GET /live HTTP/1.1\r\n" + b"".join(b"x-%d: %b\r\n" % (number, b"x" * 1000) for number in range(50)))
    await _drip(writer, b"x")


async def slow_bodies(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a body in chunks of a byte, which has no end."""
    writer.write(_CHAT + b"transfer-encoding: chunked\r\n\r\n")
    await _drip(writer, b"1\r\n \r\n")


async def big_bodies(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send all but the last byte of the largest body that is taken, as fast as it is read."""
    writer.write(_CHAT + b"content-length: %d\r\n\r\n" % (BIG_BYTES + 1))
    for _piece in range(BIG_BYTES // 65536):
        writer.write(b" " * 65536)
        await writer.drain()
    await asyncio.sleep(HOSTILE_S)


async def never_reads(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for 30 streams in one go, and read none of them."""
    writer.write((_CHAT + b"content-length: %d\r\n\r\n" % len(_STREAM) + _STREAM) * 30)
    await writer.drain()
    await asyncio.sleep(HOSTILE_S)


async def trailers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End a body, then send headers after it, of the kind that takes most memory for its bytes, without end."""
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n")
    while True:
        writer.write(b"a:\r\n" * 4096)
        await writer.drain()


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        await writer.drain()
        await asyncio.sleep(PAUSE_S)
        writer.write(data)


Kind = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KINDS: Mapping[str, Kind] = {
    "slow-heads": slow_heads,
    "slow-bodies": slow_bodies,
    "big-bodies": big_bodies,
    "never-reads": never_reads,
    "trailers": trailers,
}


@dataclass
class Seen:
    """What was measured."""

    rest_mb: float = 0.0
    peak_mb: float = 0.0
    after_mb: float = 0.0
    live_at_rest_s: list[float] = field(default_factory=list)
    live_s: list[float] = field(default_factory=list)


def resident_mb(pid: int) -> float:
    """Return the resident set size of a process in MB (proc(5), status, whose kB are 1024 bytes)."""
    (kb,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kb) * 1024 / 1e6


def run(console: Console) -> Result:
    """Measure a coordinator at rest, then under all kinds at once."""
    with tempfile.TemporaryDirectory(prefix="ho-", dir="/tmp") as folder:
        first = free_range(2 * CHILDREN + 1)
        with stub_fleet(Path(folder) / "fleet", port=first, child_port=first + 1, children=CHILDREN) as running:
            console.print(f"hostile: {CONNECTIONS} connections for {HOSTILE_S:g} s", style="dim")
            seen = asyncio.run(measure(first, running.pid))
    return result(seen)


async def measure(port: int, pid: int, kinds: Sequence[str] = ()) -> Seen:
    """Measure for HOSTILE_S seconds. Raise OSError or TimeoutError if the coordinator does not answer `/live`."""
    seen = Seen()
    seen.live_at_rest_s, seen.rest_mb = await _watch(port, pid, REST_S)
    command = (sys.executable, "-m", "benchmarks.hostile", str(port), *kinds)
    hostile = await asyncio.create_subprocess_exec(*command)
    try:
        seen.live_s, seen.peak_mb = await _watch(port, pid, HOSTILE_S)
        if hostile.returncode is not None:
            raise OSError("the hostile connections ended by themselves")
    finally:
        hostile.kill()
        await hostile.wait()
    await asyncio.sleep(REST_S)
    seen.after_mb = resident_mb(pid)
    return seen


async def _watch(port: int, pid: int, seconds: float) -> tuple[list[float], float]:
    """Ask `/live` again and again; return the seconds that each answer took, and the largest resident set in MB."""
    end, live_s, peak_mb = time.monotonic() + seconds, [], 0.0
    while time.monotonic() < end:
        live_s.append(await _ask_live(port))
        peak_mb = max(peak_mb, resident_mb(pid))
        await asyncio.sleep(LOOK_S)
    return live_s, peak_mb


async def open_all(port: int, kinds: Sequence[str]) -> None:
    """Hold 200 connections of these kinds, each opened anew when it is ended; never returns."""

    async def keep_open(behave: Kind) -> None:
        while True:
            writer = None
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
                await behave(reader, writer)
            if writer is not None:
                writer.transport.abort()
            await asyncio.sleep(LOOK_S)

    await asyncio.gather(*(keep_open(KINDS[name]) for name in kinds for _ in range(CONNECTIONS // len(kinds))))


async def _ask_live(port: int) -> float:
    """Return how many seconds an answer to `/live` took, with its connection."""
    began = time.monotonic()
    async with asyncio.timeout(LIVE_LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"/live: {answer[:40]!r}")
    return time.monotonic() - began


def result(seen: Seen) -> Result:
    """Return the figures, with the targets of the largest difference and of the slowest answer."""
    figures = [
        Figure("memory at rest (RSS)", "MB", [seen.rest_mb]),
        Figure("peak", "MB", [seen.peak_mb]),
        Figure("peak less rest", "MB", [seen.peak_mb - seen.rest_mb], aim=MORE_MB),
        Figure("after them", "MB", [seen.after_mb]),
        Figure("/live at rest", "ms", [seconds * 1e3 for seconds in seen.live_at_rest_s]),
        Figure("/live", "ms", [seconds * 1e3 for seconds in seen.live_s]),
        Figure("/live, slowest", "ms", [max(seen.live_s) * 1e3], aim=LIVE_S * 1e3),
    ]
    title = f"A coordinator under {CONNECTIONS} hostile connections for {HOSTILE_S:g} s"
    return Result(title, [], [f"The same share of each kind: {', '.join(KINDS)}."], figures)


if __name__ == "__main__":
    asyncio.run(open_all(int(sys.argv[1]), sys.argv[2:] or tuple(KINDS)))
