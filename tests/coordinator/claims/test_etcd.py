"""What only etcd can do to a cell: members that end or stand still, answers that are lost or late, and refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import StoreNew, StoreRefused, StoreUnreachable, View
from tests.coordinator.claims.etcd_cells import CANARY, store
from tests.coordinator.claims.link import Link, link
from tests.coordinator.claims.worlds import LONG_TTL_S, TTL_S, EtcdWorld, make_known
from tests.support.etcd import Etcd, etcd_server
from tests.support.ports import NOWHERE
from tests.support.waiting import HANG_LIMIT_S, eventually_async

T = TypeVar("T")


async def until_it_works(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the members look for a leader."""
    async with asyncio.timeout(HANG_LIMIT_S):
        while True:
            with contextlib.suppress(StoreUnreachable):
                return await ask()
            await asyncio.sleep(0.05)


class TestMembers:
    async def test_one_of_three_may_end(self, tmp_path: Path) -> None:
        with etcd_server(tmp_path, members=3) as cluster:
            async with store(cluster.urls) as cell:
                await until_it_works(lambda: make_known(cell))
                await until_it_works(lambda: cell.register("a", SharedSettings(LONG_TTL_S), 5))
                await until_it_works(lambda: cell.claim("ann", None))
                for member in cluster.members:
                    member.kill()
                    await until_it_works(cell.renew)
                    await until_it_works(lambda: cell.write("session", "ann", b"x"))
                    member.start()
                    member.wait_until_ready()
                assert (await until_it_works(cell.view)).own == {"ann"}

    async def test_without_a_majority_nothing_is_renewed(self, tmp_path: Path) -> None:
        """A leader alone still renews leases for a while, of which a later leader knows nothing."""
        with etcd_server(tmp_path, members=3) as cluster:
            async with store(cluster.urls, timeout_s=3) as cell:
                await until_it_works(lambda: make_known(cell))
                await until_it_works(lambda: cell.register("a", SharedSettings(LONG_TTL_S), 5))
                leader, *others = sorted(cluster.members, key=lambda member: not member.leads())
                async with store([leader.url], timeout_s=1) as alone:
                    alone._registered = cell._registered
                    await until_it_works(alone.renew)
                    for member in others:
                        member.kill()
                    # The first of these come before it knows that it is alone.
                    for _ in range(3):
                        with pytest.raises(StoreUnreachable, match=leader.address):
                            await alone.renew()
                for ask in (cell.renew(), cell.view(), cell.claim("ann", None), cell.read("session", "ann")):
                    with pytest.raises(StoreUnreachable, match="CLAIMS_URL"):
                        await ask
                leader.kill()
                with pytest.raises(StoreUnreachable, match="does not take connections"):
                    await cell.renew()
                for member in cluster.members:
                    member.start()
                await until_it_works(cell.renew)
                assert (await until_it_works(cell.view)).cells == {"a": 5}

    async def test_one_that_stands_still_costs_its_part_of_the_time(self, etcd: Etcd, tmp_path: Path) -> None:
        with etcd_server(tmp_path) as silent:
            async with store([*silent.urls, *etcd.urls], timeout_s=4) as cell, asyncio.timeout(HANG_LIMIT_S):
                with silent.members[0].stopped():
                    await make_known(cell)
                    await cell.register("still", SharedSettings(LONG_TTL_S), 5)
                    # It is not asked again first: all these together would take longer than one may.
                    for _ in range(8):
                        await cell.renew()
                await cell.revoke()
            async with store(silent.urls, timeout_s=0.5) as cell, asyncio.timeout(HANG_LIMIT_S):
                with (
                    silent.members[0].stopped(),
                    pytest.raises(StoreUnreachable, match=r"does not answer within 0\.(4\d*|5) s"),
                ):
                    await cell.view()

    async def test_another_cluster_is_none_to_go_on_with(self, etcd: Etcd, tmp_path: Path) -> None:
        """Two etcds that know nothing of each other: what the second grants, the first may grant to another cell."""
        with etcd_server(tmp_path) as first:
            async with store([*first.urls, *etcd.urls]) as cell:
                await make_known(cell)
                await cell.register("alone", SharedSettings(LONG_TTL_S), 5)
                first.members[0].kill()
                for ask in (
                    cell.renew(),
                    cell.view(),
                    cell.register("alone", SharedSettings(LONG_TTL_S), 5),
                    cell.read("session", "ann"),
                ):
                    with pytest.raises(StoreUnreachable, match="is not of the cluster that answered before"):
                        await ask

    async def test_older_data_is_none_to_go_on_with(self, tmp_path: Path) -> None:
        """Two that were set up from the same example have the same cluster id, as has one that has lost its data."""
        with etcd_server(tmp_path) as running:
            async with store(running.urls) as cell:
                await make_known(cell)
                await cell.register("a", SharedSettings(LONG_TTL_S), 5)
                await cell.claim("ann", None)
                running.members[0].kill()
                running.members[0].lose_data()
                running.members[0].start()
                running.members[0].wait_until_ready()
                with pytest.raises(StoreRefused, match="is not of the cluster that answered before"):
                    await cell.view()
                async with store([*running.urls, *running.urls]) as one_of_several:
                    one_of_several._gateway._revision = 100
                    with pytest.raises(StoreRefused, match="is not of the cluster that answered before"):
                        await one_of_several.register("b", SharedSettings(TTL_S), 5)
                # Where there is but one, what it held is lost; after the time of a lease nobody relies on it.
                with pytest.raises(StoreNew):
                    await cell.register("a", SharedSettings(TTL_S), 5)

                async def registered() -> bool:
                    with contextlib.suppress(StoreNew):
                        await cell.register("a", SharedSettings(TTL_S), 5)
                        return True
                    return False

                await eventually_async(registered)
                assert await cell.view() == View({"a": 5})
                assert await cell.claim("ann", None)

    async def test_nobody_there_is_told_with_every_address(self) -> None:
        async with store([NOWHERE, f"http://ann:{CANARY}@localhost:9/path", "http://nowhere.invalid:2379"]) as cell:
            with pytest.raises(StoreUnreachable) as away:
                await cell.register("a", SharedSettings(LONG_TTL_S), 5)
        said = str(away.value)
        assert CANARY not in said
        for part in ("127.0.0.1:9 ", "localhost:9 ", "nowhere.invalid:2379 ", "CLAIMS_URL"):
            assert part in said

    async def test_a_proxy_of_the_environment_is_not_used(self, etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, NOWHERE)
        async with store(etcd.urls) as cell:
            await cell.view()

    async def test_a_connection_that_was_closed_costs_nothing(self, etcd: Etcd) -> None:
        async with link(etcd.members[0].address) as way, store([way.url]) as cell:
            await cell.view()
            for _ in range(3):
                way.close_all()
                await cell.view()


@dataclass
class Late:
    """A cell that asks one member by a way that may be slow, and then the same directly; another cell."""

    cell: EtcdClaims
    way: Link
    other: EtcdClaims


class TestLostAnswers:
    """Beside those of all stores: a request is sent again, or is to be taken back."""

    @pytest.fixture
    async def far(self, etcd: Etcd) -> AsyncIterator[tuple[EtcdClaims, Link, EtcdClaims]]:
        async with contextlib.AsyncExitStack() as stack:
            way = await stack.enter_async_context(link(etcd.members[0].address))
            world = EtcdWorld(etcd, stack)
            cell = EtcdClaims([way.url], timeout_s=HANG_LIMIT_S, prefix=world.prefix)
            stack.push_async_callback(cell.close)
            yield cell, way, await world.registered("b")

    async def test_what_is_sent_again_is_done_once(self, far: tuple[EtcdClaims, Link, EtcdClaims]) -> None:
        cell, way, other = far

        async def losing_one(ask: Awaitable[T]) -> T:
            way.losses = 1
            done = await ask
            assert way.losses == 0
            return done

        way.loses = b"/v3/kv/txn"
        await losing_one(cell.register("a", SharedSettings(LONG_TTL_S), 5))
        number = await losing_one(cell.claim("ann", "mail"))
        assert number
        assert number == await cell.claim("ann", "mail")
        await losing_one(cell.write("session", "ann", b"x"))
        assert await other.read("session", "ann") == b"x"
        await losing_one(cell.release("ann"))
        assert await other.claim("ann", "mail")
        await losing_one(cell.leave())
        assert "a" not in (await other.view()).cells
        way.loses = b"/v3/lease/"
        await losing_one(cell.renew())
        await losing_one(cell.revoke())

    async def test_a_registration_is_taken_back(self, far: tuple[EtcdClaims, Link, EtcdClaims]) -> None:
        cell, way, other = far
        way.loses, way.losses = b"/v3/kv/txn", 2
        with pytest.raises(StoreUnreachable):
            await cell.register("a", SharedSettings(LONG_TTL_S), 5)
        assert (await other.view()).cells == {"b": 5}
        await cell.register("a", SharedSettings(LONG_TTL_S), 5)


class TestLateRequests:
    """A member stands still with a request, the next one is asked, and then the request is done after all."""

    @pytest.fixture
    async def late(self, etcd: Etcd) -> AsyncIterator[Late]:
        async with contextlib.AsyncExitStack() as stack:
            way = await stack.enter_async_context(link(etcd.members[0].address))
            world = EtcdWorld(etcd, stack)
            cell = EtcdClaims([way.url, *etcd.urls], timeout_s=3, prefix=world.prefix)
            stack.push_async_callback(cell.close)
            other = await world.registered("b")
            await cell.register("a", SharedSettings(LONG_TTL_S), 5)
            yield Late(cell, way, other)

    async def test_a_release_takes_no_newer_claim(self, late: Late) -> None:
        assert await late.cell.claim("ann", "mail")
        late.way.holds = b"/v3/kv/txn"
        await late.cell.release("ann")
        assert late.way.held == 1
        assert await late.cell.claim("ann", "mail")
        await late.way.deliver()
        assert (await late.cell.view()).own == {"ann"}
        assert not await late.other.claim("ann", None)
        assert not await late.other.claim("bob", "mail")

    async def test_a_write_does_not_replace_a_newer_one(self, late: Late) -> None:
        await late.cell.claim("ann", None)
        late.way.holds = b"/v3/kv/txn"
        await late.cell.write("session", "ann", b"first")
        assert late.way.held == 1
        await late.cell.write("session", "ann", b"second")
        await late.way.deliver()
        assert await late.cell.read("session", "ann") == b"second"
        await late.cell.write("session", "ann", None)
        assert await late.cell.read("session", "ann") is None

    async def test_a_claim_after_its_release_is_seen(self, late: Late) -> None:
        """It keeps others away, until the cell sees that it is its own and gives it up."""
        late.way.holds = b"/v3/kv/txn"
        await late.cell.claim("ann", None)
        await late.cell.release("ann")
        assert late.way.held == 1
        await late.way.deliver()
        assert (await late.cell.view()).own == {"ann"}
        await late.cell.release("ann")
        assert await late.other.claim("ann", None)


async def fill(cell: EtcdClaims) -> None:
    for _ in range(1000):
        await cell.write("session", "ann", b"x" * 3000)


class TestRefusals:
    async def test_without_space_what_is_held_goes_on(self, tmp_path: Path) -> None:
        with etcd_server(tmp_path, flags=["--quota-backend-bytes=200000"]) as full:
            async with store(full.urls) as cell:
                await make_known(cell)
                await cell.register("a", SharedSettings(LONG_TTL_S), 5)
                await cell.claim("ann", "mail")
                with pytest.raises(StoreRefused, match=r"no space left.*etcdctl alarm disarm"):
                    await fill(cell)
                with pytest.raises(StoreRefused, match="no space left"):
                    await cell.claim("bob", None)
                await cell.renew()
                assert await cell.read("session", "ann") is not None
                with contextlib.suppress(StoreRefused):  # 3.4 deletes
                    await cell.release("ann")
                assert (await cell.view()).cells == {"a": 5}
                await cell.revoke()
                assert await cell.view() == View()

    @pytest.mark.parametrize("count", [1_600_000, 3_000_000, 20_000_000])
    async def test_a_value_that_is_too_large_is_refused(self, etcd: Etcd, tmp_path: Path, count: int) -> None:
        async with store(etcd.urls) as cell:
            await make_known(cell)
            await cell.register("large", SharedSettings(LONG_TTL_S), 5)
            await cell.claim("ann", None)
            await cell.write("session", "ann", b"small")
            with pytest.raises(StoreRefused, match="takes"):
                await cell.write("session", "ann", b"x" * count)
            assert await cell.read("session", "ann") == b"small"
            await cell.revoke()

    async def test_users_of_etcd_are_told_to_be_in_the_way(self, tmp_path: Path) -> None:
        with etcd_server(tmp_path) as guarded:
            async with store(guarded.urls) as cell:
                await make_known(cell)
                await cell.register("a", SharedSettings(LONG_TTL_S), 5)
                guarded.members[0].enable_users(password=CANARY)
                for ask in (cell.renew(), cell.view(), cell.claim("ann", None), cell.write("session", "ann", b"x")):
                    with pytest.raises(StoreRefused, match="etcdctl auth disable") as refused:
                        await ask
                    assert CANARY not in str(refused.value)

    def test_kinds_are_none_of_the_stores_own(self) -> None:
        cell = EtcdClaims([NOWHERE], timeout_s=1)
        for kind in ("cells", "claims", "doubles", "store"):
            with pytest.raises(ValueError, match=kind):
                cell._kept(kind, "ann")

    async def test_keys_of_others_under_the_prefix_do_no_harm(self, etcd: Etcd) -> None:
        prefix = EtcdWorld(etcd, contextlib.AsyncExitStack()).prefix
        for key, value in {
            "claims/%FF": b"x",
            "claims/odd": b"\xff",
            "claims/no": b"[]",
            "cells/%C3": b"",
            "chats/x": b"x",
        }.items():
            etcd.members[0].put(f"{prefix}/{key}", value)
        cell = EtcdClaims(etcd.urls, timeout_s=HANG_LIMIT_S, prefix=prefix)
        try:
            assert await cell.view() == View({}, {"odd": "?", "no": "?"})
            await make_known(cell)
            await cell.register("a", SharedSettings(LONG_TTL_S), 5)
            assert not await cell.claim("odd", None)
            await cell.release("odd")
        finally:
            await cell.close()
