"""What only etcd can do to a cell: certificates, members that end or stand still, refusals; and other servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.claims.etcd import EtcdClaims, _Registered
from coordinator.claims.store import ClaimStoreError, LeaseGone, StoreNew, StoreRefused, StoreUnreachable, View
from coordinator.errors import SettingsError
from tests.coordinator.claims.link import Link, link
from tests.coordinator.claims.worlds import LONG_TTL_S, TTL_S, EtcdWorld, make_known
from tests.support.authority import Authority
from tests.support.etcd import Etcd, Tls, etcd_server
from tests.support.ports import NOWHERE
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S, eventually_async

T = TypeVar("T")
CANARY = "CANARY-7f3a"


@dataclass(frozen=True)
class Files:
    """What the settings name."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def connect(urls: Sequence[str], files: Files, *, timeout_s: float) -> EtcdClaims:
    return EtcdClaims(urls, timeout_s=timeout_s, ca_file=files.ca, cert_file=files.cert, key_file=files.key)


@contextlib.asynccontextmanager
async def store(
    urls: Sequence[str],
    files: Files | None = None,
    *,
    timeout_s: float = HANG_LIMIT_S,
) -> AsyncIterator[EtcdClaims]:
    made = connect(urls, files or Files(), timeout_s=timeout_s)
    try:
        yield made
    finally:
        await made.close()


async def refusal(urls: Sequence[str], files: Files) -> str:
    """Return what a cell says that is refused at its start."""
    async with store(urls, files) as cell:
        with pytest.raises(StoreRefused) as refused:
            await cell.register("a", LONG_TTL_S, 5)
    return str(refused.value)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Etcd, Files]]:
    """An etcd that asks for client certificates, and the files of a cell that it lets in."""
    folder = tmp_path_factory.mktemp("secure")
    tls = Tls.make(folder)
    with etcd_server(folder, tls=tls) as running:
        yield running, Files(tls.authority.file, tls.cert_file, tls.key_file)


class TestCertificates:
    async def test_a_cell_is_known_by_its_certificate(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        async with store(etcd.urls, files) as cell:
            await make_known(cell)
            await cell.register("a", LONG_TTL_S, 5)
            await cell.renew()
            assert await cell.claim("ann", None)
            await cell.revoke()

    async def test_certificate_and_key_may_be_one_file(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        etcd, files = secure
        assert files.key
        assert files.cert
        both = tmp_path / "both.pem"
        both.write_text(files.key.read_text() + files.cert.read_text())
        async with store(etcd.urls, Files(files.ca, both)) as cell:
            assert await cell.view() == View()

    async def test_without_one_it_is_refused(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        said = await refusal(etcd.urls, Files(files.ca))
        assert "asks for a client certificate" in said
        assert "CLAIMS_CERT_FILE" in said
        assert etcd.members[0].address in said

    async def test_by_another_authority_it_is_refused(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        etcd, files = secure
        said = await refusal(etcd.urls, Files(files.ca, *Authority(tmp_path, "b").sign("cell.example", client=True)))
        assert "refuses the certificate in CLAIMS_CERT_FILE" in said

    @pytest.mark.parametrize("name", ["etcd-ca", "another"])
    async def test_etcd_of_an_unknown_authority_is_not_trusted(
        self, secure: tuple[Etcd, Files], tmp_path: Path, name: str
    ) -> None:
        for ca in (None, Authority(tmp_path, name).file):
            said = await refusal(secure[0].urls, Files(ca))
            assert "unknown authority; name it in CLAIMS_CA_FILE" in said

    async def test_etcd_under_another_name_is_not_trusted(self, secure: tuple[Etcd, Files]) -> None:
        etcd, files = secure
        said = await refusal([url.replace("127.0.0.1", "localhost") for url in etcd.urls], files)
        assert "certificate for another name; check CLAIMS_URL" in said

    async def test_a_certificate_may_be_replaced(self, secure: tuple[Etcd, Files], tmp_path: Path) -> None:
        """That of a long-lived cell is out of date one day; here the first is one that etcd never took."""
        etcd, files = secure
        own = Files(files.ca, *Authority(tmp_path, "another").sign("cell.example", client=True))
        async with store(etcd.urls, own) as cell:
            with pytest.raises(StoreRefused, match="CLAIMS_CERT_FILE"):
                await cell.view()
            replace(own.cert, files.cert)
            with pytest.raises(StoreRefused, match="CLAIMS_CERT_FILE"):  # the new one with the old key: as before
                await cell.view()
            replace(own.key, files.key)
            assert await cell.view() == View()

    @pytest.mark.parametrize("swap", [("http://", "https://"), ("https://", "http://")])
    async def test_the_wrong_scheme_is_told(
        self, secure: tuple[Etcd, Files], etcd: Etcd, swap: tuple[str, str]
    ) -> None:
        urls = [url.replace(*swap, 1) for url in (etcd if swap[0] == "http://" else secure[0]).urls]
        async with store(urls) as cell:
            with pytest.raises((StoreUnreachable, StoreRefused), match="CLAIMS_URL is to begin with"):
                await cell.view()


def replace(file: Path | None, by: Path | None) -> None:
    """Replace a file in one step, as what renews certificates does."""
    assert file
    assert by
    shutil.copy(by, new := file.with_name("new"))
    new.replace(file)


class TestFiles:
    """Those of certificates, before any connection."""

    @pytest.fixture
    def good(self, tmp_path: Path) -> Files:
        tls = Tls.make(tmp_path)
        return Files(tls.authority.file, tls.cert_file, tls.key_file)

    @staticmethod
    def error(files: Files) -> str:
        with pytest.raises(SettingsError) as wrong:
            connect([NOWHERE], files, timeout_s=1)
        said = str(wrong.value)
        assert CANARY not in said
        assert not any(str(file) in said for file in (files.ca, files.cert, files.key))
        return said

    @pytest.mark.parametrize("content", [b"", CANARY.encode(), b"\xff\0" + CANARY.encode()])
    def test_each_is_named_that_holds_something_else(self, good: Files, tmp_path: Path, content: bytes) -> None:
        bad = tmp_path / "bad.pem"
        bad.write_bytes(content)
        assert self.error(Files(ca=bad)).startswith("CLAIMS_CA_FILE: the file holds no certificate")
        assert self.error(Files(cert=bad, key=good.key)).startswith("CLAIMS_CERT_FILE: the file holds no certificate")
        assert self.error(Files(cert=good.cert, key=bad)).startswith("CLAIMS_KEY_FILE: the file holds no private key")

    def test_what_only_looks_like_one_is_named(self, good: Files, tmp_path: Path) -> None:
        certificate, key = tmp_path / "bad.pem", tmp_path / "bad.key"
        for label, file in (("CERTIFICATE", certificate), ("PRIVATE KEY", key)):
            file.write_text(f"-----BEGIN {label}-----\n{CANARY}\n-----END {label}-----\n")
        assert self.error(Files(ca=certificate)).startswith("CLAIMS_CA_FILE")
        assert "CLAIMS_CERT_FILE" in self.error(Files(cert=certificate, key=good.key))
        assert self.error(Files(cert=good.cert, key=key)).startswith("CLAIMS_KEY_FILE")

    def test_names_are_checked_by_tls_of_these_days(self) -> None:
        context = EtcdClaims([NOWHERE], timeout_s=1)._gateway._tls.context()
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED

    def test_each_is_named_that_cannot_be_read(self, good: Files, tmp_path: Path) -> None:
        for bad in (tmp_path / "none.pem", tmp_path):
            for variable, files in {
                "CLAIMS_CA_FILE": Files(ca=bad),
                "CLAIMS_CERT_FILE": Files(cert=bad, key=good.key),
                "CLAIMS_KEY_FILE": Files(cert=good.cert, key=bad),
            }.items():
                assert self.error(files).startswith(f"{variable}: the file cannot be read: ")

    def test_a_key_is_to_be_there_and_to_fit(self, good: Files, tmp_path: Path) -> None:
        assert "name the file of the key in CLAIMS_KEY_FILE" in self.error(Files(cert=good.cert))
        assert "CLAIMS_KEY_FILE needs CLAIMS_CERT_FILE" in self.error(Files(key=good.key))
        _, other = Authority(tmp_path, "other").sign("other.example", client=True)
        assert "the key is not that of the certificate" in self.error(Files(cert=good.cert, key=other))

    def test_a_key_with_a_password_is_refused_without_asking_for_it(self, good: Files, tmp_path: Path) -> None:
        assert good.key
        key = serialization.load_pem_private_key(good.key.read_bytes(), None)
        locked = tmp_path / "locked.key"
        locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(CANARY.encode()),
            )
        )
        assert "has a password" in self.error(Files(cert=good.cert, key=locked))


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
                await until_it_works(lambda: cell.register("a", LONG_TTL_S, 5))
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
                await until_it_works(lambda: cell.register("a", LONG_TTL_S, 5))
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
                    await cell.register("still", LONG_TTL_S, 5)
                    # It is not asked again first: all these together would take longer than one may.
                    for _ in range(8):
                        await cell.renew()
                await cell.revoke()
            async with store(silent.urls, timeout_s=0.5) as cell, asyncio.timeout(HANG_LIMIT_S):
                with (
                    silent.members[0].stopped(),
                    pytest.raises(StoreUnreachable, match=r"does not answer within 0\.5 s"),
                ):
                    await cell.view()

    async def test_another_cluster_is_none_to_go_on_with(self, etcd: Etcd, tmp_path: Path) -> None:
        """Two etcds that know nothing of each other: what the second grants, the first may grant to another cell."""
        with etcd_server(tmp_path) as first:
            async with store([*first.urls, *etcd.urls]) as cell:
                await make_known(cell)
                await cell.register("alone", LONG_TTL_S, 5)
                first.members[0].kill()
                for ask in (
                    cell.renew(),
                    cell.view(),
                    cell.register("alone", LONG_TTL_S, 5),
                    cell.read("session", "ann"),
                ):
                    with pytest.raises(StoreUnreachable, match="is not of the cluster that answered before"):
                        await ask

    async def test_older_data_is_none_to_go_on_with(self, tmp_path: Path) -> None:
        """Two that were set up from the same example have the same cluster id, as has one that has lost its data."""
        with etcd_server(tmp_path) as running:
            async with store(running.urls) as cell:
                await make_known(cell)
                await cell.register("a", LONG_TTL_S, 5)
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
                        await one_of_several.register("b", TTL_S, 5)
                # Where there is but one, what it held is lost; after the time of a lease nobody relies on it.
                with pytest.raises(StoreNew):
                    await cell.register("a", TTL_S, 5)

                async def registered() -> bool:
                    with contextlib.suppress(StoreNew):
                        await cell.register("a", TTL_S, 5)
                        return True
                    return False

                await eventually_async(registered)
                assert await cell.view() == View({"a": 5})
                assert await cell.claim("ann", None)

    async def test_nobody_there_is_told_with_every_address(self) -> None:
        async with store([NOWHERE, f"http://ann:{CANARY}@localhost:9/path", "http://nowhere.invalid:2379"]) as cell:
            with pytest.raises(StoreUnreachable) as away:
                await cell.register("a", LONG_TTL_S, 5)
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
        await losing_one(cell.register("a", LONG_TTL_S, 5))
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
            await cell.register("a", LONG_TTL_S, 5)
        assert (await other.view()).cells == {"b": 5}
        await cell.register("a", LONG_TTL_S, 5)


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
            await cell.register("a", LONG_TTL_S, 5)
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
                await cell.register("a", LONG_TTL_S, 5)
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
            await cell.register("large", LONG_TTL_S, 5)
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
                await cell.register("a", LONG_TTL_S, 5)
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
            await cell.register("a", LONG_TTL_S, 5)
            assert not await cell.claim("odd", None)
            await cell.release("odd")
        finally:
            await cell.close()


class Other:
    """A server that answers every request by the same bytes, and closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            # What is closed with a request half read resets the connection, and the answer with it.
            found = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(found[1]) if found else 0)
            writer.write(self.answer)
            await writer.drain()
        writer.close()


# JSON with etcd's names in it, most of it of the wrong types.
NAMES = [
    "header",
    "cluster_id",
    "raft_term",
    "revision",
    "error",
    "code",
    "message",
    "grpc_code",
    "result",
    "ID",
    "TTL",
    "succeeded",
]
NAMES += ["responses", "response_range", "kvs", "key", "value", "lease", "mod_revision"]
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES |= st.sampled_from(["2", "0", "7", "-1", "L3Rlc3Q=", "99999999999999999999"])
HEADED = {"header": {"cluster_id": "18446744073709551615", "raft_term": "2"}, "ID": "7", "TTL": "60"}
ANSWERS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).map(lambda found: HEADED | found)
    ),
    max_leaves=15,
).map(json.dumps)


ASKS: list[Callable[[EtcdClaims], Awaitable[object]]] = [
    lambda cell: cell.register("a", LONG_TTL_S, 5),
    lambda cell: cell.renew(),
    lambda cell: cell.view(),
    lambda cell: cell.claim("ann", CANARY),
    lambda cell: cell.release("ann"),
    lambda cell: cell.leave(),
    lambda cell: cell.read("session", "ann"),
    lambda cell: cell.write("session", "ann", CANARY.encode()),
]


# Parts of HTTP that other bytes stand in the middle of.
HEADS = [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "]
HEADS += [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
TAILS = [b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n{}"]


class TestOtherServers:
    """Something else is at the address: whatever it says, the cell says whose fault it is."""

    @pytest.fixture
    async def other(self) -> AsyncIterator[Other]:
        async with Other() as running:
            yield running

    @pytest.fixture
    async def cell(self, other: Other) -> AsyncIterator[EtcdClaims]:
        async with store([other.url]) as made:
            yield made

    @pytest.mark.parametrize(
        ("status", "body", "error", "words"),
        [
            (200, b"<html>hello</html>", StoreRefused, "does not speak the JSON of etcd's v3 API"),
            (200, b"", StoreRefused, "does not speak"),
            (200, b"{}", StoreRefused, "does not speak"),
            (200, b"[" * 100_000, StoreRefused, "does not speak"),
            (200, b'{"header":{"raft_term":"2"}}', StoreRefused, "does not speak"),
            (301, b"", StoreRefused, "HTTP 301"),
            (401, b"who are you", StoreRefused, "HTTP 401"),
            (403, b"<html>", StoreRefused, "HTTP 403"),
            (404, b"Not Found", StoreRefused, "HTTP 404"),
            (502, b"<html>bad gateway</html>", StoreUnreachable, "HTTP 502"),
            (503, b'{"error":"etcdserver: no leader","code":14}', StoreUnreachable, "etcdserver: no leader"),
            (503, b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', StoreUnreachable, "no leader"),
            (503, b'{"code":14,"message":"etcdserver: leader changed","details":[]}', StoreUnreachable, "changed"),
            (429, b'{"error":"etcdserver: too many requests","code":8}', StoreUnreachable, "too many"),
            (500, b'{"error":"etcdserver: corrupt cluster","code":15}', StoreRefused, "corrupt cluster"),
            (404, b'{"error":"etcdserver: requested lease not found","code":5}', LeaseGone, "does not know the lease"),
            (403, b'{"error":"etcdserver: permission denied","code":7}', StoreRefused, "etcdctl auth disable"),
        ],
    )
    async def test_answers_have_their_words(
        self, other: Other, status: int, body: bytes, error: type[ClaimStoreError], words: str
    ) -> None:
        other.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
        async with store([other.url]) as cell:
            with pytest.raises(error) as raised:
                await cell.view()
        assert words in str(raised.value)

    @pytest.mark.parametrize(
        "answer",
        [
            *(b"", b"\0" * 100_000, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        ],
    )
    async def test_no_answer_is_none_that_ends_a_cell(self, other: Other, answer: bytes) -> None:
        other.answer = answer
        async with store([other.url]) as cell:
            with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_URL"):
                await cell.view()

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=size(40, 1000))
    @given(data=st.data())
    async def test_any_json_is_an_answer_or_an_error_of_the_store(
        self, other: Other, cell: EtcdClaims, data: st.DataObject
    ) -> None:
        body = data.draw(ANSWERS).encode()
        other.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (
            data.draw(st.sampled_from([200, 200, 400, 503])),
            len(body),
            body,
        )
        cell._registered, cell._gateway._cluster = _Registered(7, "a"), None
        with contextlib.suppress(ClaimStoreError):
            await data.draw(st.sampled_from(ASKS))(cell)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=size(40, 1000))
    @given(head=st.sampled_from(HEADS), middle=st.binary(max_size=20), tail=st.sampled_from(TAILS))
    async def test_any_bytes_are_an_error_of_the_store(
        self, other: Other, cell: EtcdClaims, head: bytes, middle: bytes, tail: bytes
    ) -> None:
        other.answer = head + middle + tail
        with pytest.raises((StoreRefused, StoreUnreachable), match="CLAIMS_URL"):
            await cell.view()

    async def test_nothing_that_was_sent_is_said_again(self, other: Other) -> None:
        """A server that repeats the request in its error, as etcd does with some."""
        for form in (
            b'{"error":"etcdserver: %s","code":3}',
            b'{"error":"%s","code":14}',
            b"%s",
            b'{"error":{"a":"%s"}}',
        ):
            body = form % CANARY.lower().encode()
            other.answer = b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            async with store([other.url.replace("//", f"//ann:{CANARY}@")]) as cell:
                cell._registered = _Registered(7, "a")
                for ask in ASKS:
                    with pytest.raises(ClaimStoreError) as raised:
                        await ask(cell)
                    assert CANARY.lower() not in str(raised.value).lower()
                    assert raised.value.__cause__ is None
                    assert raised.value.__context__ is None or raised.value.__suppress_context__
