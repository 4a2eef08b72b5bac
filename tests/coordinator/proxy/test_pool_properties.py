"""The pool under any interleaving of requests, releases, cancellations, deadlines and changes of backends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.errors import NoBackend, QueueFull
from coordinator.proxy.pool import Backend, Lease, Pool
from tests.support.manual_loop import ManualLoop
from tests.support.size import size

NAMES = ("a", "b", "c")
MODELS = ("m", "n")
MAX_QUEUE = 4
QUEUE_TIMEOUT_S = 10.0

names = st.sampled_from(NAMES)
models = st.sampled_from(MODELS)
some_models = st.sets(st.sampled_from(MODELS), min_size=1).map(lambda found: tuple(sorted(found)))
weights = st.sampled_from((0.5, 1.0, 3.0))
excludes = st.frozensets(names, max_size=2)


@dataclass(eq=False)
class Request:
    model: str
    exclude: frozenset[str]
    task: asyncio.Task[Lease]
    cancelled: bool = False
    seen: bool = False

    def fits(self, backend: Backend) -> bool:
        return backend.name not in self.exclude and self.model in backend.models


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.pool = Pool(max_queue=MAX_QUEUE)
        self.current: dict[str, Backend] = {}
        self.every_backend: list[Backend] = []
        self.requests: list[Request] = []  # in the order in which they came, refused ones left out
        self.held: list[Lease] = []
        self.released: list[Lease] = []
        self.starts = 0

    def turn(self) -> None:
        """Let the loop run until nothing is left to do, with the clock standing still."""
        self.loop.turn()
        self.look()

    def look(self) -> None:
        """Note the leases that were granted, and check that no request overtook another."""
        for request in self.requests:
            task = request.task
            if request.seen or not task.done():
                continue
            request.seen = True
            if not task.cancelled() and task.exception() is None:
                self.held.append(task.result())
                self.check_order(request, task.result().backend)

    def check_order(self, served: Request, backend: Backend) -> None:
        assert served.fits(backend)
        earlier = self.requests[: self.requests.index(served)]
        overtaken = [r for r in earlier if not r.task.done() and not r.cancelled and r.fits(backend)]
        assert not overtaken, "a request overtook an earlier one that the same backend could serve"

    def free(self, request: Request) -> list[Backend]:
        return [b for b in self.current.values() if b.ready and b.in_flight < b.capacity and request.fits(b)]

    @initialize(given_models=some_models, capacity=st.integers(1, 3), count=st.integers(1, 3), weight=weights)
    def begin(self, given_models: tuple[str, ...], capacity: int, count: int, weight: float) -> None:
        for name in NAMES[:count]:
            self.put(name, given_models, capacity, weight if name == NAMES[0] else 1.0)
            self.turn_ready(name, ready=True)

    @rule(name=names, given_models=some_models, capacity=st.integers(1, 3), weight=weights)
    def put(self, name: str, given_models: tuple[str, ...], capacity: int, weight: float) -> None:
        self.starts += 1
        backend = Backend(
            name, "http://x", generation=self.starts, models=given_models, capacity=capacity, weight=weight
        )
        self.current[name] = backend
        self.every_backend.append(backend)
        self.loop.call(self.pool.put, backend)
        self.turn()

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.current.pop(name, None)
        self.pool.remove(name)
        self.turn()

    @rule(name=names, given_models=some_models, weight=weights)
    def change(self, name: str, given_models: tuple[str, ...], weight: float) -> None:
        if name in self.current:
            self.loop.call(partial(self.pool.change, self.current[name], models=given_models, weight=weight))
        self.turn()

    @rule(name=names, ready=st.booleans())
    def turn_ready(self, name: str, *, ready: bool) -> None:
        if name in self.current:
            self.loop.call(self.pool.set_ready, self.current[name], ready=ready)
        self.turn()

    @precondition(lambda self: self.every_backend)
    @rule(data=st.data())
    def late_news_of_an_earlier_start(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.every_backend))
        if old is not self.current.get(old.name):
            self.pool.set_ready(old, ready=True)
            assert not old.ready

    @rule(model=models, exclude=excludes)
    def ask(self, model: str, exclude: frozenset[str]) -> None:
        before = {b: b.in_flight / b.weight for b in self.current.values()}
        queued = self.pool.queue_length
        acquire = self.pool.acquire(model, exclude=exclude, timeout_s=QUEUE_TIMEOUT_S)
        request = Request(model, exclude, self.loop.create_task(acquire))
        free = self.free(request)
        some_ready = any(b.ready and request.fits(b) for b in self.current.values())
        self.requests.append(request)
        self.turn()
        task = request.task
        if free:
            chosen = task.result().backend
            assert before[chosen] == min(before[b] for b in free)
        elif not some_ready:
            assert isinstance(task.exception(), NoBackend)
        elif queued >= MAX_QUEUE:
            assert isinstance(task.exception(), QueueFull)
        else:
            assert not task.done()

    @rule(model=models, count=st.integers(2, 6))
    def a_crowd_asks(self, model: str, count: int) -> None:
        for _ in range(count):
            self.ask(model, frozenset())

    def waiting(self) -> list[Request]:
        return [request for request in self.requests if not request.task.done()]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), at_once=st.booleans())
    def release(self, data: st.DataObject, *, at_once: bool) -> None:
        lease = data.draw(st.sampled_from(self.held))
        self.held.remove(lease)
        self.released.append(lease)
        self.loop.call(lease.release)
        # Sometimes the next step comes before anybody could take notice.
        if not at_once:
            self.turn()
        self.look()

    @precondition(lambda self: self.released)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.released))
        in_flight = lease.backend.in_flight
        lease.release()
        assert lease.backend.in_flight == in_flight

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting()))
        request.cancelled = True
        request.task.cancel()
        self.turn()
        assert request.task.cancelled()

    @precondition(lambda self: self.held and self.waiting())
    @rule(data=st.data())
    def cancel_in_the_turn_of_the_grant(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.held))
        request = data.draw(st.sampled_from(self.waiting()))
        self.held.remove(lease)
        self.released.append(lease)
        request.cancelled = True

        def both() -> None:
            lease.release()
            request.task.cancel()

        self.loop.call(both)
        self.turn()
        assert request.task.cancelled()

    @rule(seconds=st.sampled_from((1.0, QUEUE_TIMEOUT_S)))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.turn()
        if seconds == QUEUE_TIMEOUT_S:
            assert not self.waiting()
            assert all(isinstance(r.task.exception(), NoBackend) for r in self.requests if self.refused(r))

    def refused(self, request: Request) -> bool:
        task = request.task
        return not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), QueueFull)

    @invariant()
    def leases_and_requests_in_flight_agree(self) -> None:
        self.turn()
        assert self.pool.leases_held == len(self.held)
        for backend in self.every_backend:
            assert backend.in_flight == sum(lease.backend is backend for lease in self.held)
            assert backend.in_flight <= backend.capacity

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        assert not [request for request in self.waiting() if self.free(request)]

    @invariant()
    def the_queue_is_who_waits(self) -> None:
        assert self.pool.queue_length == len(self.waiting()) <= MAX_QUEUE

    def teardown(self) -> None:
        self.pool.begin_drain()
        self.turn()
        assert not self.waiting()
        for lease in self.held:
            lease.release()
        assert self.pool.leases_held == 0
        assert all(backend.in_flight == 0 for backend in self.every_backend)
        self.loop.close()


PoolMachine.TestCase.settings = settings(max_examples=size(50, 150), stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
