"""`python -m coordinator.main`: check, serve, fetch profiles, launch children, and end in good order.

Exit codes: 0 after an orderly end, 1 when it cannot start or supervision broke, 2 for a wrong setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog

from contract.errors import TabfleetError
from contract.logs import configure_logging
from coordinator.api import Application, build_api
from coordinator.errors import ActionRefused, SettingsError
from coordinator.flags import load_settings
from coordinator.fleet import Fleet, Parts
from coordinator.local import preflight
from coordinator.local.launcher import PROGRAM
from coordinator.local.reaper import install_if_process_1
from coordinator.metrics import Metrics
from coordinator.profiles import Hydrator
from coordinator.proxy.admission import Access
from coordinator.proxy.application import Proxy
from coordinator.proxy.server import Server, bind
from coordinator.wiring import launcher_of, proxy_config_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Sequence

    from coordinator.local.launcher import LocalLauncher
    from coordinator.settings import Settings

log = structlog.get_logger(__name__)

_LAST_EVENTS_S: Final = 2.0
_FILES: Final = 65_536
_GARBAGE_AFTER: Final = 10_000


def main(argv: Sequence[str], *, program: Sequence[str] = PROGRAM) -> int:
    """Run the coordinator until it is told to stop; returns the exit code. `program` starts one child."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        settings = load_settings(argv)
        configure_logging(settings.log_format, settings.log_level)
        preflight.check(settings)
        listener = bind(settings.coordinator_host, settings.coordinator_port)
        _raise_file_limit()
        _notice_exits_by_pidfd()
        _collect_garbage_seldom()
        return asyncio.run(_run(settings, listener, program))
    except SettingsError as error:
        return _say(error, 2)
    except TabfleetError as error:
        return _say(error, 1)
    except Exception:
        log.exception("coordinator_failed")
        return 1


async def _run(settings: Settings, listener: socket.socket, program: Sequence[str]) -> int:
    return await Coordinator(settings, listener, program).run()


class Coordinator:
    """The parts of a running coordinator, and the order in which they begin and end."""

    def __init__(self, settings: Settings, listener: socket.socket, program: Sequence[str]) -> None:
        access, metrics = Access(), Metrics()
        self._settings, self._listener, self._program = settings, listener, program
        self._url = _url(listener)
        port: int = listener.getsockname()[1]
        hydrator = Hydrator.from_settings(settings)
        self._fleet = Fleet(Parts(settings, access, metrics, hydrator, self._make_launcher, port))
        metrics.watch(self._fleet)
        self._proxy = Proxy(
            pool=self._fleet.pool,
            children=self._fleet,
            access=access,
            config=proxy_config_of(settings),
            on_done=metrics.request_done,
        )
        api = build_api(self._fleet, access, metrics.text, metrics_public=settings.metrics_public)
        self._server = Server(Application(self._proxy, api, self._fleet.pool, loopback_only=settings.bound_to_loopback))
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._started = False

    async def run(self) -> int:
        """Serve until a signal; 0 after an orderly end. Raises TabfleetError if it cannot start or go on."""
        self._handle_signals()
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http")
        try:
            await self._start(serving)
            await self._first_of(serving, self._fleet.failed)
            return 0
        finally:
            await self._end(serving)

    async def _start(self, serving: asyncio.Task[None]) -> None:
        starting = asyncio.create_task(self._fleet.start(), name="start")
        await self._first_of(serving, starting)
        if not starting.done():  # told to stop: a thread that still fetches profiles is left behind
            starting.cancel()
            return
        self._started = True
        log.info("serving", url=self._url)
        if self._settings.auth_profile_refresh_s:
            self._beside(self._refresh_for_ever(self._settings.auth_profile_refresh_s), "refresh")

    async def _first_of(self, *awaited: asyncio.Future[None]) -> None:
        """Wait for the signal to stop or the first of these, and raise what that one raises."""
        told = asyncio.create_task(self._stop.wait(), name="stop-signal")
        try:
            either: set[asyncio.Future[Any]] = {told, *awaited}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        for future in awaited:
            if future.done():
                future.result()

    async def _end(self, serving: asyncio.Task[None]) -> None:
        """Drain; past the limit, or when told again, end every stream with an error; then stop all."""
        began = asyncio.get_running_loop().time()
        self._fleet.begin_drain()
        if self._started:
            log.info("draining", in_flight=self._proxy.in_flight, limit_s=self._settings.drain_timeout_s)
        if not self._stop.is_set():  # not told to: something broke, and nobody waits for answers
            self._hurry.set()
        await self._drained()
        for task in self._side_tasks:
            task.cancel()
        self._server.should_exit = True
        await asyncio.gather(serving, self._fleet.stop())
        await self._proxy.close()
        if self._started:
            log.info("stopped", took_s=round(asyncio.get_running_loop().time() - began, 3))

    async def _drained(self) -> None:
        idle = asyncio.create_task(self._proxy.wait_idle(), name="idle")
        hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
        limit_s = self._settings.drain_timeout_s
        await asyncio.wait({idle, hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not idle.done():
            log.warning("drain_cut_short", in_flight=self._proxy.in_flight, told_again=hurry.done())
            self._proxy.cancel_all()
            await asyncio.wait({idle}, timeout=_LAST_EVENTS_S)
        idle.cancel()
        hurry.cancel()

    # Signals and reloads

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._beside(self._reload(), "reload"))

    def _told_to_stop(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _refresh_for_ever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._reload()

    async def _reload(self) -> None:
        try:
            await self._fleet.reload()
        except ActionRefused as error:
            log.warning("reload_refused", message=str(error))
        except Exception:  # noqa: BLE001, S110 - it has been logged and stands in /ready; the next time may do
            pass

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_task_ended)

    def _side_task_ended(self, task: asyncio.Task[None]) -> None:
        self._side_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("side_task_failed", task=task.get_name(), exc_info=error)

    def _make_launcher(self) -> LocalLauncher:
        launcher = launcher_of(self._settings, self._program)
        install_if_process_1(launcher)
        return launcher


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _leave(*_: object) -> NoReturn:
    """Before the loop handles signals; as process 1 we would not even get one without a handler."""
    sys.exit(0)


def _raise_file_limit() -> None:
    """Every request takes two sockets, and the usual soft limit is 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _notice_exits_by_pidfd() -> None:
    """Before Python 3.12, asyncio by default spends a thread on every child process."""
    if sys.version_info < (3, 12):
        with contextlib.suppress(OSError):  # a kernel without pidfd
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def _collect_garbage_seldom() -> None:
    """Requests leave no cycles behind, but each full collection walks all that was imported: 45 ms of silence."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)


def _say(error: TabfleetError, exit_code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"tabfleet: {line}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
