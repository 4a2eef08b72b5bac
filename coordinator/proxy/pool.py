"""Which child takes a request now: backends, leases, and the queue of requests that wait.

A page takes one prompt at a time, and here a lease is the one owner of that: no more than `Backend.capacity` are out.
A child has a queue of its own all the same, because people and scripts may ask it without a coordinator.

Deciding is synchronous: choosing a backend and reserving it is one step without an `await`. There is no I/O here.
All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from coordinator.errors import NoBackend, QueueFull

_NONE_READY_RETRY_S: Final = 5.0
_BUSY_RETRY_S: Final = 2.0


@dataclass(eq=False)
class Backend:
    """One start of one child as the router sees it; a restarted child is a new Backend.

    `token` authorises the coordinator at this start of the child (header `x-tabfleet-token`). `capacity` is how many
    requests it works on at a time. Only the pool writes `ready`, `models` and `in_flight`.
    """

    name: str
    url: str
    generation: int = 0
    models: tuple[str, ...] = ()
    capacity: int = 1
    token: str = field(default="", repr=False)
    ready: bool = False
    in_flight: int = 0


class Lease:
    """The right to one request on one backend. A synchronous context manager, released exactly once."""

    def __init__(self, pool: Pool, backend: Backend) -> None:
        self.backend = backend
        self._pool: Pool | None = pool

    @property
    def released(self) -> bool:
        """Whether it has been given back."""
        return self._pool is None

    def release(self) -> None:
        """Give the backend back; further calls do nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._release(self)  # noqa: SLF001 - the two are one mechanism

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease {self.backend.name}#{self.backend.generation}{' released' if self.released else ''}>"


@dataclass(eq=False)
class _Waiter:
    model: str | None
    exclude: frozenset[str]
    future: asyncio.Future[Lease]


class _Index:
    """READY backends with room, by model and by requests in flight; within one load, longest idle first."""

    def __init__(self) -> None:
        self._loads: dict[str | None, list[dict[Backend, None]]] = {}

    def add(self, backend: Backend) -> None:
        """Take a backend in, behind those of the same load; do nothing if it is not ready or at capacity."""
        if not backend.ready or backend.in_flight >= backend.capacity:
            return
        for model in (None, *backend.models):
            loads = self._loads.setdefault(model, [])
            while len(loads) <= backend.in_flight:
                loads.append({})
            loads[backend.in_flight][backend] = None

    def discard(self, backend: Backend) -> None:
        """Take a backend out, if it is in; to be called before its load, models or readiness change."""
        for model in (None, *backend.models):
            for load in self._loads.get(model, ()):
                load.pop(backend, None)

    def least_busy(self, model: str | None, exclude: frozenset[str]) -> Backend | None:
        """Return the backend with the fewest requests in flight that is not excluded by its name."""
        candidates = (backend for load in self._loads.get(model, ()) for backend in load)
        return next((backend for backend in candidates if backend.name not in exclude), None)


class Pool:
    """All backends, their leases, and the bounded first-come first-served queue."""

    def __init__(self, *, max_queue: int) -> None:
        self.max_queue = max_queue
        self._backends: dict[str, Backend] = {}
        self._index = _Index()
        self._queue: deque[_Waiter] = deque()
        self._leases: set[Lease] = set()
        self._changed: set[asyncio.Future[None]] = set()
        self.draining = False
        """Whether the coordinator ends: the one place that says so. Set by `begin_drain` only."""

    # What there is

    def __iter__(self) -> Iterator[Backend]:
        return iter(tuple(self._backends.values()))

    def get(self, name: str) -> Backend | None:
        """Return the present backend of that child, if it has one."""
        return self._backends.get(name)

    @property
    def queue_length(self) -> int:
        """How many requests wait for a lease."""
        return len(self._queue)

    @property
    def leases_held(self) -> int:
        """How many leases are out, those on forgotten backends included."""
        return len(self._leases)

    def models(self, *, ready_only: bool = False) -> tuple[str, ...]:
        """Return the models of all known backends in a stable order, each once."""
        known = (b for b in self._backends.values() if b.ready or not ready_only)
        return tuple(dict.fromkeys(model for backend in known for model in backend.models))

    def serves(self, model: str) -> bool:
        """Return whether any known backend, ready or not, serves this model."""
        return any(model in backend.models for backend in self._backends.values())

    def ready_backend(self, model: str, *, exclude: frozenset[str] = frozenset()) -> Backend | None:
        """Return the ready backend of this model with the fewest requests in flight, for what takes no page of it.

        Without a lease, and at capacity or not: `exclude` holds names of children not to take.
        """
        fitting = (b for b in self._backends.values() if b.ready and model in b.models and b.name not in exclude)
        return min(fitting, key=lambda backend: backend.in_flight, default=None)

    # What the supervisor tells

    def put(self, backend: Backend) -> None:
        """Make this the backend of its child, in place of the one of an earlier start."""
        self.remove(backend.name)
        self._backends[backend.name] = backend
        self._refresh(backend)

    def remove(self, name: str) -> None:
        """Forget the child's backend; leases on it stay valid and are still to be released."""
        backend = self._backends.pop(name, None)
        if backend is not None:
            self._index.discard(backend)
            backend.ready = False

    def set_ready(self, backend: Backend, *, ready: bool, models: tuple[str, ...] | None = None) -> None:
        """Take the backend into routing or out of it; does nothing for one of an earlier start."""
        if self._backends.get(backend.name) is not backend:
            return
        self._index.discard(backend)
        backend.ready = ready
        if models is not None:
            backend.models = models
        self._refresh(backend)

    def begin_drain(self) -> None:
        """Refuse every request from now on, those in the queue included; running leases go on. Idempotent."""
        self.draining = True
        while self._queue:
            self._refuse(self._queue.popleft(), NoBackend("draining", _NONE_READY_RETRY_S))

    # Leases

    def try_acquire(self, model: str | None, *, exclude: frozenset[str] = frozenset()) -> Lease | None:
        """Lease the READY backend with the fewest requests in flight; return None if all are at capacity.

        `model` None means any; `exclude` holds names of children not to take. Does not overtake: a
        backend that somebody waits for is never free, because it was given on when it became so.
        """
        backend = None if self.draining else self._index.least_busy(model, exclude)
        return None if backend is None else self._grant(backend)

    def has_room(self, model: str | None, *, exclude: frozenset[str] = frozenset()) -> bool:
        """Return whether try_acquire would find a backend."""
        return not self.draining and self._index.least_busy(model, exclude) is not None

    async def acquire(self, model: str | None, *, exclude: frozenset[str] = frozenset(), timeout_s: float) -> Lease:
        """Wait up to timeout_s seconds for a lease, first come first served among those it could serve.

        Raises QueueFull if there is no room to wait; NoBackend(`none_ready`) at once if nothing that
        serves the model is ready, NoBackend(`timeout`) after timeout_s, NoBackend(`draining`) once draining.
        Whoever waits already keeps its place while backends come and go, until its own deadline.
        """
        lease = self.try_acquire(model, exclude=exclude)
        if lease is not None:
            return lease
        if self.draining:
            raise NoBackend("draining", _NONE_READY_RETRY_S)
        if not any(
            b.ready and b.name not in exclude and (model is None or model in b.models) for b in self._backends.values()
        ):
            raise NoBackend("none_ready", _NONE_READY_RETRY_S)
        if len(self._queue) >= self.max_queue:
            raise QueueFull(len(self._queue), _BUSY_RETRY_S)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(model, exclude, loop.create_future())
        self._queue.append(waiter)
        timer = loop.call_later(timeout_s, self._refuse, waiter, NoBackend("timeout", _BUSY_RETRY_S))
        try:
            return await waiter.future
        except asyncio.CancelledError:
            # Granted and cancelled in the same turn of the loop: the lease has no owner, so it is given on.
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                waiter.future.result().release()
            raise
        finally:
            timer.cancel()
            if waiter in self._queue:
                self._queue.remove(waiter)

    async def wait_idle(self, backend: Backend | None = None) -> None:
        """Return as soon as this backend, or the whole pool, has no lease out."""
        while self._leases if backend is None else backend.in_flight:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.add(changed)
            try:
                await changed
            finally:
                self._changed.discard(changed)

    # One step each, no await

    def _grant(self, backend: Backend) -> Lease:
        self._index.discard(backend)
        backend.in_flight += 1
        self._index.add(backend)
        lease = Lease(self, backend)
        self._leases.add(lease)
        return lease

    def _release(self, lease: Lease) -> None:
        backend = lease.backend
        self._leases.discard(lease)
        self._index.discard(backend)
        backend.in_flight -= 1
        if self._backends.get(backend.name) is backend:
            self._refresh(backend)
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)

    def _refresh(self, backend: Backend) -> None:
        """Take a changed backend into the index, and lease it to those who wait for it, in their order."""
        self._index.add(backend)
        for waiter in tuple(self._queue):
            if not backend.ready or backend.in_flight >= backend.capacity:
                return
            fits = waiter.model is None or waiter.model in backend.models
            # One that is done has been refused, or cancelled in this turn of the loop, and leaves the queue itself.
            if fits and backend.name not in waiter.exclude and not waiter.future.done():
                self._queue.remove(waiter)
                waiter.future.set_result(self._grant(backend))

    def _refuse(self, waiter: _Waiter, error: NoBackend) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(error)
