"""Profiles and keys become children, and what `/ready` says of them."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

import structlog

from contract.errors import TabfleetError
from coordinator.errors import ActionRefused, KeyFileError, NoUsableProfile, ProfileBackendError, SiteMissing
from coordinator.local.preflight import site_path
from coordinator.metrics import Metrics
from coordinator.profiles import Hydration, Hydrator
from coordinator.profiles.errors import CacheError, S3Refused, S3Unreachable
from coordinator.proxy.admission import Access
from coordinator.proxy.pool import Pool
from coordinator.settings import Settings
from coordinator.supervision.canary import Canary, SiteStatus
from coordinator.supervision.events import FleetEvent, Hooks, log_event
from coordinator.supervision.launcher import Launcher
from coordinator.supervision.lifecycle import State
from coordinator.supervision.memory import memory_limit, plan_memory
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan, check_ports_free
from coordinator.supervision.site_file import SiteFile
from coordinator.supervision.site_reload import SiteReload
from coordinator.supervision.supervisor import Reconciled, Supervisor

log = structlog.get_logger(__name__)
T = TypeVar("T")

_NOT_UNHEALTHY: Final = frozenset({State.READY, State.STANDBY, State.STOPPED})
_RELOAD_FAILURES: Final[Mapping[type[TabfleetError], str]] = {
    KeyFileError: "the key file cannot be used",
    NoUsableProfile: "not one profile may be used",
    CacheError: "the cache of profiles cannot be used",
    ProfileBackendError: "the folder of profiles cannot be read",
}
_OPEN: Final = "No API keys are set: everybody who reaches the port may use the API."


class Fleet:
    """Turns profiles and keys into children, and says of them what `/ready` shows. Make it inside a running loop."""

    def __init__(  # noqa: PLR0913 - the parts that it connects
        self, settings: Settings, *, launcher: Launcher, hydrator: Hydrator, access: Access, metrics: Metrics, port: int
    ) -> None:
        """`port` is the coordinator's own, which no child may take."""
        self._settings, self._hydrator, self._access, self._metrics = settings, hydrator, access, metrics
        self._ports = PortPlan(port, settings.base_api_port, settings.base_stream_port, settings.port_step)
        self.pool = Pool(max_queue=settings.max_queue)
        hooks = (log_event, metrics.fleet_event, self._look_soon)
        self.supervisor = Supervisor(
            launcher=launcher,
            pool=self.pool,
            ports=self._ports,
            policy=Policy.from_settings(settings),
            hooks=hooks,
        )
        self._site = SiteFile(site_path(settings.chat_site or ""))
        self._canary = Canary(self._site, self.supervisor, interval_s=settings.site_check_s, emit=Hooks(hooks).emit)
        policy = self.supervisor.policy
        child_limit_s = policy.drain_timeout_s + policy.term_grace_s + policy.reap_timeout_s + policy.start_timeout_s
        self._site_reload = SiteReload(self._canary, self.supervisor, child_limit_s=child_limit_s)
        self._started = False
        self._hydration: Hydration | None = None
        self._hydrated_at: float | None = None
        self._reload_error: str | None = None
        self._memory_warning: str | None = None
        self._reloading = asyncio.Lock()
        self._was_ready = False

    # Profiles and keys

    async def start(self) -> None:
        """Fetch profiles and keys, check that children fit, begin to start them. Raises TabfleetError."""
        settings = self._settings
        if settings.profile_backend != "local":
            log.info("hydrating", backend=settings.profile_backend)
        hydration = await self._hydrate()
        profiles = hydration.discovery.accepted
        count = min(len(profiles), settings.max_children or len(profiles))
        self._ports.check(count)
        check_ports_free(self._ports, count)
        self._memory_warning = plan_memory(count, settings.browser_engine, memory_limit())
        try:
            self._site.text = await asyncio.to_thread(self._site.read)
        except (OSError, UnicodeDecodeError):
            raise SiteMissing(f"CHAT_SITE={settings.chat_site}: the file cannot be read any more.") from None
        self.supervisor.use_site(self._site.site, str(self._site.path), self._site.text)
        await self.supervisor.start(profiles, hydration.keys)
        self._use(hydration)
        self._started = True
        for warning in self.warnings():
            log.warning("attention", message=warning)
        log.info("children_launched", children=[profile.name for profile in profiles][:count], planned=count)

    async def reload(self) -> Reconciled:
        """Fetch profiles and keys anew; only children whose profile is new, changed or gone are touched.

        Raises TabfleetError, and then nothing has changed but a warning in `/ready`. An error of the program itself
        stands there too.
        """
        if not self._started or self.pool.draining:
            raise ActionRefused("There is nothing to reload while the coordinator starts or ends.")
        self._site_reload.try_again()
        async with self._reloading:
            try:
                hydration = await self._hydrate()
                self.supervisor.use_keys(hydration.keys)
                changed = await self.supervisor.reconcile(hydration.discovery.accepted)
            except TabfleetError as error:
                self._reload_error = f"The last reload failed and changed nothing: {_without_paths(error)}"
                log.error("reload_failed", message=str(error))  # noqa: TRY400 - a line for people
                raise
            except Exception:
                self._reload_error = "The last reload failed by an error in the program itself; its log has the place."
                log.exception("reload_failed")
                raise
            self._reload_error = None
            self._use(hydration)
            log.info("reloaded", added=changed.added, replaced=changed.replaced, removed=changed.removed)
            return changed

    async def watch_sites(self) -> None:
        """Check the site's page now and then, and follow its site file, until cancelled."""
        await asyncio.gather(self._canary.run(), self._site_reload.run())

    def site_checks(self) -> list[SiteStatus]:
        """Return what is known of each site's page."""
        return [self._site_reload.status()]

    async def _hydrate(self) -> Hydration:
        began = time.monotonic()
        ok = False
        try:
            hydration = await in_daemon_thread(self._hydrator.hydrate)
            ok = True
        finally:
            self._metrics.hydrated(time.monotonic() - began, ok=ok)
        return hydration

    def _use(self, hydration: Hydration) -> None:
        self._hydration, self._hydrated_at = hydration, time.time()
        self._access.keys = hydration.keys

    # What it shows

    @property
    def ready(self) -> bool:
        """Whether a request would find a page."""
        return self.supervisor.ready

    def states(self) -> list[State]:
        """Return the state of each child."""
        return [child.state for child in self.supervisor.snapshot()]

    def hydrated_at(self) -> float | None:
        """Return when profiles and keys were last fetched, in Unix seconds."""
        return self._hydrated_at

    def unhealthy(self) -> list[str]:
        """Return the names of the children that should serve and do not."""
        return [child.name for child in self.supervisor.snapshot() if child.state not in _NOT_UNHEALTHY]

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        hydration = self._hydration
        hydrated = () if hydration is None else hydration.warnings
        open_api = _OPEN if hydration is not None and not hydration.keys else None
        of_site = self._site_reload.warnings()
        return [line for line in (self._reload_error, open_api, self._memory_warning, *of_site, *hydrated) if line]

    def view(self) -> dict[str, Any]:
        """Return the body of `/ready`: names, states and reasons; no path, no log line, no cookie."""
        rejected = () if self._hydration is None else self._hydration.discovery.rejected
        return {
            "status": "draining" if self.pool.draining else "ready" if self.ready else "unready",
            "children": [child.public() for child in self.supervisor.snapshot()],
            "unhealthy": self.unhealthy(),
            "rejected_profiles": [{"name": item.name, "reason": item.reason} for item in rejected],
            "site_checks": [site.public() for site in self.site_checks()],
            "api_keys": "enforced" if self._access.enforced else "open",
            "warnings": self.warnings(),
        }

    def begin_drain(self) -> None:
        """Take no new requests; children that are idle end now. `/ready` is 503 from here on."""
        self.supervisor.begin_drain()
        self._look()

    def _look_soon(self, _: FleetEvent) -> None:
        # Not at once: in the midst of a transition the child is in neither state.
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Log when `/ready` turns."""
        ready = self.ready
        if ready != self._was_ready:
            self._was_ready = ready
            write = log.info if ready else log.warning
            write("ready" if ready else "unready", unhealthy=self.unhealthy(), draining=self.pool.draining)


def _without_paths(error: TabfleetError) -> str:
    """Return what whoever has no key may know of an error: other messages than those of S3 may name local paths."""
    if isinstance(error, S3Refused | S3Unreachable):
        return str(error)
    what = next((what for kind, what in _RELOAD_FAILURES.items() if isinstance(error, kind)), "it could not be applied")
    return f"{what}; the log has the reason."


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and return what it returns, or raise what it raises.

    Unlike a thread of the loop's executor, one that hangs does not keep the process from ending. `work`
    must not start processes: their death signal would fire with the end of the thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast("T", result))
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, failure)

    # Not `Thread.start`, which waits until the thread has begun: without memory for that, it waits for ever.
    _thread.start_new_thread(run, ())
    return await future
