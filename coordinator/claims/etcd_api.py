"""Requests to etcd's key-value store and its leases, as they stand in JSON.

Messages: https://etcd.io/docs/v3.4/dev-guide/api_reference_v3/. What is left out has its default: a comparison asks for
what is equal, and a number is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from coordinator.claims.etcd_gateway import Answer, Call

Message = Mapping[str, Any]


class KeyValue(msgspec.Struct):
    """A key as it stands; `lease` is 0 where it has none."""

    key: bytes
    value: bytes = b""
    lease: int = 0
    create_revision: int = 0
    mod_revision: int = 0


class Range(Answer):
    """What was found."""

    kvs: list[KeyValue] = msgspec.field(default_factory=list)


class Lease(Answer):
    """A lease that was granted or renewed; of one that is gone, `ttl_s` is 0."""

    number: int = msgspec.field(default=0, name="ID")
    ttl_s: int = msgspec.field(default=0, name="TTL")


class _Inside(msgspec.Struct):
    kvs: list[KeyValue] = msgspec.field(default_factory=list)


class _Response(msgspec.Struct):
    response_range: _Inside = msgspec.field(default_factory=_Inside)


class Txn(Answer):
    """What came of a transaction."""

    succeeded: bool = False
    responses: list[_Response] = msgspec.field(default_factory=list)

    @property
    def found(self) -> list[KeyValue]:
        """All that its ranges have found, in their order."""
        return [found for response in self.responses for found in response.response_range.kvs]


async def grant(call: Call, ttl_s: int) -> Lease:
    """Take a new lease."""
    return await call.post("lease/grant", {"TTL": str(ttl_s)}, Lease)


async def keep_alive(call: Call, lease: int) -> Lease:
    """Have a lease live for its whole time again."""
    return await call.post("lease/keepalive", {"ID": str(lease)}, Lease)


async def revoke(call: Call, lease: int) -> None:
    """End a lease and delete its keys. Raises LeaseGone."""
    await call.post("lease/revoke", {"ID": str(lease)}, Answer)


async def read(call: Call, key: bytes, *, after: bytes | None = None) -> Range:
    """Return what a key holds once a majority has confirmed that it is no older than the call (linearizable).

    With `after`, a prefix that ends in a slash: all keys from this one up to those that begin with the prefix.
    """
    end = {} if after is None else {"range_end": after[:-1] + b"0"}
    return await call.post("kv/range", {"key": key, **end}, Range)


async def find(call: Call, key: bytes) -> KeyValue | None:
    """Return a key, None if it is not there."""
    found = await read(call, key)
    return found.kvs[0] if found.kvs else None


async def txn(
    call: Call, compare: Sequence[Message], success: Sequence[Message], failure: Sequence[Message] = ()
) -> Txn:
    """Do `success` if all comparisons hold, else `failure`, in one step. Raises LeaseGone if a lease is not there."""
    return await call.post("kv/txn", {"compare": compare, "success": success, "failure": failure}, Txn)


def get(key: bytes) -> Message:
    """Read a key."""
    return {"request_range": {"key": key}}


def put(key: bytes, value: bytes, lease: int = 0) -> Message:
    """Write a key; with a lease, it ends with the lease."""
    return {"request_put": {"key": key, "value": value, "lease": str(lease)}}


def delete(key: bytes) -> Message:
    """Delete a key, or nothing if it is not there."""
    return {"request_delete_range": {"key": key}}


def is_absent(key: bytes) -> Message:
    """Demand that a key is not there."""
    return {"key": key, "target": "CREATE", "create_revision": "0"}


def has_lease(key: bytes, lease: int) -> Message:
    """Demand that a key is there with this lease."""
    return {"key": key, "target": "LEASE", "lease": str(lease)}


def none_after(folder: bytes, revision: int) -> Message:
    """Demand that nothing in a folder, a prefix that ends in a slash, was put after this revision."""
    return {
        "key": folder,
        "range_end": folder[:-1] + b"0",
        "target": "MOD",
        "result": "LESS",
        "mod_revision": str(revision + 1),
    }


def is_as(found: KeyValue) -> Message:
    """Demand that a key was not changed since it was found."""
    return {"key": found.key, "target": "MOD", "mod_revision": str(found.mod_revision)}
