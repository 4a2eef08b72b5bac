"""Which child takes a request now: backends, leases, and the queue of requests that wait.

A page takes one prompt at a time, and here a lease is the one owner of that: no more than `Backend.capacity` are out.
A child has a queue of its own all the same, because people and scripts may ask it without a coordinator.

Deciding is synchronous: choosing a backend and reserving it is one step without an `await`. There is no I/O here.
All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from coordinator.errors import NoBackend, NotQueued, QueueFull

_NONE_READY_RETRY_S: Final = 5.0
_BUSY_RETRY_S: Final = 2.0


@dataclass(eq=False)
class Backend:
    """One start of one child as the router sees it; a restarted child is a new Backend.

    `token` authorises the coordinator at this start of the child (header `x-tabfleet-token`). `capacity` is how many
    requests it works on at a time. `site` is the name of its site where that is of interest, `weight` its share of
    requests. Only the pool writes `ready`, `models`, `weight` and `in_flight`.
    """

    name: str
    url: str
    generation: int = 0
    models: tuple[str, ...] = ()
    capacity: int = 1
    token: str = field(default="", repr=False)
    ready: bool = False
    in_flight: int = 0
    site: str = ""
    weight: float = 1.0
    names: tuple[str, ...] = field(init=False)
    """By which requests may ask for it: its models, and the same with its site before them, as `SITE/MODEL`."""

    def __post_init__(self) -> None:
        self.serve(self.models)

    def serve(self, models: tuple[str, ...]) -> None:
        """Make these its models."""
        self.models = models
        qualified = (f"{self.site}/{model}" for model in models) if self.site else ()
        self.names = tuple(dict.fromkeys((*models, *qualified)))

    @property
    def has_room(self) -> bool:
        """Whether it takes a request now."""
        return self.ready and self.in_flight < self.capacity

    def model_of(self, name: str) -> str:
        """Return which of its models one of its names means."""
        return name if name in self.models else name.removeprefix(f"{self.site}/")


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
    model: str
    exclude: frozenset[str]
    future: asyncio.Future[Lease]


class _Line:
    """READY backends of one model with room. Who has the least load for its weight goes first, then whose turn it is.

    A backend that comes in is due 1/weight later than the last one that was taken: among equal weights that is the
    longest idle first, among others the shares of requests are as the weights, wherever there is a choice.
    """

    def __init__(self) -> None:
        self._due: dict[tuple[int, float], dict[Backend, float]] = {}
        # By load and weight: in each of these groups, who came first is due first.
        self._now = 0.0

    def add(self, backend: Backend) -> None:
        group = self._due.setdefault((backend.in_flight, backend.weight), {})
        group[backend] = self._now + 1 / backend.weight

    def discard(self, backend: Backend) -> None:
        key = (backend.in_flight, backend.weight)
        group = self._due.get(key, {})
        if group.pop(backend, None) is not None and not group:
            del self._due[key]

    def pass_turn(self, backend: Backend) -> None:
        """Count a request that this backend, which is in, is about to take."""
        self._now = max(self._now, self._due[backend.in_flight, backend.weight][backend])

    def first(self, exclude: frozenset[str]) -> Backend | None:
        best, best_rank = None, (0.0, 0.0)
        for (in_flight, weight), group in self._due.items():
            for backend, due in group.items():
                if backend.name not in exclude:
                    rank = (in_flight / weight, due)
                    if best is None or rank < best_rank:
                        best, best_rank = backend, rank
                    break
        return best


class _Index:
    """READY backends with room, by the names of their models."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def add(self, backend: Backend) -> None:
        """Take a backend in, behind those of the same load; do nothing if it is not ready or at capacity."""
        if not backend.has_room:
            return
        for name in backend.names:
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = _Line()
            line.add(backend)

    def discard(self, backend: Backend) -> None:
        """Take a backend out, if it is in; to be called before its load, models, weight or readiness change."""
        if not backend.has_room:  # then it is not in
            return
        for name in backend.names:
            if line := self._lines.get(name):
                line.discard(backend)

    def take(self, backend: Backend, model: str) -> None:
        """Take a backend out, which is in, for a request for this model."""
        self._lines[model].pass_turn(backend)
        self.discard(backend)

    def least_busy(self, model: str, exclude: frozenset[str]) -> Backend | None:
        """Return the backend with the least load for its weight that is not excluded by its name."""
        line = self._lines.get(model)
        return None if line is None else line.first(exclude)


class Pool:
    """All backends, their leases, and the bounded first-come first-served queue."""

    def __init__(self, *, max_queue: int) -> None:
        self.max_queue = max_queue
        self._backends: dict[str, Backend] = {}
        self._index = _Index()
        self._queue: deque[_Waiter] = deque()
        self._leases: set[Lease] = set()
        self._changed: set[asyncio.Future[None]] = set()
        self.aliases: Mapping[str, tuple[str, ...]] = {}
        """Names that stand for models, in the order in which these are to be asked; the fleet file's."""
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

    def sites(self) -> dict[str, tuple[str, ...]]:
        """Return what requests may name, in a stable order, with the sites that serve it; an alias has none.

        A model of several sites also stands there once for each of them, as `SITE/MODEL`.
        """
        found: dict[str, dict[str, None]] = {}
        for backend in self._backends.values():
            for model in backend.models:
                found.setdefault(model, {})[backend.site] = None
        shown = {model: tuple(sites) for model, sites in found.items()}
        for model, sites in found.items():
            shown |= {f"{site}/{model}": (site,) for site in sites if len(sites) > 1}
        return shown | {alias: () for alias in self.aliases if self.serves(alias)}

    def serves(self, name: str) -> bool:
        """Return whether any known backend, ready or not, serves this model, or one that this alias stands for."""
        targets = self._targets(name)
        return any(target in backend.names for backend in self._backends.values() for target in targets)

    def choose(self, name: str, *, exclude: frozenset[str] = frozenset()) -> str:
        """Return the model that a request for this name is to ask: itself, or one that an alias stands for.

        That is the first with a ready backend, busy or not, that is not excluded. Once backends have been tried,
        one with room goes before those where the request would have to wait again.
        """
        targets = self._targets(name)
        if len(targets) == 1:
            return targets[0]
        ready = [target for target in targets if self._has_ready(target, exclude)]
        free = [target for target in ready if self.has_room(target, exclude=exclude)] if exclude else []
        return (free or ready or targets)[0]

    def may_go_on(self, name: str, model: str, *, exclude: frozenset[str]) -> bool:
        """Return whether a request that asked `model` for this name, and was refused, has another backend to go to.

        One of the same model must have room; one of the alias's further models may be waited for.
        """
        targets = self._targets(name)
        further = targets[targets.index(model) + 1 :] if model in targets else ()
        return self.has_room(model, exclude=exclude) or any(self._has_ready(target, exclude) for target in further)

    def _has_ready(self, model: str, exclude: frozenset[str]) -> bool:
        return any(b.ready and b.name not in exclude and model in b.names for b in self._backends.values())

    def _targets(self, name: str) -> tuple[str, ...]:
        return self.aliases.get(name, (name,))

    def ready_backend(self, model: str, *, exclude: frozenset[str] = frozenset()) -> Backend | None:
        """Return the ready backend of this model with the fewest requests in flight, for what takes no page of it.

        Without a lease, and at capacity or not: `exclude` holds names of children not to take.
        """
        fitting = (b for b in self._backends.values() if b.ready and model in b.names and b.name not in exclude)
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

    def set_ready(self, backend: Backend, *, ready: bool) -> None:
        """Take the backend into routing or out of it; does nothing for one of an earlier start."""
        if self._backends.get(backend.name) is not backend:
            return
        self._index.discard(backend)
        backend.ready = ready
        self._refresh(backend)

    def change(self, backend: Backend, *, models: tuple[str, ...], weight: float | None = None) -> None:
        """Give the backend other models or another weight; does nothing for one of an earlier start."""
        if self._backends.get(backend.name) is not backend:
            return
        self._index.discard(backend)
        backend.serve(models)
        if weight is not None:
            backend.weight = weight
        self._refresh(backend)

    def begin_drain(self) -> None:
        """Refuse every request from now on, those in the queue included; running leases go on. Idempotent."""
        self.draining = True
        while self._queue:
            self._refuse(self._queue.popleft(), NoBackend("draining", _NONE_READY_RETRY_S))

    # Leases

    def try_acquire(self, model: str, *, exclude: frozenset[str] = frozenset()) -> Lease | None:
        """Lease the READY backend with the least load for its weight; return None if all are at capacity.

        `exclude` holds names of children not to take. Does not overtake: a backend that somebody waits for is never
        free, because it was given on when it became so.
        """
        backend = None if self.draining else self._index.least_busy(model, exclude)
        return None if backend is None else self._grant(backend, model)

    def has_room(self, model: str, *, exclude: frozenset[str] = frozenset()) -> bool:
        """Return whether try_acquire would find a backend."""
        return not self.draining and self._index.least_busy(model, exclude) is not None

    async def acquire(
        self, model: str, *, exclude: frozenset[str] = frozenset(), timeout_s: float, may_wait: bool = True
    ) -> Lease:
        """Wait up to timeout_s seconds for a lease, first come first served among those it could serve.

        Raises QueueFull if there is no room to wait, NotQueued at once in place of waiting where it must not;
        NoBackend(`none_ready`) at once if nothing that
        serves the model is ready, NoBackend(`timeout`) after timeout_s, NoBackend(`draining`) once draining.
        Whoever waits already keeps its place while backends come and go, until its own deadline.
        """
        lease = self.try_acquire(model, exclude=exclude)
        if lease is not None:
            return lease
        if self.draining:
            raise NoBackend("draining", _NONE_READY_RETRY_S)
        if not self._has_ready(model, exclude):
            raise NoBackend("none_ready", _NONE_READY_RETRY_S)
        if not may_wait:
            raise NotQueued(_BUSY_RETRY_S)
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

    def _grant(self, backend: Backend, model: str) -> Lease:
        self._index.take(backend, model)
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
            if not backend.has_room:
                return
            fits = waiter.model in backend.names
            # One that is done has been refused, or cancelled in this turn of the loop, and leaves the queue itself.
            if fits and backend.name not in waiter.exclude and not waiter.future.done():
                self._queue.remove(waiter)
                waiter.future.set_result(self._grant(backend, waiter.model))

    def _refuse(self, waiter: _Waiter, error: NoBackend) -> None:
        if not waiter.future.done():
            waiter.future.set_exception(error)
