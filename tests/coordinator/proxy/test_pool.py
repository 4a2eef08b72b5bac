"""The pool: which backend a request gets, in which order, and that every lease comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import NoBackend, NotQueued, QueueFull
from coordinator.proxy.pool import Backend, Lease, Pool
from tests.support.waiting import eventually


def pool_of(*names: str, models: tuple[str, ...] = ("m",), max_queue: int = 100, capacity: int = 1) -> Pool:
    pool = Pool(max_queue=max_queue)
    for name in names:
        backend = Backend(name, f"http://{name}", models=models, capacity=capacity)
        pool.put(backend)
        pool.set_ready(backend, ready=True)
    return pool


def backend(pool: Pool, name: str) -> Backend:
    found = pool.get(name)
    assert found is not None
    return found


def take(pool: Pool, model: str = "m") -> Lease:
    lease = pool.try_acquire(model)
    assert lease is not None
    return lease


WAITING: set[asyncio.Task[Lease]] = set()


@pytest.fixture(autouse=True)
async def nothing_is_left_waiting() -> AsyncIterator[None]:
    """Call off what a test leaves in the queue: all tests have one event loop, and its end would be told in another."""
    yield
    for task in WAITING:
        task.cancel()
    await asyncio.gather(*WAITING, return_exceptions=True)
    WAITING.clear()


async def waiting(pool: Pool, model: str = "m", *, timeout_s: float = 5.0) -> asyncio.Task[Lease]:
    """Return a request that is in the queue by now."""
    before = pool.queue_length
    task = asyncio.create_task(pool.acquire(model, timeout_s=timeout_s))
    WAITING.add(task)
    await eventually(lambda: pool.queue_length > before)
    return task


async def test_a_lease_is_released_exactly_once() -> None:
    pool = pool_of("a")
    with take(pool) as lease:
        assert backend(pool, "a").in_flight == pool.leases_held == 1
        assert pool.try_acquire("m") is None
        lease.release()
        lease.release()
        assert (backend(pool, "a").in_flight, pool.leases_held, lease.released) == (0, 0, True)
        other = take(pool)  # the end of the `with` must not give this one back
    assert not other.released
    assert backend(pool, "a").in_flight == 1


async def test_the_least_busy_is_taken_and_the_longest_idle_among_equals() -> None:
    pool = pool_of("a", "b", "c", capacity=2)
    assert [take(pool).backend.name for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    assert pool.try_acquire("m") is None


def weighted(weights: Sequence[float], *, capacity: int = 1) -> Pool:
    pool = Pool(max_queue=100)
    for number, weight in enumerate(weights):
        pool.put(Backend(str(number), "http://x", models=("m", "n"), capacity=capacity, weight=weight, ready=True))
    return pool


@given(
    weights=st.lists(st.sampled_from((0.5, 1.0, 2.0, 3.0, 7.0)), min_size=1, max_size=8),
    rounds=st.integers(1, 20),
    others=st.integers(0, 2),
)
def test_shares_are_as_the_weights(weights: list[float], rounds: int, others: int) -> None:
    """One request after another: each gets its share, to within a few; requests for other models change nothing."""
    pool = weighted(weights)
    slow = Backend("slow", "http://x", models=("n",), weight=0.01, ready=True)
    pool.put(slow)
    total = rounds * sum(weights)
    counts: Counter[str] = Counter()
    for _ in range(int(total)):
        with take(pool) as lease:
            counts[lease.backend.name] += 1
        for _ in range(others):
            other = pool.try_acquire("n", exclude=frozenset(map(str, range(len(weights)))))
            assert other is not None
            other.release()
    for number, weight in enumerate(weights):
        assert abs(counts[str(number)] - rounds * weight) <= 1 + len(weights), (counts, weights)


@given(steps=st.lists(st.integers(0, 3), max_size=60), weight=st.sampled_from((0.5, 1.0, 4.0)))
def test_among_equal_weights_the_longest_idle_is_taken(steps: list[int], weight: float) -> None:
    """Whatever the weight is that all have, and for however long each is at work."""
    pool, idle, held = weighted([weight] * 4), ["0", "1", "2", "3"], list[Lease]()
    for step in steps:
        if idle and (step or not held):
            held.append(take(pool))
            assert held[-1].backend.name == idle.pop(0)
        elif held:
            lease = held.pop(len(held) // 2)
            lease.release()
            idle.append(lease.backend.name)


async def test_the_least_load_for_its_weight_is_taken() -> None:
    pool = weighted([3, 1], capacity=4)
    assert Counter(take(pool).backend.name for _ in range(4)) == {"0": 3, "1": 1}


async def test_another_weight_counts_at_once() -> None:
    pool = weighted([1, 1])
    pool.change(backend(pool, "0"), models=("m",), weight=9.0)
    counts: Counter[str] = Counter()
    for _ in range(20):
        with take(pool) as lease:
            counts[lease.backend.name] += 1
    assert counts == {"0": 18, "1": 2}


async def test_a_thousand_children_cost_a_choice_no_more_than_a_few() -> None:
    """What is looked at is one child for each load and weight, not all of them."""
    pool = weighted([1 + number % 3 for number in range(1000)])
    line = pool._index._lines["m"]
    assert len(line._due) == 3
    leases = [take(pool) for _ in range(600)]
    for lease in leases[::2]:
        lease.release()
    assert len(line._due) <= 3


async def test_what_requests_may_name() -> None:
    pool = Pool(max_queue=1)
    for name, site, models in (("a", "one", ("m", "x/y")), ("b", "two", ("m", "n")), ("c", "two", ("n",))):
        pool.put(Backend(name, "http://x", models=models, site=site))
    pool.aliases = {"quick": ("gone", "n"), "lost": ("gone",)}
    assert pool.sites() == {
        "m": ("one", "two"),
        "x/y": ("one",),
        "n": ("two",),
        "one/m": ("one",),
        "two/m": ("two",),
        "quick": (),
    }
    known = ("m", "one/m", "two/m", "two/n", "x/y", "one/x/y", "quick")
    assert all(pool.serves(name) for name in known)
    assert not any(pool.serves(name) for name in ("one/n", "gone", "lost", "one", "/m"))
    (one,) = [b for b in pool if b.name == "a"]
    assert [one.model_of(name) for name in ("m", "one/m", "x/y", "one/x/y")] == ["m", "m", "x/y", "x/y"]


async def test_a_name_with_its_site_means_that_site_alone() -> None:
    pool = Pool(max_queue=1)
    for name, site in (("a", "one"), ("b", "two")):
        pool.put(Backend(name, "http://x", models=("m",), site=site, ready=True))
    lease = take(pool, "two/m")
    assert lease.backend.name == "b"
    assert pool.try_acquire("two/m") is None
    assert take(pool).backend.name == "a"
    task = await waiting(pool, "two/m")
    lease.release()
    assert (await task).backend.name == "b"


async def test_an_alias_means_the_first_model_with_a_ready_child() -> None:
    pool = Pool(max_queue=1)
    pool.aliases = {"quick": ("m", "n"), "m": ("m", "n")}
    for name, model in (("a", "m"), ("a2", "m"), ("b", "n")):
        pool.put(Backend(name, "http://x", models=(model,), ready=True))
    assert (pool.choose("quick"), pool.choose("m"), pool.choose("n"), pool.choose("?")) == ("m", "m", "n", "?")
    leases = [take(pool), take(pool)]
    assert pool.choose("quick") == "m"  # all busy: it is waited for
    tried = frozenset({"a"})
    assert pool.choose("quick", exclude=tried) == "n"  # but not again
    assert pool.may_go_on("quick", "m", exclude=tried)
    assert not pool.may_go_on("other", "m", exclude=tried)
    for lease in leases:
        lease.release()
    assert pool.choose("quick", exclude=tried) == "m"
    for name in ("a", "a2"):
        pool.set_ready(backend(pool, name), ready=False)
    assert pool.choose("quick") == "n"
    assert not pool.may_go_on("quick", "n", exclude=frozenset({"b"}))
    pool.set_ready(backend(pool, "b"), ready=False)
    assert pool.choose("quick") == "m"  # which says that none is ready


async def test_only_ready_backends_that_serve_the_model_and_are_not_excluded() -> None:
    pool = pool_of("a", "b")
    pool.set_ready(backend(pool, "a"), ready=False)
    assert pool.try_acquire("other") is None
    assert pool.try_acquire("m", exclude=frozenset({"b"})) is None
    assert take(pool).backend.name == "b"


async def test_first_come_first_served() -> None:
    pool = pool_of("a")
    lease = take(pool)
    tasks = [await waiting(pool) for _ in range(3)]
    for task in tasks:
        lease.release()
        lease = await task
        assert not any(later.done() for later in tasks[tasks.index(task) + 1 :])


async def test_a_request_for_a_busy_model_does_not_block_others() -> None:
    pool = pool_of("a", models=("slow",))
    quick = Backend("b", "http://b", models=("quick",))
    pool.put(quick)
    pool.set_ready(quick, ready=True)
    slow, busy = take(pool, "slow"), take(pool, "quick")
    head, second = await waiting(pool, "slow"), await waiting(pool, "quick")
    busy.release()
    assert (await second).backend is quick
    assert not head.done()
    slow.release()
    assert (await head).backend.name == "a"


async def test_a_backend_that_becomes_ready_serves_the_queue() -> None:
    pool = pool_of("a", "b")
    pool.set_ready(backend(pool, "b"), ready=False)
    take(pool)
    task = await waiting(pool)
    pool.set_ready(backend(pool, "b"), ready=True)
    assert (await task).backend.name == "b"


async def test_a_full_queue_refuses() -> None:
    pool = pool_of("a", max_queue=1)
    take(pool)
    await waiting(pool)
    with pytest.raises(QueueFull) as caught:
        await pool.acquire("m", timeout_s=1)
    assert caught.value.retry_after_s > 0


async def test_a_request_that_timed_out_leaves_the_queue() -> None:
    pool = pool_of("a")
    take(pool)
    with pytest.raises(NoBackend) as caught:
        await pool.acquire("m", timeout_s=0.01)
    assert caught.value.reason == "timeout"
    assert pool.queue_length == 0


async def test_a_request_for_which_nothing_is_ready_fails_at_once() -> None:
    pool = pool_of("a")
    pool.set_ready(backend(pool, "a"), ready=False)
    with pytest.raises(NoBackend) as caught:
        await pool.acquire("m", timeout_s=60)
    assert caught.value.reason == "none_ready"


async def test_a_waiting_request_keeps_its_turn_while_the_last_backend_is_away() -> None:
    pool = pool_of("a")
    lease = take(pool)
    task = await waiting(pool)
    pool.set_ready(backend(pool, "a"), ready=False)
    lease.release()
    restarted = Backend("a", "http://a", generation=2, models=("m",))
    pool.put(restarted)
    assert not task.done()
    pool.set_ready(restarted, ready=True)
    assert (await task).backend is restarted


async def test_draining_refuses_waiting_and_new_requests_but_not_running_ones() -> None:
    pool = pool_of("a")
    lease = take(pool)
    task = await waiting(pool)
    pool.begin_drain()
    for refused in (task, pool.acquire("m", timeout_s=1)):
        with pytest.raises(NoBackend) as caught:
            await refused
        assert caught.value.reason == "draining"
    lease.release()
    assert pool.try_acquire("m") is None
    await pool.wait_idle()


async def test_a_lease_granted_to_a_cancelled_waiter_goes_to_the_next() -> None:
    pool = pool_of("a")
    lease = take(pool)
    first, second = await waiting(pool), await waiting(pool)
    lease.release()  # grants to the first...
    first.cancel()  # ...which is cancelled before it can run
    assert (await second).backend.name == "a"
    assert first.cancelled() or first.cancelling()
    assert pool.leases_held == 1


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    pool = pool_of("a")
    lease = take(pool)
    first, second = await waiting(pool), await waiting(pool)
    first.cancel()
    await asyncio.wait({first})
    assert pool.queue_length == 1
    lease.release()
    await second


async def test_a_restarted_child_is_a_new_backend() -> None:
    pool = pool_of("a")
    old_lease = take(pool)
    old = old_lease.backend
    new = Backend("a", "http://a", generation=2, models=("m",))
    pool.put(new)
    pool.set_ready(new, ready=True)
    assert take(pool).backend is new
    pool.set_ready(old, ready=True)  # news of the old start change nothing
    assert not old.ready
    old_lease.release()
    assert (old.in_flight, new.in_flight) == (0, 1)
    assert pool.try_acquire("m") is None


async def test_models_are_known_while_nothing_is_ready() -> None:
    pool = pool_of("a", models=("m", "n"))
    pool.set_ready(backend(pool, "a"), ready=False)
    assert pool.models() == ("m", "n")
    assert pool.models(ready_only=True) == ()
    assert pool.serves("n")
    pool.remove("a")
    assert not pool.serves("n")


async def test_models_may_change() -> None:
    pool = pool_of("a")
    pool.change(backend(pool, "a"), models=("n",))
    assert pool.try_acquire("m") is None
    assert take(pool, "n").backend.name == "a"


async def test_waiting_until_idle() -> None:
    pool = pool_of("a", "b")
    one, two = take(pool), take(pool)
    idle = asyncio.create_task(pool.wait_idle(one.backend))
    all_idle = asyncio.create_task(pool.wait_idle())
    one.release()
    await idle
    assert not all_idle.done()
    two.release()
    await all_idle


async def test_who_must_not_wait_is_refused_at_once_and_takes_nobodys_place() -> None:
    pool = pool_of("a")
    lease = await pool.acquire("m", timeout_s=5.0, may_wait=False)
    task = await waiting(pool)
    with pytest.raises(NotQueued) as refused:
        await pool.acquire("m", timeout_s=5.0, may_wait=False)
    assert (refused.value.retry_after_s, pool.queue_length) == (2.0, 1)
    lease.release()
    with pytest.raises(NotQueued):  # the page is the one's who has waited for it
        await pool.acquire("m", timeout_s=5.0, may_wait=False)
    (await task).release()
    pool.set_ready(backend(pool, "a"), ready=False)
    with pytest.raises(NoBackend, match="ready"):  # another cell is as good, but nobody need wait for this one
        await pool.acquire("m", timeout_s=5.0, may_wait=False)
    assert pool.leases_held == 0
