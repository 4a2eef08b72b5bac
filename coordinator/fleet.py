"""Profiles and keys become children, and what `/ready` says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import structlog

from contract.errors import TabfleetError
from coordinator.claims.keeper import ClaimKeeper, ClaimsStatus
from coordinator.daemon_thread import in_daemon_thread
from coordinator.errors import ActionRefused, FleetFileError, KeyFileError, NoUsableProfile, ProfileBackendError
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.fleet_sites import FleetSites
from coordinator.logins.remote import RemoteLogins
from coordinator.logins.saver import ChildSaver
from coordinator.metrics import Metrics
from coordinator.profiles import Hydration, Hydrator
from coordinator.profiles.errors import CacheError, S3Refused, S3Unreachable
from coordinator.proxy.admission import Access
from coordinator.proxy.pool import Pool
from coordinator.sessions import Sessions
from coordinator.sessions.sessions import TEND_S
from coordinator.settings import Settings
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.events import ChildCleaned, FleetEvent, Hooks, PublicStatus, log_event
from coordinator.supervision.launcher import Launcher, SpareBrowsers
from coordinator.supervision.lifecycle import State
from coordinator.supervision.login_expiry import DAY_S
from coordinator.supervision.memory import browsers_needed, memory_limit, plan_memory
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan, check_ports_free
from coordinator.supervision.supervisor import Reconciled, Supervisor

log = structlog.get_logger(__name__)

_NOT_UNHEALTHY: Final = frozenset({State.READY, State.STANDBY, State.STOPPED})
_RELOAD_FAILURES: Final[Mapping[type[TabfleetError], str]] = {
    KeyFileError: "the key file cannot be used",
    NoUsableProfile: "not one profile may be used",
    CacheError: "the cache of profiles cannot be used",
    ProfileBackendError: "the folder of profiles cannot be read",
}
OpenClaims: TypeAlias = Callable[[Supervisor, int], ClaimKeeper]
"""Opens the claims for so many logins at most of a supervisor's children. Raises OSError."""

LAST_CLAIMS_S: Final = 2.0
"""How long handing over what is left may take at the end."""

_OPEN: Final = "No API keys are set: everybody who reaches the port may use the API."


class Fleet:
    """Turns profiles and keys into children, and says of them what `/ready` shows. Make it inside a running loop."""

    def __init__(  # noqa: PLR0913 - the parts that it connects
        self,
        settings: Settings,
        *,
        launcher: Launcher,
        hydrator: Hydrator,
        access: Access,
        metrics: Metrics,
        port: int,
        sessions: Sessions | None = None,
        claims: OpenClaims | None = None,
        hooks: Iterable[Callable[[FleetEvent], None]] = (),
    ) -> None:
        """`port` is the coordinator's own, which no child may take; `sessions` is the session store, if any.

        With `claims`, called once children can be started, a login runs only while it is claimed. `hooks` are told what
        happens to children.
        """
        self._settings, self._hydrator, self._access, self._metrics = settings, hydrator, access, metrics
        self._sessions, self._launcher = sessions, launcher
        self._open_claims = claims
        self._keeper: ClaimKeeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ports = PortPlan(
            port, settings.base_api_port, settings.base_stream_port, settings.port_step, settings.spare_browsers
        )
        self.pool = Pool(max_queue=settings.max_queue)
        hooks = (log_event, metrics.fleet_event, *hooks, self._look_soon)
        self.supervisor = Supervisor(
            launcher=launcher,
            pool=self.pool,
            ports=self._ports,
            policy=Policy.from_settings(settings),
            hooks=hooks,
            needs_claims=claims is not None,
        )
        self.logins = RemoteLogins(
            launcher=launcher,
            saver=ChildSaver(self.supervisor, sessions.trouble_of) if sessions else ChildSaver(self.supervisor),
            profiles=lambda: [child.name for child in self.supervisor.snapshot()],
            site=settings.chat_site or "",
            login_of=self._login_of,
        )
        self._sites = FleetSites(
            self.supervisor,
            default_site=settings.chat_site,
            interval_s=settings.site_check_s,
            emit=Hooks(hooks).emit,
        )
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
        logins = [profile.login for profile in profiles]
        self._memory_warning = plan_memory(
            count,
            settings.browser_engine,
            memory_limit(),
            lambda some: browsers_needed(logins[:some], settings.logins_per_browser),
            spares=settings.spare_browsers,
        )
        await self._open_sessions(hydration)
        self._sites.add(await self._sites.read(profiles))
        await self.supervisor.start(profiles, hydration.keys)
        self._start_claiming()
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
        self._sites.try_again()
        async with self._reloading:
            try:
                hydration = await self._hydrate()
                await self._open_sessions(hydration)
                profiles = hydration.discovery.accepted
                site_files = await self._sites.read(profiles)
                self.supervisor.use_keys(hydration.keys)
                self._sites.add(site_files)
                changed = await self.supervisor.reconcile(profiles)
                self._sites.keep_only(site_files)
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
            if self._keeper is not None:
                self._keeper.wake()
            log.info("reloaded", added=changed.added, replaced=changed.replaced, removed=changed.removed)
            return changed

    def _start_claiming(self) -> None:
        if self._open_claims is None:
            return
        capacity = self._ports.capacity()
        keeper = self._open_claims(self.supervisor, min(capacity, self._settings.max_children or capacity))
        self._keeper = keeper
        self._keeping = asyncio.create_task(keeper.run(), name="claims")
        self._keeping.add_done_callback(self._claiming_ended)

    def _claiming_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.supervisor.fail("claims", error)

    async def watch_sites(self) -> None:
        """Check each site's page now and then, and follow its site file, until cancelled."""
        await self._sites.run()

    def site_checks(self) -> list[SiteStatus]:
        """Return what is known of each site's page."""
        return self._sites.status()

    async def _hydrate(self) -> Hydration:
        began = time.monotonic()
        ok = False
        try:
            hydration = await in_daemon_thread(self._hydrator.hydrate)
            ok = True
        finally:
            self._metrics.hydrated(time.monotonic() - began, ok=ok)
        return hydration

    async def _open_sessions(self, hydration: Hydration) -> None:
        sessions, names = self._sessions, [profile.name for profile in hydration.discovery.accepted]
        if sessions is not None:
            await in_daemon_thread(lambda: sessions.open(names))

    async def keep_sessions(self) -> None:
        """Look after the session store, for ever; returns at once if there is none."""
        while self._sessions is not None:
            await asyncio.sleep(TEND_S)
            try:
                await in_daemon_thread(self._sessions.tend)
            except Exception:  # the next time may do
                log.exception("sessions_not_tended")

    async def close_sessions(self, timeout_s: float) -> None:
        """Upload what children have saved at their end; give up after so many seconds."""
        sessions = self._sessions
        if sessions is None:
            return
        try:
            await asyncio.wait_for(in_daemon_thread(lambda: sessions.upload(at_once=True)), timeout_s)
        except TimeoutError:
            log.warning("sessions_not_uploaded", after_s=timeout_s)

    def _use(self, hydration: Hydration) -> None:
        self._hydration, self._hydrated_at = hydration, time.time()
        self._access.keys, self.pool.aliases = hydration.keys, hydration.aliases

    # What it shows

    @property
    def ready(self) -> bool:
        """Whether a request would find a page."""
        return self.supervisor.ready

    def states(self) -> list[State]:
        """Return the state of each child."""
        return [child.state for child in self.supervisor.public_snapshot()]

    def hydrated_at(self) -> float | None:
        """Return when profiles and keys were last fetched, in Unix seconds."""
        return self._hydrated_at

    def oldest_session_at(self) -> float | None:
        """Return when the session was saved that has not been saved for longest, in Unix seconds."""
        return self._sessions.oldest_save_at() if self._sessions else None

    def session_uploads(self) -> tuple[int, int] | None:
        """Return how many uploads of sessions succeeded and how many failed; None without SESSION_DIR."""
        return self._sessions.uploads() if self._sessions else None

    def spare_browsers(self) -> SpareBrowsers | None:
        """Return what there is of spare browsers; None without SPARE_BROWSERS."""
        return self._launcher.spares()

    def login_days_left(self) -> dict[str, float]:
        """Return in how many days each login expires, by its child's name, as far as its cookies say so."""
        now = time.time()
        children = [child for child in self.supervisor.public_snapshot() if not child.is_elsewhere]
        found = {child.name: child.login_expires_at for child in children}
        return {name: (at - now) / DAY_S for name, at in found.items() if at is not None}

    def rejected(self) -> frozenset[str]:
        """Return the names of the children that there are not, because their profiles are not accepted."""
        found = () if self._hydration is None else self._hydration.discovery.rejected
        return frozenset(item.name.removesuffix(".json") for item in found)

    def unhealthy(self) -> list[str]:
        """Return the names of the children that should serve and do not."""
        return _unhealthy(self.supervisor.public_snapshot())

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        return self._warnings(self.supervisor.public_snapshot())

    def _warnings(self, children: Sequence[PublicStatus]) -> list[str]:
        hydration = self._hydration
        hydrated = () if hydration is None else hydration.warnings
        open_api = _OPEN if hydration is not None and not hydration.keys else None
        claims = self._keeper.status.trouble if self._keeper else None
        sessions = self._sessions.warnings() if self._sessions else ()
        of_children = [
            f"{child.name}: {line}" for child in children if not child.is_elsewhere for line in child.warnings
        ]
        of_logins = (*self._sites.warnings(), *hydrated, *sessions, *of_children)
        spares = self.spare_browsers()
        of_spares = None if spares is None else spares.warning
        lines = (self._reload_error, open_api, self._memory_warning, claims, of_spares, *of_logins)
        return [line for line in lines if line]

    def claims(self) -> ClaimsStatus | None:
        """Return how this cell's claims stand; None where there are none."""
        return self._keeper.status if self._keeper else None

    def view(self) -> dict[str, Any]:
        """Return the body of `/ready`: names, states and reasons; no path, no log line, no cookie."""
        rejected = () if self._hydration is None else self._hydration.discovery.rejected
        shard = self._settings.own_shard
        spares = self.spare_browsers()
        children = self.supervisor.public_snapshot()
        named = {"cell": self._settings.own_cell, "shard": None if shard is None else str(shard)}
        return {
            **{name: value for name, value in named.items() if value is not None},
            **({"claims": claims.public()} if (claims := self.claims()) else {}),
            "status": "draining" if self.pool.draining else "ready" if self.ready else "unready",
            "children": children,
            "unhealthy": _unhealthy(children),
            "rejected_profiles": [{"name": item.name, "reason": item.reason} for item in rejected],
            "site_checks": [site.public() for site in self.site_checks()],
            **({} if spares is None else {"spare_browsers": spares.ready}),
            "api_keys": "enforced" if self._access.enforced else "open",
            "warnings": self._warnings(children),
        }

    def begin_drain(self) -> None:
        """Take no new requests; children that are idle end now. `/ready` is 503 from here on."""
        self.supervisor.begin_drain()
        self.logins.begin_drain()
        if self._keeper is not None:
            self._keeper.begin_drain()
        self._look()

    def _login_of(self, name: str) -> Login:
        fleet_file = self._hydration.fleet_file if self._hydration else None
        return fleet_file.login_of(name) if fleet_file else PLAIN

    async def stop(self) -> None:
        """End every login that a person is doing, and every child, and give back the claims. Idempotent."""
        await self.logins.close()  # first, for the launcher ends with the supervisor
        await self.supervisor.stop()
        if self._keeper is not None:
            await self._keeper.close(LAST_CLAIMS_S)
        if self._keeping is not None:
            self._keeping.cancel()

    def _look_soon(self, event: FleetEvent) -> None:
        # Not at once: in the midst of a transition the child is in neither state.
        asyncio.get_running_loop().call_soon(self._look)
        if self._keeper is not None and isinstance(event, ChildCleaned):
            self._keeper.wake()

    def _look(self) -> None:
        """Log when `/ready` turns."""
        ready = self.ready
        if ready != self._was_ready:
            self._was_ready = ready
            write = log.info if ready else log.warning
            write("ready" if ready else "unready", unhealthy=self.unhealthy(), draining=self.pool.draining)


def _unhealthy(children: Sequence[PublicStatus]) -> list[str]:
    return [child.name for child in children if child.state not in _NOT_UNHEALTHY]


def _without_paths(error: TabfleetError) -> str:
    """Return what whoever has no key may know of an error: other messages than those of S3 may name local paths."""
    if isinstance(error, S3Refused | S3Unreachable):
        return str(error)
    if isinstance(error, FleetFileError):
        return error.public
    what = next((what for kind, what in _RELOAD_FAILURES.items() if isinstance(error, kind)), "it could not be applied")
    return f"{what}; the log has the reason."
