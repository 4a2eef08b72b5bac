"""`python -m tests.chaos.faults`: one fault of the operating system at a time, and what the fleet does in it.

Each row of the table has a fleet of its own, with fake children, or with browsers where the fault is one of a browser.
While it lasts, callers send requests, `/live` is asked over new connections, and the first child is killed where
nothing else ends it, so that its next start needs what there is none of. A row holds if

- `/live` was 200 throughout, and each answer came within LIVE_LIMIT_S;
- `/ready` gave one of the row's reasons for that child, and the others answered (or refused, where the row says so);
- no prompt was submitted twice, no answer was wrong, no caller hung;
- all children were READY again after the fault without an operator;
- the coordinator stopped with exit code 0, and left no process, no file and no traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import aiohttp

from tests.chaos import fleet as fleets
from tests.chaos import proc
from tests.chaos.browser_scenario import BrowserScenario, browser_scenario
from tests.chaos.clients import KEY, ClientRequest, Clients
from tests.chaos.fake_scenario import FakeScenario
from tests.chaos.fleet import ChaosFailed, Fleet, wait_until
from tests.chaos.injected import CLOCK, FORKS
from tests.chaos.profile_sources import LocalSource
from tests.chaos.runner import all_ready
from tests.chaos.verification import Ending, Findings, Result, verify
from tests.e2e.fleet import MODEL
from tests.support.ports import free_range

CHILDREN = 3
CALLERS = 3
FREE_DESCRIPTORS = 2
LIVE_LIMIT_S = 20.0  # a hang limit: a busy machine takes long
CALLER_LIMIT_S = 60.0
START_S = 120.0
NOTICE_S = 60.0
RECOVERY_S = 90.0
YEAR_S = 365 * 86400.0
TMPFS_BYTES, TMPFS_INODES = 1 << 20, 200
LARGE_BYTES, SHORTAGES = 9 << 20, 8

# In a mount namespace of its own, where this is not root in a user namespace, too: it ends with its last process.
_UNSHARE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
_MOUNT = f'mount -t tmpfs -o size={TMPFS_BYTES},nr_inodes={TMPFS_INODES} tmpfs "$TMPDIR" && exec "$@"'
TMPFS = (*_UNSHARE, "sh", "-c", _MOUNT, "sh")
LOG_FULL = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh")


@dataclass(frozen=True)
class Ground:
    """What a fault is made on."""

    scenario: FakeScenario | BrowserScenario
    tmp: Path  # the coordinator's TMPDIR, as it sees it
    injected: Path  # the folder of switches of tests.chaos.injected

    @property
    def fleet(self) -> Fleet:
        """Return the fleet."""
        return self.scenario.fleet

    @property
    def concerned(self) -> str:
        """Return the name of the child that the fault is about."""
        return self.scenario.config.names[0]

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to that child."""
        pid = await self.fleet.pid_of(self.concerned)
        if pid is None:
            raise ChaosFailed(f"{self.concerned} does not run")
        os.kill(pid, number)


Make: TypeAlias = Callable[[Ground], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A row: the fault lasts as long as the context that `make` returns."""

    name: str
    make: Make
    reasons: Collection[str]  # what `/ready` may say of the child concerned
    serves: bool = True  # whether requests are answered meanwhile; if not, they are refused with a proper error
    wrapper: Sequence[str] = ()  # of the coordinator's command
    browsers: bool = False


@dataclass
class Row:
    """What was seen of one fault."""

    fault: Fault
    seen: str = ""
    live_worst_s: float = 0.0
    answered: int = 0
    refused: int = 0
    recovery_s: float = 0.0
    broken: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the row in Markdown."""
        cells = (
            self.fault.name,
            self.seen or "-",
            f"{self.answered} answered, {self.refused} refused",
            f"{self.live_worst_s:.2f} s",
            f"{self.recovery_s:.1f} s",
            "held" if not self.broken else f"BROKEN: {'; '.join(self.broken)}",
        )
        return f"| {' | '.join(cells)} |"


HEAD = "| fault | the child | all requests | slowest `/live` | READY again after | |\n|---|---|---|---|---|---|"


# The faults


@contextlib.contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """Lower a soft limit of a process (prlimit(2)) while the context lasts."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@contextlib.asynccontextmanager
async def no_descriptor(ground: Ground) -> AsyncIterator[None]:
    """Leave the coordinator descriptors for two more connections at any time, which is too few to start a child."""

    def limit() -> int:
        used = {int(entry.name) for entry in Path(f"/proc/{ground.fleet.pid}/fd").iterdir()}
        free = (number for number in itertools.count() if number not in used)
        return next(itertools.islice(free, FREE_DESCRIPTORS, None))

    async def follow() -> None:
        while True:
            hard = resource.prlimit(ground.fleet.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(ground.fleet.pid, resource.RLIMIT_NOFILE, (limit(), hard))
            await asyncio.sleep(0.02)

    await ground.kill()
    with limited(ground.fleet.pid, resource.RLIMIT_NOFILE, limit()):
        following = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait({following})


@contextlib.asynccontextmanager
async def no_memory(ground: Ground) -> AsyncIterator[None]:
    """Leave the coordinator no more memory than it has, while callers come with bodies that do not fit."""
    refused = 0

    async def send_large_body() -> None:
        nonlocal refused
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {LARGE_BYTES}\r\n"
        head += f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\r\n"
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", ground.fleet.port)
            try:
                writer.write(head.encode() + b" " * LARGE_BYTES)
                await writer.drain()
                refused += b" 200 " not in await reader.read(20)
            except OSError:
                refused += 1
            finally:
                writer.transport.abort()

    with limited(ground.fleet.pid, resource.RLIMIT_AS, 1):  # less than it has: the kernel gives it no page more
        large = [asyncio.ensure_future(send_large_body()) for _ in range(4)]
        try:

            async def is_short() -> bool:
                return refused >= SHORTAGES

            await wait_until(is_short, "a shortage of memory", timeout_s=NOTICE_S)
            await ground.kill()
            yield
        finally:
            for task in large:
                task.cancel()
            await asyncio.gather(*large, return_exceptions=True)


@contextlib.asynccontextmanager
async def no_thread(ground: Ground) -> AsyncIterator[None]:
    async with switched(ground, FORKS):
        yield


@contextlib.asynccontextmanager
async def clock_ahead(ground: Ground) -> AsyncIterator[None]:
    async with switched(ground, CLOCK, f"{YEAR_S}"):
        yield


@contextlib.asynccontextmanager
async def clock_behind(ground: Ground) -> AsyncIterator[None]:
    async with switched(ground, CLOCK, f"{-YEAR_S}"):
        yield


@contextlib.asynccontextmanager
async def switched(ground: Ground, switch: str, content: str = "") -> AsyncIterator[None]:
    (ground.injected / f"{switch}.new").write_text(content)
    (ground.injected / f"{switch}.new").rename(ground.injected / switch)
    try:
        await ground.kill()
        yield
    finally:
        (ground.injected / switch).unlink()


@contextlib.asynccontextmanager
async def disk_full(ground: Ground) -> AsyncIterator[None]:
    with contextlib.suppress(OSError), (ground.tmp / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    await ground.kill()
    yield
    (ground.tmp / "full").unlink()


@contextlib.asynccontextmanager
async def no_inode(ground: Ground) -> AsyncIterator[None]:
    many = ground.tmp / "many"
    with contextlib.suppress(OSError):
        many.mkdir()
        for number in range(TMPFS_INODES):
            (many / str(number)).touch()
    await ground.kill()
    yield
    shutil.rmtree(many)


@contextlib.asynccontextmanager
async def tmp_swept(ground: Ground) -> AsyncIterator[None]:
    for root in ground.tmp.iterdir():
        shutil.rmtree(root)
    yield


@contextlib.asynccontextmanager
async def only_killed(ground: Ground) -> AsyncIterator[None]:
    await ground.kill()
    yield


@contextlib.asynccontextmanager
async def stopped(ground: Ground) -> AsyncIterator[None]:
    await ground.kill(signal.SIGSTOP)  # and never continued
    yield


@contextlib.asynccontextmanager
async def browser_stopped(ground: Ground) -> AsyncIterator[None]:
    assert isinstance(ground.scenario, BrowserScenario)
    browser = await ground.scenario.browser(ground.concerned)
    if browser is None:
        raise ChaosFailed(f"{ground.concerned} has no browser")
    os.killpg(browser, signal.SIGSTOP)  # and never continued
    yield


@contextlib.asynccontextmanager
async def stranger(ground: Ground) -> AsyncIterator[None]:
    """Take the port of c0 between two starts, and answer everything with 200 and JSON of a stranger's."""
    heard = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heard.extend(await reader.readuntil(b"\r\n\r\n"))
            body = b'{"status": "ready", "models": ["fake"]}'
            head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    async def listen() -> asyncio.Server | None:
        with contextlib.suppress(OSError):
            return await asyncio.start_server(answer, "127.0.0.1", ground.fleet.child_ports.start, reuse_address=True)
        return None

    await ground.kill()
    server = await wait_until(listen, f"the port of {ground.concerned}", timeout_s=NOTICE_S)
    try:
        yield
    finally:
        server.close()
    requests = [line for line in bytes(heard).split(b"\r\n") if line.endswith(b" HTTP/1.1")]
    if any(line != b"GET /ready HTTP/1.1" for line in requests) or b"token" in heard.lower() or b"key" in heard.lower():
        raise ChaosFailed("the stranger was sent more than a question for /ready")


FAULTS = (
    Fault("no descriptor left (RLIMIT_NOFILE)", no_descriptor, {"spawn_failed"}),
    Fault("no inode left in TMPDIR", no_inode, {"killed"}, wrapper=TMPFS),
    Fault("TMPDIR is full", disk_full, {"killed"}, serves=False, wrapper=TMPFS),
    Fault("no thread, no process (EAGAIN)", no_thread, {"spawn_failed"}),
    Fault("no memory (RLIMIT_AS)", no_memory, {"crashed"}),
    Fault("the wall clock jumps ahead by a year", clock_ahead, {"killed"}),
    Fault("the wall clock jumps back by a year", clock_behind, {"killed"}),
    Fault("SIGSTOP of a child, for good", stopped, {"probe_failed"}),
    Fault("SIGSTOP of a browser, for good", browser_stopped, {"browser_lost", "unhealthy_timeout"}, browsers=True),
    Fault("a stranger listens on a child's port", stranger, {"port_taken"}),
    Fault("TMPDIR is swept", tmp_swept, {"restart"}),
    Fault("log to a full disk", only_killed, {"killed"}, wrapper=LOG_FULL),
)


# One row


class Watch:
    """Asks `/live` over a new connection each time, and sends requests, until it is stopped."""

    def __init__(self, fleet: Fleet, model: str, seed: int) -> None:
        self.results: list[Result] = []
        self.live_worst_s = 0.0
        self.live_failed = ""
        self._fleet, self._model = fleet, model
        self._rng = random.Random(seed)
        self._clients = Clients(fleet.port, hang_after_s=CALLER_LIMIT_S)
        self._stopping = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the context lasts, and until the last request has ended."""
        tasks = [asyncio.ensure_future(self._call(number)) for number in range(CALLERS)]
        tasks.append(asyncio.ensure_future(self._ask_live()))
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)
            await self._clients.close()

    async def _call(self, caller: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            prompt = f"[[tokens=3 delay_ms=2]] {caller} {number} {self._rng.random()}"
            request = ClientRequest(prompt, self._model, bool(number % 2), "wait")
            self.results.append(await self._clients.send(request, self._rng))
            await asyncio.sleep(0.05)

    async def _ask_live(self) -> None:
        timeout = aiohttp.ClientTimeout(total=LIVE_LIMIT_S)
        while not self._stopping:
            began = time.monotonic()
            try:
                async with self._fleet.http.get("/live", timeout=timeout) as answer:
                    if answer.status != 200:
                        self.live_failed = f"/live: {answer.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                self.live_failed = f"/live: {type(error).__name__}"
            self.live_worst_s = max(self.live_worst_s, time.monotonic() - began)
            await asyncio.sleep(0.1)

    async def more(self, endings: Collection[Ending], count: int) -> None:
        """Wait until so many requests that begin from now on have ended in one of these ways."""
        first = len(self.results) + CALLERS  # those under way may have begun before

        async def seen() -> bool:
            return sum(result.ending in endings for result in self.results[first:]) >= count

        await wait_until(seen, f"{count} requests that end as: {', '.join(endings)}", timeout_s=NOTICE_S)


async def try_fault(fault: Fault, folder: Path, seed: int) -> Row:
    """Start a fleet, make the fault, end it, stop the fleet; return what was seen."""
    row = Row(fault)
    injected = folder / "injected"
    injected.mkdir()
    first = free_range(2 * CHILDREN + 1)
    ports = range(first + 1, first + 1 + CHILDREN)
    async with contextlib.AsyncExitStack() as stack:
        scenario, command = await stack.enter_async_context(_scenario(fault, folder, injected))
        environment = {**scenario.config.environment, "START_TIMEOUT_S": "30", "QUEUE_TIMEOUT_S": "5"}
        async with fleets.running(command, folder, environment, first, ports, wrapper=fault.wrapper) as fleet:
            scenario.fleet = fleet
            await wait_until(lambda: all_ready(scenario), "all children READY", timeout_s=START_S)
            tmp = Path(f"/proc/{fleet.pid}/root{fleet.tmp}")
            # Keeps the file system, which is the coordinator's alone, until it has been looked at.
            kept = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, kept)
            watch = Watch(fleet, MODEL if fault.browsers else "fake", seed)
            try:
                async with watch.running():
                    await _live_through(row, Ground(scenario, tmp, injected), watch)
                await fleet.end()
            except (ChaosFailed, OSError, TimeoutError, aiohttp.ClientError) as error:
                row.broken.append(str(error) or repr(error))
            left, files = proc.marked(str(fleet.tmp)), os.listdir(kept)  # noqa: PTH208 - a descriptor
        _judge(row, watch, verify(watch.results, await scenario.submissions()))
        if fleet.process.returncode:
            row.broken.append(f"exit code {fleet.process.returncode}")
        else:
            row.broken += [f"left: {what}" for what in (*map(proc.describe, left), *files)]
        row.broken += [f"a traceback in the log: {event}" for event in fleet.tracebacks()]
    return row


@contextlib.asynccontextmanager
async def _scenario(
    fault: Fault, folder: Path, injected: Path
) -> AsyncIterator[tuple[FakeScenario | BrowserScenario, Sequence[str]]]:
    """Prepare children of the fault's kind; yield them with the command of their coordinator."""
    source = LocalSource(folder / "profiles")
    if fault.browsers:
        async with browser_scenario(folder, source, children=2) as browsers:
            yield browsers, browsers.config.command
        return
    fakes = FakeScenario(folder, source, children=CHILDREN, short=True)
    for name in fakes.config.names:
        await fakes.put_profile(name)
    yield fakes, ("-m", "tests.chaos.injected", str(injected), fakes.config.command[-1])


async def _live_through(row: Row, ground: Ground, watch: Watch) -> None:
    fault, fleet, name = row.fault, ground.fleet, ground.concerned
    await watch.more({Ending.TEXT}, CALLERS)
    earlier = len(fleet.moves(name))

    async def seen() -> bool:
        child = (await fleet.children())[name]
        # The log has what was over before anybody could look: a child may be there again within 0.1 s.
        for state, reason in (*fleet.moves(name)[earlier:], (child["state"], child["reason"])):
            if state != "READY" and reason in fault.reasons:
                row.seen = f"{state}, {reason}"
        return bool(row.seen)

    async with fault.make(ground):
        await wait_until(seen, f"{name} not READY, because of: {', '.join(fault.reasons)}", timeout_s=NOTICE_S)
        await watch.more({Ending.TEXT} if fault.serves else {Ending.REFUSED}, 2 * CALLERS)
    began = time.monotonic()
    await wait_until(lambda: all_ready(ground.scenario), "all children READY again", timeout_s=RECOVERY_S)
    row.recovery_s = time.monotonic() - began
    await watch.more({Ending.TEXT}, CALLERS)


def _judge(row: Row, watch: Watch, findings: Findings) -> None:
    row.answered, row.refused, row.live_worst_s = findings.answered, findings.refused, watch.live_worst_s
    found = {
        "submitted twice": len(findings.submitted_twice),
        "hung callers": len(findings.hung),
        **Counter(f"wrong: {text}" for text in findings.wrong),
    }
    row.broken += [f"{what} ({count})" for what, count in found.items() if count]
    if watch.live_failed:
        row.broken.append(watch.live_failed)


async def run(faults: Sequence[Fault], seed: int, show: Callable[[str], object]) -> list[Row]:
    """Try each fault, show its row when it is over, and return all rows."""
    rows = []
    show(HEAD)
    for fault in faults:
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            try:
                row = await try_fault(fault, Path(folder), seed)
            except ChaosFailed as error:
                row = Row(fault, broken=[str(error)])
            if row.broken and (log := Path(folder) / "coordinator.log").exists():
                kept = Path(tempfile.gettempdir()) / f"{Path(folder).name}.log"
                kept.write_bytes(log.read_bytes())
                row.broken.append(f"the log: {kept}")
        rows.append(row)
        show(row.text())
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and return the exit code: 0 if every row holds, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.faults", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows whose name has one of these words in it")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the requests")
    options = parser.parse_args(argv)
    faults = [fault for fault in FAULTS if not options.words or any(word in fault.name for word in options.words)]
    rows = asyncio.run(run(faults, options.seed, lambda line: print(line, flush=True)))  # noqa: T201 - the product
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
