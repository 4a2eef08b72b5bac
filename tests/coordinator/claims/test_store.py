"""What every store of claims must do: one suite, over the store in memory and over a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import (
    CellTaken,
    ClaimStore,
    LeaseGone,
    SettingsDiffer,
    StoreNew,
    StoreUnreachable,
    View,
)
from tests.coordinator.claims.worlds import LONG_TTL_S, TTL_S, EtcdWorld, MemoryWorld, World
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S, eventually_async

NewWorld = Callable[[], World]


@pytest.fixture(params=["memory", "etcd"])
async def new_world(request: pytest.FixtureRequest) -> AsyncIterator[NewWorld]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryWorld
        else:
            etcd = request.getfixturevalue("etcd")
            yield lambda: EtcdWorld(etcd, stack)


@pytest.fixture
def world(new_world: NewWorld) -> World:
    return new_world()


async def test_a_login_is_claimed_by_one_of_two_cells(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    assert await a.claim("ann", None)
    assert not await b.claim("ann", None)
    assert await b.claim("bob", None)
    assert await a.view() == View({"a": 5, "b": 5}, {"ann": "a", "bob": "b"}, frozenset({"ann"}))
    assert (await b.view()).own == {"bob"}


async def test_one_of_many_that_claim_at_once_gets_each_login(world: World) -> None:
    cells = [await world.registered(f"cell-{number}") for number in range(8)]
    logins = [f"login-{number}" for number in range(size(5, 50))]
    tries = [(cell, login) for login in logins for cell in cells]
    claimed = await asyncio.gather(*(cell.claim(login, None) for cell, login in tries))
    assert [login for (_, login), won in zip(tries, claimed, strict=True) if won] == logins
    views = [await cell.view() for cell in cells]
    assert sorted(login for view in views for login in view.own) == sorted(logins)


async def test_a_later_claim_has_a_higher_number(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    numbers = []
    for cell in (a, b, a):
        numbers.append(await cell.claim("ann", None))
        assert await cell.claim("ann", None) == numbers[-1]
        await cell.write("session", "ann", b"x")
        assert await cell.claim("ann", None) == numbers[-1]
        await cell.release("ann")
    assert None not in numbers
    assert sorted(set(numbers), key=lambda number: number or 0) == numbers


async def test_one_of_many_names_of_the_same_login_is_claimed(world: World) -> None:
    cells = [await world.registered(f"cell-{number}") for number in range(4)]
    claimed = await asyncio.gather(*(cell.claim(f"name-{n}", "the same") for n in range(4) for cell in cells))
    assert sum(number is not None for number in claimed) == 1
    assert len((await cells[0].view()).holders) == 1
    # No fingerprint is no double of another that has none.
    assert await cells[0].claim("x", None)
    assert await cells[1].claim("y", None)


async def test_a_double_can_be_claimed_once_the_other_is_released(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    assert await a.claim("ann", "mail")
    assert not await b.claim("ann-again", "mail")
    assert not await a.claim("ann-again", "mail")
    await a.release("ann")
    assert await b.claim("ann-again", "mail")
    assert not await a.claim("ann", "mail")


async def test_a_claim_can_be_made_twice(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    assert await a.claim("ann", "mail")
    assert await a.claim("ann", "mail")
    assert await a.claim("ann", "another mail")
    assert await b.claim("ben", "mail")
    assert not await b.claim("bob", "another mail")
    assert (await a.view()).holders == {"ann": "a", "ben": "b"}


async def test_only_own_claims_are_released(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", "mail")
    await b.release("ann")
    await b.release("nobody's")
    await (await world.connect()).release("ann")
    assert (await b.view()).holders == {"ann": "a"}
    assert not await b.claim("bob", "mail")
    await a.release("ann")
    await a.release("ann")
    assert await b.claim("ann", "mail")
    await a.release("ann")
    assert (await b.view()).own == {"ann"}


async def test_a_cell_is_registered_once(world: World) -> None:
    a, other = await world.registered("a"), await world.connect()
    with pytest.raises(CellTaken):
        await other.register("a", SharedSettings(LONG_TTL_S), 5)
    await a.revoke()
    await other.register("a", SharedSettings(LONG_TTL_S), 5)
    assert (await other.view()).cells == {"a": 5}


async def test_one_that_was_not_registered_sees_all_and_holds_nothing(world: World) -> None:
    a, other = await world.registered("a"), await world.connect()
    await a.claim("ann", None)
    assert await other.view() == View({"a": 5}, {"ann": "a"}, frozenset())
    await other.leave()
    await other.revoke()
    for ask in (other.claim("bob", None), other.renew(), other.write("session", "ann", b"x")):
        with pytest.raises(LeaseGone):
            await ask
    assert (await a.view()).holders == {"ann": "a"}


async def test_what_is_not_renewed_ends(world: World) -> None:
    a, b = await world.registered("a", TTL_S), await world.connect()
    await a.claim("ann", "mail")
    await world.expiry("a", b)
    assert await b.view() == View()
    await b.register("a", SharedSettings(LONG_TTL_S), 5)
    assert await b.claim("bob", "mail")


async def test_after_the_end_of_the_lease_nothing_is_done_with_it(world: World) -> None:
    a, b = await world.registered("a", TTL_S), await world.connect()
    await a.claim("ann", None)
    await a.write("session", "ann", b"of a")
    await world.expiry("a", b)
    await b.register("b", SharedSettings(LONG_TTL_S), 5)
    assert await b.claim("ann", None)
    for ask in (a.renew(), a.claim("bob", None), a.write("session", "ann", b"late"), a.write("session", "ann", None)):
        with pytest.raises(LeaseGone):
            await ask
    await a.release("ann")
    await a.leave()
    await a.revoke()
    assert await b.view() == View({"b": 5}, {"ann": "b"}, frozenset({"ann"}))
    assert await b.read("session", "ann") == b"of a"


async def test_what_is_renewed_stays(world: World) -> None:
    ttl_s = 2 * TTL_S  # on a busy machine, even renewals that follow each other may be late
    a = await world.registered("a", ttl_s)
    await a.claim("ann", None)

    async def renew() -> None:
        while True:
            await a.renew()
            await asyncio.sleep(0.05)

    renewing = asyncio.create_task(renew())
    try:
        # That of b begins later, and so it ends after that of a would have.
        b = await world.registered("b", ttl_s)
        await world.expiry("b", await world.connect())
        assert not renewing.done()
        assert (await b.view()).holders == {"ann": "a"}
    finally:
        renewing.cancel()


async def test_a_store_that_is_empty_gives_no_lease_before_all_earlier_ones_are_over(world: World) -> None:
    """It may have lost its data: cells that have not heard of that rely on their claims for up to TTL_S."""
    a, b, c = await world.registered("a"), await world.connect(), await world.connect()
    await a.claim("ann", None)
    await world.lose_all(b)
    lost_at = time.monotonic()
    found = await asyncio.gather(
        b.register("b", SharedSettings(TTL_S), 5), c.register("c", SharedSettings(TTL_S), 5), return_exceptions=True
    )
    assert [type(error) for error in found] == [StoreNew, StoreNew]
    waits = 0
    async with asyncio.timeout(HANG_LIMIT_S):
        while True:
            try:
                await b.register("b", SharedSettings(TTL_S), 5)
            except StoreNew:
                waits += 1
                await world.pass_time()
            else:
                break
    # For the one in memory it is the number of waits that says how long it was.
    assert max(time.monotonic() - lost_at, waits * TTL_S / 40) >= TTL_S * 0.99
    await c.register("c", SharedSettings(TTL_S), 5)
    assert await b.claim("ann", None)
    assert await b.view() == View({"b": 5, "c": 5}, {"ann": "b"}, frozenset({"ann"}))


async def test_a_cell_that_leaves_keeps_its_claims(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", None)
    await a.leave()
    await a.leave()
    assert await b.view() == View({"b": 5}, {"ann": "a"})
    await a.renew()
    await a.write("session", "ann", b"last")
    assert not await b.claim("ann", None)
    await a.release("ann")
    assert await b.claim("ann", None)


async def test_a_cell_that_has_left_can_come_back(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", None)
    await a.leave()
    await a.rejoin()
    await a.rejoin()
    assert await b.view() == View({"a": 5, "b": 5}, {"ann": "a"})
    await a.leave()
    await a.revoke()
    await a.rejoin()
    assert await b.view() == View({"b": 5})


async def test_a_name_is_free_only_when_the_lease_of_the_cell_that_has_left_is_over(world: World) -> None:
    a, other = await world.registered("a"), await world.connect()
    await a.leave()
    with pytest.raises(CellTaken):
        await other.register("a", SharedSettings(LONG_TTL_S), 5)
    await a.revoke()
    await other.register("a", SharedSettings(LONG_TTL_S), 5)


NEW, OLD = "a1" * 8, "b2" * 8
ALIKE = SharedSettings(LONG_TTL_S, (OLD,), "")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (SharedSettings(TTL_S, (OLD,)), f"its CLAIM_TTL_S is {TTL_S}, that of a is {LONG_TTL_S}, and all must"),
        (SharedSettings(LONG_TTL_S, (NEW,)), f"its SESSION_KEY_FILE is a file of the keys {NEW}, that of a is"),
        (SharedSettings(LONG_TTL_S, (NEW, OLD)), f"of the keys {NEW}, {OLD}, that of a is a file of the keys {OLD},"),
        (SharedSettings(LONG_TTL_S), "its SESSION_KEY_FILE is not set, that of a is"),
        (SharedSettings(LONG_TTL_S, (OLD,), "c3"), "its SESSION_S3_PREFIX with its bucket is a place with the digest"),
        (SharedSettings(LONG_TTL_S, (OLD,), format=99), "its program, by the format of claims, is 99, that of a is 1"),
    ],
)
async def test_a_cell_that_goes_by_other_settings_is_refused_while_there_is_a_lease(
    world: World, other: SharedSettings, said: str
) -> None:
    a, b = await world.connect(), await world.connect()
    await a.register("a", ALIKE, 5)
    with pytest.raises(SettingsDiffer, match=re.escape(said)):
        await b.register("b", other, 5)
    assert (await a.view()).cells == {"a": 5}
    with pytest.raises(LeaseGone):
        await b.claim("ann", None)
    await a.claim("ann", None)
    await a.leave()  # it still relies on its claim
    with pytest.raises(SettingsDiffer, match=re.escape(said)):
        await b.register("b", other, 5)
    await a.revoke()
    await b.register("b", other, 5)
    with pytest.raises(SettingsDiffer):
        await a.register("a", ALIKE, 5)
    assert await b.claim("ann", None)


async def test_the_settings_of_a_cell_that_is_gone_end_with_its_lease(world: World) -> None:
    _, b = await world.registered("a", TTL_S), await world.connect()
    with pytest.raises(SettingsDiffer, match="CLAIM_TTL_S"):
        await b.register("b", SharedSettings(LONG_TTL_S), 5)
    await world.expiry("a", b)
    await b.register("b", SharedSettings(LONG_TTL_S), 5)


async def test_a_key_is_changed_cell_by_cell(world: World) -> None:
    """First every cell learns to read by the new one, then each encrypts for it, then the old one goes."""
    steps = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    cells = [await world.connect() for _ in "ab"]
    for number, store in enumerate(cells):
        await store.register(f"cell-{number}", SharedSettings(LONG_TTL_S, steps[0]), 5)
    for keys in steps[1:]:
        for number, store in enumerate(cells):
            await store.revoke()
            await store.register(f"cell-{number}", SharedSettings(LONG_TTL_S, keys), 5)
    third = await world.connect()
    with pytest.raises(SettingsDiffer, match="SESSION_KEY_FILE"):
        await third.register("third", SharedSettings(LONG_TTL_S, (OLD,)), 5)


async def test_of_many_that_come_at_once_all_that_are_registered_go_by_the_same(world: World) -> None:
    stores = [await world.connect() for _ in range(size(8, 30))]
    kinds = [SharedSettings(LONG_TTL_S + number % 2) for number in range(len(stores))]
    came = await asyncio.gather(
        *(store.register(f"cell-{n}", kinds[n], 5) for n, store in enumerate(stores)), return_exceptions=True
    )
    refused = {kinds[n].ttl_s for n, error in enumerate(came) if isinstance(error, SettingsDiffer)}
    registered = {kinds[n].ttl_s for n, error in enumerate(came) if error is None}
    assert len(refused) == len(registered) == 1
    assert refused != registered
    assert {type(error) for error in came} == {SettingsDiffer, type(None)}
    assert len((await stores[0].view()).cells) == sum(error is None for error in came)


async def test_a_store_that_has_lost_its_data_takes_the_settings_of_who_comes_next(world: World) -> None:
    a, b = await world.connect(), await world.connect()
    await a.register("a", SharedSettings(LONG_TTL_S), 5)
    await world.lose_all(b)

    async def registered() -> bool:
        with contextlib.suppress(StoreNew):
            await b.register("b", SharedSettings(TTL_S), 5)
            return True
        await world.pass_time()
        return False

    await eventually_async(registered)
    with pytest.raises(SettingsDiffer, match=f"its CLAIM_TTL_S is {LONG_TTL_S}, that of b is {TTL_S}"):
        await a.register("a", SharedSettings(LONG_TTL_S), 5)


async def test_a_revoked_lease_takes_all_claims_along(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", "mail")
    await a.revoke()
    await a.revoke()
    assert (await b.view()).cells == {"b": 5}
    assert await b.claim("bob", "mail")
    with pytest.raises(LeaseGone):
        await a.renew()


async def test_what_is_written_outlives_the_claim(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", None)
    assert await b.read("session", "ann") is None
    data = bytes(range(256)) * size(64, 1024)
    await a.write("session", "ann", data)
    await a.write("trouble", "ann", b"")
    await a.revoke()
    assert await b.read("session", "ann") == data
    assert await b.read("trouble", "ann") == b""
    assert await b.read("session", "bob") is None
    await b.claim("ann", None)
    await b.write("session", "ann", None)
    await b.write("session", "ann", None)
    assert await b.read("session", "ann") is None
    assert await b.read("trouble", "ann") == b""


async def test_only_the_holder_writes(world: World) -> None:
    a, b = await world.registered("a"), await world.registered("b")
    await a.claim("ann", None)
    await a.write("session", "ann", b"of a")
    for ask in (b.write("session", "ann", b"of b"), b.write("session", "ann", None), b.write("session", "bob", b"x")):
        with pytest.raises(LeaseGone):
            await ask
    await a.release("ann")
    with pytest.raises(LeaseGone):
        await a.write("session", "ann", b"late")
    assert await b.read("session", "ann") == b"of a"
    assert await b.read("session", "bob") is None


async def test_writes_at_once_are_all_done(world: World) -> None:
    a = await world.registered("a")
    await a.claim("ann", None)
    await asyncio.gather(*(a.write(f"kind-{number}", "ann", b"%d" % number) for number in range(4)))
    assert [await a.read(f"kind-{number}", "ann") for number in range(4)] == [b"0", b"1", b"2", b"3"]


# Lone surrogates stand for what is no UTF-8 in the name of a file (PEP 383).
NAMES = st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=5, unique=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=size(15, 100))
@given(names=NAMES, fingerprint=st.text(st.characters(), max_size=20))
async def test_names_may_hold_any_character(new_world: NewWorld, names: list[str], fingerprint: str) -> None:
    world = new_world()
    a, b = await world.registered("a"), await world.connect()
    for name in names:
        assert await a.claim(name, fingerprint + name)
        await a.write("session", name, name.encode("utf-8", "surrogatepass"))
    assert await b.view() == View({"a": 5}, dict.fromkeys(names, "a"))
    assert (await a.view()).own == set(names)
    for name in names:
        assert await b.read("session", name) == name.encode("utf-8", "surrogatepass")
    await a.release(names[0])
    assert (await a.view()).own == set(names[1:])


@pytest.mark.parametrize("name", ["", "/", "a/b", "../cells/a", "%2F", "ann%", "\udcff", "é", "\udcc3\udca9", "a\0b\n"])
async def test_odd_names_are_names_like_others(world: World, name: str) -> None:
    a, b = await world.registered(f"cell{name}"), await world.registered("b")
    assert await a.claim(name, name)
    assert await b.view() == View({f"cell{name}": 5, "b": 5}, {name: f"cell{name}"})
    assert not await b.claim(name, None)


class TestLostAnswers:
    """What was asked was done, and the cell does not know it."""

    @staticmethod
    @contextlib.contextmanager
    def lost(world: World, store: ClaimStore) -> Iterator[None]:
        world.lose_answers(store, lost=True)
        with pytest.raises(StoreUnreachable):
            yield
        world.lose_answers(store, lost=False)

    async def test_of_a_claim(self, world: World) -> None:
        a, b = await world.registered("a"), await world.registered("b")
        with self.lost(world, a):
            await a.claim("ann", "mail")
        assert (await a.view()).own == {"ann"}
        assert await a.claim("ann", "mail")
        assert not await b.claim("ann", "mail")
        await a.release("ann")
        assert await b.claim("ann", "mail")

    async def test_of_a_release(self, world: World) -> None:
        a, b = await world.registered("a"), await world.registered("b")
        await a.claim("ann", "mail")
        with self.lost(world, a):
            await a.release("ann")
        await a.release("ann")
        assert await b.claim("ann", "mail")

    async def test_of_a_write(self, world: World) -> None:
        a = await world.registered("a")
        await a.claim("ann", None)
        await a.write("session", "ann", b"first")
        with self.lost(world, a):
            await a.write("session", "ann", b"second")
        await a.write("session", "ann", b"third")
        assert await a.read("session", "ann") == b"third"

    async def test_of_a_registration(self, world: World) -> None:
        a, b = await world.connect(), await world.connect()
        with self.lost(world, a):
            await a.register("a", SharedSettings(TTL_S), 5)
        await world.expiry("a", b)
        await a.register("a", SharedSettings(TTL_S), 5)

    async def test_of_the_first_look_at_an_empty_store(self, world: World) -> None:
        a, b = await world.connect(), await world.connect()
        await world.lose_all(b)
        with self.lost(world, a):
            await a.register("a", SharedSettings(TTL_S), 5)
        for cell, store in (("a", a), ("b", b)):
            with pytest.raises(StoreNew):
                await store.register(cell, SharedSettings(TTL_S), 5)

    async def test_of_a_renewal_and_an_end(self, world: World) -> None:
        a, b = await world.registered("a"), await world.registered("b")
        with self.lost(world, a):
            await a.renew()
        await a.renew()
        with self.lost(world, a):
            await a.revoke()
        await a.revoke()
        assert (await b.view()).cells == {"b": 5}
