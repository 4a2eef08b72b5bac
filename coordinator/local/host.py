"""One host: a process that runs several children in one browser, told and telling by `contract.host_orders`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from contract.host_orders import ChildOrder, End, Ended, Ending, Full, Start, Up, receive_news, send, socket_pair
from coordinator.local import processes
from coordinator.local.output import Output
from coordinator.local.run_folder import RunFolder, delete_later
from coordinator.supervision.launcher import ChildSpec
from coordinator.supervision.lifecycle import STEADY_AFTER_S

log = structlog.get_logger(__name__)

KILL_S: Final = 2.0
"""How long a host may take to close a page at once; then it is killed, for no login is left half closed."""
END_S: Final = 3.0
"""How long a host without children may take to end by itself."""
_MOST_NEWS: Final = 1000  # more than a socket's buffer holds
_MEMORY_KEPT_S: Final = 2.0  # one look at all of /proc serves all children of a host


class HostProcess:
    """A host's process, its run folder, its stream port and its children. Make it inside a running loop.

    It begins to run at once. It is over when its last child has ended, or it has itself; then `clean_up` is due. A
    spare has no child yet, and no site: both come with `adopt`.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        name: str,
        site: str | None,
        spare: bool = False,
        stream_port: int,
        folder: RunFolder,
        output: Output,
        spawn: Callable[[HostProcess, int], Awaitable[asyncio.subprocess.Process]],
        changed: Callable[[], object],
        gone: Callable[[HostProcess], object],
    ) -> None:
        """Raises OSError. `spawn` starts the process, given the number of the socket that it inherits.

        `changed` is called when the process is there, when its browser is, and when it has ended; `gone` when nothing
        of it is left.
        """
        self.name, self.site, self.stream_port = name, site, stream_port
        self.is_spare, self.is_up = spare, False
        self.folder, self.output = folder, output
        self.pid: int | None = None
        self._ours, self._theirs = socket_pair()
        self._spawn, self._changed, self._gone = spawn, changed, gone
        self._children: dict[str, HostedChild] = {}
        self._arriving = 0
        """Children that are to start here, and whose order has not been sent yet."""
        self._full = self._ending = self._hearing = self._doomed = False
        self._process: asyncio.subprocess.Process | None = None
        self._failure: OSError | RuntimeError | None = None
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._end_timer: asyncio.TimerHandle | None = None
        self._cleaning = asyncio.Lock()
        self._clean = False
        self._killed = set[int]()
        self._suspects_until = -math.inf
        self._memory = (-_MEMORY_KEPT_S, 0)
        self._life = asyncio.create_task(self._live(), name=name)

    # What it is

    @property
    def count(self) -> int:
        """How many children run in it, or are about to."""
        return len(self._children) + self._arriving

    @property
    def takes_children(self) -> bool:
        """Whether it takes a further child, where it has room: it is neither ending nor suspected to hang."""
        hangs = any(child.kill_requested for child in self._children.values())
        return not (self._full or hangs) and self.folder.exists()

    @property
    def has_suspects(self) -> bool:
        """Whether one has been started here of late that may be the one that ends browsers."""
        return asyncio.get_running_loop().time() < self._suspects_until

    def hold_suspects(self) -> None:
        """Be a host of suspects from now on, until those that start here have had the time to end it."""
        self._suspects_until = asyncio.get_running_loop().time() + STEADY_AFTER_S

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is about to: it has no children, and gets none."""
        return self._ending or self._ended.is_set()

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """Its own exit code once it has ended, negative for a signal; None where it could not even begin."""
        return self._process.returncode if self._process is not None else None

    def memory_bytes(self) -> int:
        """Return the proportional set size of host, driver and browser; may read all of /proc, so not in the loop."""
        looked_at, found = self._memory
        if self.pid is None or time.monotonic() - looked_at < _MEMORY_KEPT_S:
            return found
        found = self.folder.memory_bytes(self.pid)
        self._memory = time.monotonic(), found
        return found

    # Its life

    async def _live(self) -> None:
        exit_code = 0
        try:
            exit_code = await self._run()
        except (OSError, RuntimeError) as error:
            self._failure = error
        finally:
            # In one step: whoever would start now is refused by the closed socket.
            self.retire()
            self._close_socket()
            self.output.drain()
            while self._children:
                self._children.popitem()[1].has_ended(exit_code)
            if self._end_timer is not None:
                self._end_timer.cancel()
            self._begun.set()
            self._ended.set()
            self._changed()

    async def _run(self) -> int:
        try:
            self._process = await self._spawn(self, self._theirs.fileno())
        finally:
            self._theirs.close()
        self.pid = self._process.pid
        self._begun.set()
        if self._doomed:
            self.kill()
        self._changed()
        self._note("host_started", stream_port=self.stream_port)
        self.output.begin()
        if self._ours.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._ours, self._hear)
            self._hearing = True
        exit_code = await self._process.wait()
        for _ in range(_MOST_NEWS):
            if not self._hear():
                break
        self._note("host_ended", exit_code=exit_code, lost=len(self._children))
        return exit_code

    def _note(self, event: str, **more: int) -> None:
        # Whoever keeps spares tells of theirs: those that fail again and again are not to fill the log.
        (log.debug if self.is_spare else log.info)(event, host=self.name, pid=self.pid, **more)

    def _hear(self) -> bool:
        """Take one piece of news; return whether there may be more."""
        if self._ours.fileno() < 0:
            return False
        try:
            news = receive_news(self._ours)
        except BlockingIOError:
            return False
        except (OSError, ValueError) as error:
            log.error("host_not_understood", host=self.name, error=type(error).__name__)  # noqa: TRY400 - a line for people
            self._stop_hearing()
            self.retire()
            self.kill()
            return False
        match news:
            case None:  # its side is closed, so that nobody can be ended in it any more
                self._stop_hearing()
                self.retire()
                self._end_within(END_S)
            case Up():
                self.is_up = True
                self._changed()
            case Full():
                self._note("host_full", children=len(self._children))
                self.retire()
                if self.is_spare:  # else it ends with its last child
                    self._end_within(END_S)
            case Ended():
                child = self._children.pop(news.ended, None)
                if child is None:
                    log.warning("host_tells_of_a_stranger", host=self.name)
                else:
                    child.has_ended(news.code)
                self._end_if_empty()
        return news is not None

    def retire(self) -> None:
        """Take no further child; those that run are left to their own end."""
        self._full = True

    def adopt(self, site: str | None) -> None:
        """Make a spare the host of this site; its first child is ordered in the same step."""
        self.is_spare, self.site = False, site

    def kill(self) -> None:
        """Send SIGKILL, once there is a process and if it has not ended: all its children end."""
        self._doomed = True
        self.retire()
        if self._process is not None:
            processes.send_signal(self._process, signal.SIGKILL)

    def _end_if_empty(self) -> None:
        if not self.count and not self.is_over:
            self._ending = True
            self.retire()
            self._close_socket()
            self._end_within(END_S)

    def _end_within(self, limit_s: float) -> None:
        if self._end_timer is None and not self._ended.is_set():
            self._end_timer = asyncio.get_running_loop().call_later(limit_s, self.kill)

    def _stop_hearing(self) -> None:
        if self._hearing:
            asyncio.get_running_loop().remove_reader(self._ours)
            self._hearing = False

    def _close_socket(self) -> None:
        self._stop_hearing()
        self._ours.close()

    async def close(self) -> None:
        """Kill it, and wait for its end for as long as the kernel may take."""
        self.kill()
        _, late = await asyncio.wait({self._life}, timeout=processes.KILLED_TIMEOUT_S)
        if late:
            self._life.cancel()
        self.output.close()

    async def clean_up(self) -> int:
        """Wait for its end, kill what outlived it, remove its run folder; return how many were killed, once.

        Whoever comes later waits for the first one, and is told 0. May raise OSError or RuntimeError, and be called
        again then.
        """
        await self._ended.wait()
        async with self._cleaning:
            if self._clean:
                return 0
            killed = self.folder.kill_leftovers()
            self._killed |= killed
            await processes.wait_killed(killed, host=self.name)
            self.output.close()
            delete_later(self.folder.discard())
            self._clean = True
            self._gone(self)
            return len(self._killed)

    # Its children

    async def start(self, spec: ChildSpec, order: ChildOrder, folder: RunFolder, output: Output) -> HostedChild:
        """Order a child to start. Raises OSError or RuntimeError if the host cannot be told, and then retires."""
        self._arriving += 1
        try:
            await self._begun.wait()
            if self._failure is not None:
                raise self._failure
            child = HostedChild(spec, self, folder, output)
            if self.has_suspects:
                self.hold_suspects()
            send(self._ours, Start(start=order), output.write_end)
            self._children[spec.instance_id] = child
        except (OSError, RuntimeError):
            self.retire()
            raise
        finally:
            self._arriving -= 1
            self._end_if_empty()
        return child

    def order_end(self, instance_id: str, how: Ending) -> bool:
        """Order a child to end; return whether the host could be told."""
        try:
            send(self._ours, End(end=instance_id, how=how))
        except OSError:
            return False
        return True

    def share_bytes(self) -> int:
        """Return an equal part of its memory for each of its children."""
        return self.memory_bytes() // max(1, len(self._children))


class HostedChild:
    """A `ChildProcess` that shares a host with others, and has a run folder and an output of its own."""

    def __init__(self, spec: ChildSpec, host: HostProcess, folder: RunFolder, output: Output) -> None:
        self._spec, self._host, self._folder, self._output = spec, host, folder, output
        self._exit_code = 0
        self._ended = asyncio.Event()
        self._kill_timer: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """Base URL of its HTTP face, without a slash at the end."""
        return f"http://127.0.0.1:{self._spec.api_port}"

    @property
    def pid(self) -> int | None:
        """The id of its host's process."""
        return self._host.pid

    @property
    def host(self) -> HostProcess:
        """Where it runs."""
        return self._host

    @property
    def kill_requested(self) -> bool:
        """Whether it is to be closed at once, and has not been yet."""
        return self._kill_timer is not None

    def has_ended(self, exit_code: int) -> None:
        """Take its end from the host: its own exit code, or that of the host."""
        self._exit_code = exit_code
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        self._output.drain()
        self._ended.set()

    async def wait(self) -> int:
        """Return its exit code once it has ended, or its host's (negative for a signal) where that ended first."""
        await self._ended.wait()
        return self._exit_code

    def terminate(self) -> None:
        """Have it end as a process does at SIGTERM, if it has not ended. A host that hangs is not told."""
        if not self._ended.is_set():
            self._host.order_end(self._spec.instance_id, "term")

    def kill(self) -> None:
        """Have it closed at once, if it has not ended; kill the host if that does not do so within KILL_S seconds.

        A host that cannot be told is killed now.
        """
        if self._ended.is_set() or self.kill_requested:
            return
        limit_s = KILL_S if self._host.order_end(self._spec.instance_id, "kill") else 0.0
        self._kill_timer = asyncio.get_running_loop().call_later(limit_s, self._kill_host)

    def fence(self) -> None:
        """Kill its host, and so everything that shares its browser, if it has not ended: closing a page takes time."""
        if not self._ended.is_set():
            self._host.retire()
            self._host.kill()

    def _kill_host(self) -> None:
        log.warning("host_killed", host=self._host.name, for_child=self._spec.name)
        self._host.kill()

    def submitted(self) -> frozenset[str] | None:
        """Return the ids of requests that may have been submitted; None if they cannot be read."""
        return self._folder.submitted()

    def has_folder(self) -> bool:
        """Return whether its run folder, and its host's with the browser's TMPDIR, are still there."""
        return self._folder.exists() and self._host.folder.exists()

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output, redacted."""
        return self._output.last_lines()

    def memory_bytes(self) -> int:
        """Return an equal part of its host's memory; may read all of /proc, so not in the loop."""
        return self._host.share_bytes()

    def retire_browser(self) -> None:
        """Have no further child start in its host."""
        self._host.retire()

    async def clean_up(self) -> int:
        """After its end: if the host is over, wait for its end and clean up after it first; empty the run folder.

        So the slot of a host's last child is free only when the host's stream port is. A host that has other children
        has confirmed that nothing of this one is left.
        """
        killed = await self._host.clean_up() if self._host.is_over else 0
        self._output.close()
        rubbish = self._folder.empty()
        with contextlib.suppress(RuntimeError):  # no thread to be had: it goes with the root
            delete_later(rubbish)
        return killed
