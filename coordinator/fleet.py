"""Everything behind the HTTP face: profiles and keys, the children, and what `/ready` says of them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from contract.errors import TabfleetError
from coordinator.errors import ActionRefused
from coordinator.profiles.daemon_thread import in_daemon_thread
from coordinator.proxy.pool import Pool
from coordinator.supervision.events import FleetEvent, log_event
from coordinator.supervision.lifecycle import State
from coordinator.supervision.memory import memory_limit
from coordinator.supervision.plan import PortPlan, check_ports_free, plan_memory
from coordinator.supervision.supervisor import Reconciled, Supervisor
from coordinator.wiring import policy_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.metrics import Metrics
    from coordinator.profiles import Hydration, Hydrator
    from coordinator.proxy.admission import Access
    from coordinator.proxy.pool import Backend
    from coordinator.settings import Settings
    from coordinator.supervision.launcher import Launcher

log = structlog.get_logger(__name__)

_FINE: Final = frozenset({State.READY, State.STANDBY, State.STOPPED})
_OPEN: Final = "No API keys are set: everybody who reaches the port may use the API."


@dataclass(frozen=True)
class Parts:
    """What a fleet is made of. `make_launcher` may take a place on disk, and so is called once all else is well."""

    settings: Settings
    access: Access
    metrics: Metrics
    hydrator: Hydrator
    make_launcher: Callable[[], Launcher]
    port: int


class Fleet:
    """The children of one coordinator; there are none until `start` has been through."""

    def __init__(self, parts: Parts) -> None:
        self.pool = Pool(max_queue=parts.settings.max_queue)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts = parts
        self._supervisor: Supervisor | None = None
        self._hydration: Hydration | None = None
        self._hydrated_at: float | None = None
        self._reload_error: str | None = None
        self._memory_warning: str | None = None
        self._reloading = asyncio.Lock()
        self._was_ready = False

    # The beginning, and reloads

    async def start(self) -> None:
        """Fetch profiles and keys, check that children fit, begin to start them. Raises TabfleetError."""
        if self._parts.settings.profile_backend != "local":
            log.info("hydrating", backend=self._parts.settings.profile_backend)
        hydration = await self._hydrate()
        settings, profiles = self._parts.settings, hydration.discovery.accepted
        count = min(len(profiles), settings.max_children or len(profiles))
        ports = PortPlan(self._parts.port, settings.base_api_port, settings.base_stream_port, settings.port_step)
        ports.check(count)
        check_ports_free(ports, count)
        self._memory_warning = plan_memory(count, settings.browser_engine, memory_limit())
        launcher = self._parts.make_launcher()
        hooks = (log_event, self._parts.metrics.fleet_event, self._look_later)
        self._supervisor = Supervisor(
            launcher=launcher, pool=self.pool, ports=ports, policy=policy_of(settings), hooks=hooks
        )
        self._supervisor.failed.add_done_callback(self._supervision_failed)
        self._supervisor.use_keys(hydration.keys)
        self._take(hydration)
        for warning in self.warnings():
            log.warning("attention", message=warning)
        log.info("children_launched", children=[profile.name for profile in profiles][:count], planned=count)
        await self._supervisor.start(profiles)

    async def reload(self) -> Reconciled:
        """Fetch profiles and keys anew; only children whose profile is new, changed or gone are touched.

        Raises TabfleetError, and then nothing has changed but a warning in `/ready`. An error of the program itself
        stands there too.
        """
        supervisor = self._supervisor
        if supervisor is None or self.pool.draining:
            raise ActionRefused("There is nothing to reload while the coordinator starts or ends.")
        async with self._reloading:
            try:
                hydration = await self._hydrate()
                supervisor.use_keys(hydration.keys)
                changed = await supervisor.reconcile(hydration.discovery.accepted)
            except TabfleetError as error:
                self._reload_error = f"The last reload failed and changed nothing: {error}"
                log.error("reload_failed", message=str(error))  # noqa: TRY400 - a line for people
                raise
            except Exception:
                self._reload_error = "The last reload failed by an error in the program itself; its log has the place."
                log.exception("reload_failed")
                raise
            self._reload_error = None
            self._take(hydration)
            log.info("reloaded", added=changed.added, replaced=changed.replaced, removed=changed.removed)
            return changed

    async def _hydrate(self) -> Hydration:
        began = time.monotonic()
        ok = False
        try:
            hydration = await in_daemon_thread(self._parts.hydrator.hydrate, "hydration")
            ok = True
        finally:
            self._parts.metrics.hydrated(time.monotonic() - began, ok=ok)
        return hydration

    def _take(self, hydration: Hydration) -> None:
        self._hydration, self._hydrated_at = hydration, time.time()
        self._parts.access.keys = hydration.keys

    def _supervision_failed(self, failed: asyncio.Future[None]) -> None:
        error = None if failed.cancelled() else failed.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    # What it shows

    @property
    def ready(self) -> bool:
        """Whether a request would find a page."""
        return self._supervisor is not None and not self.pool.draining and self._supervisor.ready

    @property
    def supervisor(self) -> Supervisor:
        """The children by name, for the operator's actions. Raises ActionRefused before there are any."""
        if self._supervisor is None:
            raise ActionRefused("The coordinator is still fetching its profiles.")
        return self._supervisor

    def states(self) -> list[State]:
        """The state of each child."""
        return [] if self._supervisor is None else [child.state for child in self._supervisor.snapshot()]

    def hydrated_at(self) -> float | None:
        """When profiles and keys were last fetched, in Unix seconds."""
        return self._hydrated_at

    def unhealthy(self) -> list[str]:
        """The names of the children that should serve and do not."""
        children = () if self._supervisor is None else self._supervisor.snapshot()
        return [child.name for child in children if child.state not in _FINE]

    def warnings(self) -> list[str]:
        """What the operator should know, a line each."""
        hydration = self._hydration
        hydrated = () if hydration is None else hydration.warnings
        open_api = _OPEN if hydration is not None and not hydration.keys else None
        return [line for line in (self._reload_error, open_api, self._memory_warning, *hydrated) if line]

    def view(self) -> dict[str, Any]:
        """The body of `/ready`: names, states and reasons; no path, no log line, no cookie."""
        children = () if self._supervisor is None else self._supervisor.snapshot()
        rejected = () if self._hydration is None else self._hydration.discovery.rejected
        return {
            "status": "draining" if self.pool.draining else "ready" if self.ready else "unready",
            "children": [child.public() for child in children],
            "unhealthy": self.unhealthy(),
            "rejected_profiles": [{"name": item.name, "reason": item.reason} for item in rejected],
            "api_keys": "enforced" if self._parts.access.enforced else "open",
            "warnings": self.warnings(),
        }

    def _look_later(self, _: FleetEvent) -> None:
        # Later: in the midst of a transition the child is neither here nor there.
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        ready = self.ready
        if ready != self._was_ready:
            self._was_ready = ready
            turn = log.info if ready else log.warning
            turn("ready" if ready else "unready", unhealthy=self.unhealthy(), draining=self.pool.draining)

    # What the proxy asks

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        """See Supervisor.cancel."""
        return await self.supervisor.cancel(backend, request_id)

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        """See Supervisor.was_submitted."""
        return self.supervisor.was_submitted(backend, request_id)

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        """See Supervisor.may_retry."""
        return await self.supervisor.may_retry(backend, request_id)

    # The end

    def begin_drain(self) -> None:
        """Take no new requests; children that are idle end now. `/ready` is 503 from here on."""
        self.pool.begin_drain()
        if self._supervisor is not None:
            self._supervisor.begin_drain()
        self._look()

    async def stop(self) -> None:
        """End every child and remove what they leave."""
        if self._supervisor is not None:
            await self._supervisor.stop()
