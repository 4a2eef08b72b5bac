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
import socket
import sys
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from contract.errors import TabfleetError
from contract.hosts import Hosts
from contract.http_protocol import ConnectionLimits
from contract.logs import configure_logging
from contract.output import flush_output, tell
from coordinator.alerts.alerts import Alerts
from coordinator.api import Application, build_api
from coordinator.claims.keeper import ClaimKeeper
from coordinator.claims.sessions import SessionsInClaims
from coordinator.claims.setup import ClaimSetup
from coordinator.errors import ActionRefused, SettingsError
from coordinator.flags import cell_fields, load_settings
from coordinator.fleet import Fleet, OpenClaims
from coordinator.local import preflight
from coordinator.local.launcher import PROGRAM, LocalLauncher
from coordinator.local.reaper import install_if_process_1
from coordinator.local.run_root import CLAIM_DEADLINE
from coordinator.metrics import Metrics
from coordinator.profiles import Hydrator
from coordinator.proxy.admission import Access, BodyLimits
from coordinator.proxy.application import Proxy, ProxyConfig
from coordinator.proxy.exchange import Limits
from coordinator.proxy.response_store import StoreLimits
from coordinator.proxy.server import Server, bind
from coordinator.sessions import Sessions
from coordinator.settings import Settings, parse_origins
from coordinator.site_files import site_name
from coordinator.supervision.supervisor import Supervisor

log = structlog.get_logger(__name__)

LAST_EVENTS_S: Final = 2.0
"""How long streams that are cut at the end get to send their error event."""

LAST_UPLOADS_S: Final = 2.0
"""How long the sessions that children have saved at their end get to be uploaded, where they are to be."""

_FILES: Final = 65_536
_RESERVED_FILES: Final = 256  # for logs, for children's pipes and probes
_FEWEST_CONNECTIONS: Final = 16


def main(argv: Sequence[str], *, program: Sequence[str] = PROGRAM) -> int:
    """Run the coordinator until it is told to stop; return the exit code. `program` starts one child."""
    # Before the loop handles signals; as process 1 we would not even get one without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings(argv)
        configure_logging(settings.log_format, settings.log_level, **cell_fields(settings))
        preflight.check(settings)
        listener = bind(settings.coordinator_host, settings.coordinator_port)
        _tune_process()

        async def run() -> int:  # the coordinator's parts are made inside the loop
            asyncio.get_running_loop().set_default_executor(started_threads())
            return await Coordinator(settings, listener, program).run()

        return asyncio.run(run())
    except SettingsError as error:
        return _say(error, 2)
    except TabfleetError as error:
        return _say(error, 1)
    except Exception:
        log.exception("coordinator_failed")
        return 1
    finally:
        flush_output()


def proxy_config(settings: Settings) -> ProxyConfig:
    """Return the operator's numbers that the proxy goes by, and the name of CHAT_SITE."""
    limits = Limits(settings.queue_timeout_s, settings.first_token_timeout_s, settings.stream_idle_timeout_s)
    buffered_bytes = max(settings.max_buffered_bytes, settings.max_body_bytes)
    bodies = BodyLimits(settings.max_body_bytes, buffered_bytes, settings.stream_idle_timeout_s)
    kept = StoreLimits(settings.responses_ttl_s, settings.max_responses_bytes)
    owner = site_name(settings.chat_site or "tabfleet")
    return ProxyConfig(limits, bodies, owner=owner, responses=kept, is_cell=settings.is_cell)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return what one client may take, and how many may come: never so many that no descriptor is left for children."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = settings.max_connections
    if files != resource.RLIM_INFINITY:
        # A request takes a second one to its child.
        most = max(_FEWEST_CONNECTIONS, min(most, (files - _RESERVED_FILES) // 2))
    return ConnectionLimits(
        settings.stream_idle_timeout_s, keep_alive_s=settings.keep_alive_timeout_s, connections=most
    )


class Coordinator:
    """The order in which the program starts and ends."""

    def __init__(self, settings: Settings, listener: socket.socket, program: Sequence[str]) -> None:
        """`listener` is the API's, and accepts already; `program` starts one child."""
        access, metrics = Access(), Metrics()
        if (cell := settings.own_cell) is not None:
            metrics.name_cell(cell, settings.own_shard)
        self._alerts = Alerts.from_settings(settings, metrics)
        self._settings, self._listener = settings, listener
        claims = ClaimSetup.from_settings(settings)
        shared = SessionsInClaims(claims.store, asyncio.get_running_loop()) if claims else None
        sessions = Sessions.from_settings(settings, shared)
        assert sessions or not claims  # noqa: S101 - Settings refuses CLAIMS without SESSION_DIR
        self._launcher = LocalLauncher.from_settings(settings, program, sessions)
        self._fleet = Fleet(
            settings,
            launcher=self._launcher,
            hydrator=Hydrator.from_settings(settings),
            access=access,
            metrics=metrics,
            port=listener.getsockname()[1],
            sessions=sessions,
            claims=self._opener(claims, sessions) if claims and sessions else None,
            hooks=[told.fleet_event for told in (sessions, self._alerts) if told],
        )
        metrics.watch(self._fleet)
        if self._alerts:
            self._alerts.watch(self._fleet)
            metrics.watch_alerts(self._alerts.queued)
        self._proxy = Proxy(
            pool=self._fleet.pool,
            children=self._fleet.supervisor,
            access=access,
            config=proxy_config(settings),
            on_done=metrics.request_done,
        )
        api = build_api(self._fleet, access, metrics.text, metrics_public=settings.metrics_public)
        names = frozenset(name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip())
        hosts = Hosts(settings.bound_to_loopback, names)
        origins = parse_origins(settings.cors_allowed_origins)
        application = Application(self._proxy, api, self._fleet.pool, access=access, hosts=hosts, origins=origins)
        self._server = Server(application, connection_limits(settings))
        self._stop_requested, self._cut_requested = asyncio.Event(), asyncio.Event()
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._started = False

    def _opener(self, claims: ClaimSetup, sessions: Sessions) -> OpenClaims:
        def open_claims(supervisor: Supervisor, room: int) -> ClaimKeeper:
            return claims.keeper(supervisor, sessions, self._launcher.root.path / CLAIM_DEADLINE, room)

        return open_claims

    async def run(self) -> int:
        """Serve until a signal; return 0 after an orderly end. Raises TabfleetError if it cannot start or go on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_stop)
        loop.add_signal_handler(signal.SIGHUP, self.handle_reload)
        install_if_process_1(self._launcher)
        if self._alerts:
            self._alerts.start()

        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http")
        try:
            await self.startup(serving)
            await self._first_of(serving, self._fleet.supervisor.failed)
            return 0
        finally:
            await self.shutdown(serving)

    async def startup(self, serving: asyncio.Task[None]) -> None:
        """Start the fleet while health routes are served already. Raises TabfleetError."""
        starting = asyncio.create_task(self._fleet.start(), name="start")
        await self._first_of(serving, starting)
        if not starting.done():  # told to stop: a thread that still fetches profiles is left behind
            starting.cancel()
            return
        self._started = True
        host, port = self._listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        shard = self._settings.own_shard
        log.info("serving", url=url, **({"shard": str(shard)} if shard else {}))
        self._spawn(self._fleet.keep_sessions(), "sessions")
        self._spawn(self._fleet.watch_sites(), "sites")
        if self._settings.auth_profile_refresh_s:
            self._spawn(self._refresh(self._settings.auth_profile_refresh_s), "refresh")

    async def _first_of(self, *awaited: asyncio.Future[None]) -> None:
        """Wait for a signal to stop or the first of these, and raise what that one raises."""
        stop = asyncio.create_task(self._stop_requested.wait(), name="stop-signal")
        try:
            either: set[asyncio.Future[Any]] = {stop, *awaited}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for future in awaited:
            if future.done():
                future.result()

    async def shutdown(self, serving: asyncio.Task[None]) -> None:
        """End in good order.

        It takes `drain_timeout_s`, LAST_EVENTS_S, what the supervisor's stop takes, and LAST_UPLOADS_S at most.
        """
        loop, limit_s = asyncio.get_running_loop(), self._settings.drain_timeout_s
        began = loop.time()

        # Refuse new requests, and end children that have none.
        self._fleet.begin_drain()
        if self._started:
            log.info("draining", in_flight=self._proxy.in_flight, limit_s=limit_s)

        # Let running answers finish: up to the limit, or until a second signal. Where no signal was the cause,
        # something broke, and nobody waits for answers.
        if not self._stop_requested.is_set():
            self._cut_requested.set()
        idle = asyncio.create_task(self._proxy.wait_idle(), name="idle")
        cut = asyncio.create_task(self._cut_requested.wait(), name="cut")
        await asyncio.wait({idle, cut}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)

        # End every stream that is left with an error event.
        if not idle.done():
            log.warning("drain_cut_short", in_flight=self._proxy.in_flight, told_again=cut.done())
            self._proxy.cancel_all()
            await asyncio.wait({idle}, timeout=LAST_EVENTS_S)

        # Stop what runs beside: reloads, and waiting for the above.
        for task in (idle, cut, *self._side_tasks):
            task.cancel()

        # Close the port and its connections, end the children, and send the last alerts meanwhile.
        self._server.should_exit = True
        ending = [self._alerts.close()] if self._alerts else []
        await asyncio.gather(serving, self._fleet.stop(), *ending)
        await self._fleet.close_sessions(LAST_UPLOADS_S)

        # Close the connections to children: no request uses them any more.
        await self._proxy.close()
        if self._started:
            log.info("stopped", took_s=round(loop.time() - began, 3))

    # Signals and reloads

    def handle_stop(self) -> None:
        """SIGTERM, SIGINT: end after the running answers; a second time, end now."""
        (self._cut_requested if self._stop_requested.is_set() else self._stop_requested).set()

    def handle_reload(self) -> None:
        """SIGHUP: open log files anew, and fetch profiles and keys."""
        self._launcher.reopen_logs()
        self._spawn(self._reload(), "reload")

    async def _refresh(self, every_s: float) -> None:
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

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_task_ended)

    def _side_task_ended(self, task: asyncio.Task[None]) -> None:
        self._side_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("side_task_failed", task=task.get_name(), exc_info=error)


def started_threads() -> ThreadPoolExecutor:
    """Return as many threads as asyncio would start, one by one, when they are needed.

    `Thread.start` waits until the thread has begun. One that finds no memory for that never says so, and would hold
    up the loop for ever; where no thread can be started, clean-ups would have to wait.
    """
    count = min(32, (os.cpu_count() or 1) + 4)
    threads, all_begun = ThreadPoolExecutor(count, "worker"), threading.Barrier(count)
    for _ in range(count):
        threads.submit(all_begun.wait)
    return threads


def _tune_process() -> None:
    # Every request takes two sockets, and the usual soft limit is 1,024 files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    # Before Python 3.12, asyncio by default spends a thread on every child process.
    if sys.version_info < (3, 12):
        with contextlib.suppress(OSError):  # a kernel without pidfd
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())

    # Each full collection would walk all that was imported: 45 ms of silence.
    gc.freeze()


def _say(error: TabfleetError, exit_code: int) -> int:
    for line in str(error).splitlines():
        tell(f"tabfleet: {line}")
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
