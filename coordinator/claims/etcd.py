"""The store of claims in etcd.

Under the prefix stand `cells/CELL`, `claims/LOGIN` and `doubles/SHA256`, which end with the cell's lease, and
`KIND/LOGIN`, which stays. So does `store/known`: where it is missing, etcd is new or has lost its data, and with it
claims that cells still rely on. Whoever finds that puts it there, with a value that it never had before, and beside it
`store/new`, which ends after the time of a lease.

What all cells must have alike stands in each registration (`SharedSettings`), and so for as long as a cell relies on
it: a cell that leaves keeps its registration until its lease is over.

A request whose answer is lost may still be done, and even after one that was sent later: by a member that had stood
still. So whatever is done under a claim demands the revision that the claim has, and changes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from coordinator.claims import etcd_api as etcd
from coordinator.claims.etcd_gateway import Call, Gateway
from coordinator.claims.etcd_tls import Tls
from coordinator.claims.shared import FORMAT, SharedSettings
from coordinator.claims.store import (
    CellTaken,
    ClaimStoreError,
    LeaseGone,
    StoreNew,
    StoreRefused,
    StoreUnreachable,
    View,
    require_alike,
)

_TRIES: Final = 10
_REGISTER_TRIES: Final = 100
"""As many cells may come at once."""
_MOST_BYTES: Final = 8 * 1024 * 1024
"""What no etcd takes: of requests that are far too large it may not even say so."""
_OWN_PARTS: Final = frozenset({"cells", "claims", "doubles", "store"})


class _Holder(msgspec.Struct):
    """The value of a registration and of a claim, as JSON."""

    cell: str = "?"
    """Its name as it stands in keys."""
    format: int = 0
    room: int = 0
    """Of a registration, for how many logins the cell has room."""
    double: str | None = None
    """Of a claim with a fingerprint, the name of its key in `doubles`."""
    shared: SharedSettings | None = None
    """Of a registration, what the cell goes by."""
    leaves: bool = False
    """Of a registration, that the cell shares in no logins any more."""


class _Registered(NamedTuple):
    lease: int
    cell: str
    holder: _Holder


class EtcdClaims:
    """A cell's connection to etcd; a `ClaimStore`. `CLAIMS_URL` is to name members, not etcd's `grpc-proxy`.

    That proxy renews leases by itself and says so before etcd does.
    """

    def __init__(  # noqa: PLR0913 - all but the first by keyword
        self,
        urls: Sequence[str],
        *,
        timeout_s: float,
        prefix: str = "/tabfleet",
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        """`urls` are the members of one cluster, as `http://host:port` or `https://host:port`.

        Every method ends within `timeout_s` seconds, `register` within twice that time; each member gets its part of
        them. Raises SettingsError if the files cannot be used.
        """
        self._gateway = Gateway(urls, timeout_s=timeout_s, tls=Tls(ca_file, cert_file, key_file))
        self._prefix = prefix.rstrip("/")
        self._registered: _Registered | None = None
        self._known: bytes | None = None
        """What `store/known` held at the last registration: data of another value are not those of before."""

    async def register(self, cell: str, shared: SharedSettings, room: int) -> None:
        """See `ClaimStore.register`. Raises StoreRefused too if etcd grants a shorter time than asked."""
        call, ttl_s = self._gateway.call(), shared.ttl_s
        await self._until_old(call, ttl_s)
        lease = await etcd.grant(call, ttl_s)
        try:
            if lease.ttl_s < ttl_s:
                raise StoreRefused(f"etcd grants a lease of {lease.ttl_s} s and not of {ttl_s} s; change CLAIM_TTL_S.")
            holder = _Holder(_quoted(cell), FORMAT, room, shared=shared)
            await self._put_registration(call, cell, holder, lease.number)
        except ClaimStoreError:
            with contextlib.suppress(ClaimStoreError):
                await etcd.revoke(self._gateway.call(), lease.number)
            raise
        self._registered = _Registered(lease.number, cell, holder)

    async def _put_registration(self, call: Call, cell: str, holder: _Holder, lease: int) -> None:
        """Register, in one step with the look at what others go by. Raises CellTaken, SettingsDiffer."""
        cells, key = self._key("cells", ""), self._key("cells", cell)
        for _ in range(_REGISTER_TRIES):
            seen = await etcd.read(call, cells, after=cells)
            present = {found.key: found for found in seen.kvs}
            if key in present:
                if present[key].lease == lease:  # the answer to the same request was lost
                    return
                raise CellTaken(
                    f"a cell named {cell} is registered in etcd; give each coordinator a CELL of its own. If it is what"
                    " is left of this one's last start, it is gone within CLAIM_TTL_S."
                )
            others = {found.cell: found.shared for found in map(_holder, seen.kvs) if found.shared is not None}
            if holder.shared is not None:
                require_alike(holder.shared, others)
            # No look whether the store is new: had it lost its data meanwhile, the lease would be gone, too.
            demands = [etcd.is_absent(key), etcd.none_after(cells, seen.header.revision)]
            if (await etcd.txn(call, demands, [etcd.put(key, msgspec.json.encode(holder), lease)])).succeeded:
                return
        raise StoreUnreachable("cells register in etcd again and again while this one does; it tries again.")

    async def _until_old(self, call: Call, ttl_s: int) -> None:
        """Raise StoreNew while there may be claims that the store does not know of."""
        folder, known, new = (self._key("store", name) for name in ("", "known", "new"))
        seen = await etcd.read(self._gateway.call(of_any_age=True), folder, after=folder)
        found = {one.key: one.value for one in seen.kvs}
        if found.get(known) is None or found[known] != self._known:
            self._gateway.begin_anew()
        self._known = found.get(known)
        if known in found and new not in found:
            return
        if known not in found:
            lease = (await etcd.grant(call, ttl_s)).number
            puts = [etcd.put(known, secrets.token_bytes(16)), etcd.put(new, b"{}", lease)]
            done = await etcd.txn(call, [etcd.is_absent(known)], puts, [etcd.get(new)])
            # Of two that do this at once, the first has it. That may be us, where the answer to the same was lost.
            if not done.succeeded and not any(one.lease == lease for one in done.found):
                await etcd.revoke(call, lease)
        raise StoreNew(
            f"etcd holds nothing of this fleet: it is new, or has lost its data. Logins are claimed after {ttl_s} s,"
            " when no coordinator can rely on an earlier claim any more."
        )

    async def renew(self) -> None:
        """See `ClaimStore.renew`.

        A member that was the leader and does not know yet that it is not may renew a lease, of which the new leader
        learns nothing (https://github.com/etcd-io/etcd/issues/15247). So a renewal counts if a read that a majority
        has confirmed after it is of the same term.
        """
        call, (lease, cell, _) = self._gateway.call(), self._own()
        for _ in range(_TRIES):
            renewed = await etcd.keep_alive(call, lease)
            if renewed.ttl_s <= 0:
                raise LeaseGone("etcd does not know the lease of this cell any more.")
            read = await etcd.read(call, self._key("cells", cell))
            if read.header.raft_term == renewed.header.raft_term:
                return
        raise StoreUnreachable("etcd changes its leader again and again; look at the logs of its members.")

    async def view(self) -> View:
        """See `ClaimStore.view`."""
        cells, claims = self._key("cells", ""), self._key("claims", "")
        # One range holds both, and whatever stands between. It is read where a transaction is not: without space.
        seen = await etcd.read(self._gateway.call(), cells, after=claims)
        own = self._registered.lease if self._registered else None
        rooms: dict[str, int] = {}
        holders: dict[str, str] = {}
        ours: set[str] = set()
        for found in seen.kvs:
            with contextlib.suppress(UnicodeDecodeError):  # what somebody else has put there names nothing of ours
                if found.key.startswith(cells):
                    if not (holder := _holder(found)).leaves:
                        rooms[_name(found.key.removeprefix(cells).decode())] = holder.room
                elif found.key.startswith(claims):
                    login = _name(found.key.removeprefix(claims).decode())
                    holders[login] = _name(_holder(found).cell)
                    if found.lease == own:
                        ours.add(login)
        return View(rooms, holders, frozenset(ours))

    async def claim(self, login: str, fingerprint: str | None) -> int | None:
        """See `ClaimStore.claim`. The number is the revision of etcd in which the claim was made.

        A login that this lease has claimed already is claimed with the same number.
        """
        call, (lease, cell, _) = self._gateway.call(), self._own()
        double = None if fingerprint is None else hashlib.sha256(_bytes(fingerprint)).hexdigest()
        key = self._key("claims", login)
        keys = {key: msgspec.json.encode(_Holder(_quoted(cell), FORMAT, double=double))}
        if double is not None:
            keys[self._key("doubles", double)] = _bytes(login)
        for _ in range(_TRIES):
            done = await etcd.txn(
                call,
                [etcd.is_absent(each) for each in keys],
                [etcd.put(each, value, lease) for each, value in keys.items()],
                [etcd.get(key)],
            )
            if done.succeeded:
                return done.header.revision
            # It is ours where the answer to an earlier request was lost.
            claim = next((found for found in done.found if found.lease == lease), None)
            if claim is None:
                return None
            if _holder(claim).double == double:
                return claim.create_revision
            await self._release(call, login)  # then the fingerprint was another one
        raise _busy(login)

    async def release(self, login: str) -> None:
        """See `ClaimStore.release`."""
        with contextlib.suppress(LeaseGone):
            await self._release(self._gateway.call(), login)

    async def leave(self) -> None:
        """See `ClaimStore.leave`."""
        await self._share_logins(leaves=True)

    async def rejoin(self) -> None:
        """See `ClaimStore.rejoin`."""
        await self._share_logins(leaves=False)

    async def _share_logins(self, *, leaves: bool) -> None:
        if self._registered is not None:
            lease, cell, holder = self._registered
            key, value = self._key("cells", cell), msgspec.json.encode(msgspec.structs.replace(holder, leaves=leaves))
            await etcd.txn(self._gateway.call(), [etcd.has_lease(key, lease)], [etcd.put(key, value, lease)])

    async def revoke(self) -> None:
        """See `ClaimStore.revoke`."""
        if self._registered is not None:
            with contextlib.suppress(LeaseGone):
                await etcd.revoke(self._gateway.call(), self._registered.lease)
        self._registered = None

    async def read(self, kind: str, login: str) -> bytes | None:
        """See `ClaimStore.read`."""
        found = await etcd.find(self._gateway.call(), self._kept(kind, login))
        return None if found is None else found.value

    async def write(self, kind: str, login: str, data: bytes | None) -> None:
        """See `ClaimStore.write`. Raises StoreRefused for data beyond etcd's limit, which is 1.5 MB a request."""
        lease = self._own().lease
        if data is not None and len(data) > _MOST_BYTES:
            raise StoreRefused(f"{len(data)} bytes of {kind} of {login} are more than etcd takes.")
        key = self._kept(kind, login)
        change = etcd.delete(key) if data is None else etcd.put(key, data)

        def changes(claim: etcd.KeyValue) -> list[etcd.Message]:
            # Put anew, the claim has another revision: an earlier write that is still on its way comes to nothing.
            return [change, etcd.put(claim.key, claim.value, lease)]

        if not await self._while_held(self._gateway.call(), login, changes):
            raise LeaseGone(f"this cell does not hold the claim of {login} any more.")

    async def close(self) -> None:
        """See `ClaimStore.close`."""
        await self._gateway.close()

    def _own(self) -> _Registered:
        if self._registered is None:
            raise LeaseGone("this cell has no lease.")
        return self._registered

    async def _release(self, call: Call, login: str) -> None:
        def changes(claim: etcd.KeyValue) -> list[etcd.Message]:
            double = _holder(claim).double
            keys = [claim.key] if double is None else [claim.key, self._key("doubles", double)]
            return [etcd.delete(key) for key in keys]

        await self._while_held(call, login, changes)

    async def _while_held(self, call: Call, login: str, changes: Callable[[etcd.KeyValue], list[etcd.Message]]) -> bool:
        """Make the changes in one step with the look whether our lease has the claim; return whether it has."""
        for _ in range(_TRIES):
            claim = await etcd.find(call, self._key("claims", login))
            if claim is None or self._registered is None or claim.lease != self._registered.lease:
                return False
            if (await etcd.txn(call, [etcd.is_as(claim)], changes(claim))).succeeded:
                return True
        raise _busy(login)

    def _kept(self, kind: str, login: str) -> bytes:
        if kind in _OWN_PARTS:
            raise ValueError(f"{kind} is a part of the store itself")
        return self._key(kind, login)

    def _key(self, part: str, name: str) -> bytes:
        return f"{self._prefix}/{part}/{_quoted(name)}".encode()


def _bytes(text: str) -> bytes:
    """Return bytes from which any text can be had back: also one that stands for what is no UTF-8 (PEP 383)."""
    return text.encode("utf-8", "surrogatepass")


def _quoted(name: str) -> str:
    """Return a name as it stands in a key: percent-encoded, so that each has one form, without a slash."""
    return quote(_bytes(name), safe="")


def _name(quoted: str) -> str:
    """Return the name that a key ends in. Raises UnicodeDecodeError."""
    return unquote_to_bytes(quoted).decode("utf-8", "surrogatepass")


def _holder(found: etcd.KeyValue) -> _Holder:
    """Return whose a key is; of one whose value does not say it, that it is somebody's."""
    try:
        return msgspec.json.decode(found.value, type=_Holder)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Holder()


def _busy(login: str) -> StoreUnreachable:
    return StoreUnreachable(f"the claim of {login} is changed again and again while it is looked at.")
