"""etcd's v3 API in JSON: its members tried in turn, and what it refuses in words for the operator.

Routes and encoding: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/, the same in 3.4 to 3.6: bytes are base64,
int64 are strings. Codes of errors: https://grpc.io/docs/guides/status-codes/.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from contract.errors import TabfleetError
from coordinator.claims.etcd_tls import Tls
from coordinator.claims.store import ClaimStoreError, LeaseGone, StoreRefused, StoreUnreachable


class Header(msgspec.Struct):
    """Stands in each answer of etcd: what has none comes from something else."""

    cluster_id: int
    raft_term: int
    revision: int = 0


class Answer(msgspec.Struct):
    """An answer of etcd, without the rest."""

    header: Header


T = TypeVar("T", bound=Answer)

_MOST_BYTES: Final = 64 * 1024 * 1024
_LARGE_BYTES: Final = 1024 * 1024

# A member that has lost its leader says so at once, instead of waiting for another one.
_HEADERS: Final = {"Content-Type": "application/json", "Grpc-Metadata-Hasleader": "true"}

_LEASE_GONE: Final = "requested lease not found"
_NO_USER: Final = (
    "asks for a user, which cells do not have; turn that off (etcdctl auth disable), and have it ask for client"
    " certificates instead (CLAIMS_CERT_FILE)"
)
_REFUSALS: Final = {
    "request is too large": "takes no value as large as this; raise its --max-request-bytes",
    "message larger than max": "takes no value as large as this; raise its --max-request-bytes",
    "database space exceeded": "has no space left (NOSPACE); compact and defragment it, then run etcdctl alarm disarm",
    "permission denied": _NO_USER,
    "user name is empty": _NO_USER,
    "invalid auth token": _NO_USER,
    "authentication failed": _NO_USER,
}
"""What to say of a refusal whose message holds the key."""
_DEADLINE_EXCEEDED: Final = 4
_UNAVAILABLE: Final = 14
_PASSING: Final = (1, _DEADLINE_EXCEEDED, 10, _UNAVAILABLE)
"""Codes by which a member says that it cannot now: cancelled, too late, aborted, without a leader or stopping."""

# https://docs.openssl.org/3.0/man1/openssl-verification-options/ has the names of these.
_OTHER_NAME: Final = (62, 64)
_UNKNOWN_CA: Final = (2, 7, 18, 19, 20, 21)  # 7: it has the name of a known one, and another key
_OUT_OF_DATE: Final = (9, 10)


class _Inner(msgspec.Struct):
    message: str = ""
    code: int | None = None
    grpc_code: int | None = None


class _Envelope(msgspec.Struct):
    """What may stand around an answer: a stream has each in `result`; an error is a text, or in a stream an object."""

    error: str | _Inner | None = None
    message: str = ""
    code: int | None = None
    result: msgspec.Raw = msgspec.Raw()


class _AtMember(TabfleetError):
    """One member did not do it, and another one may; `words` complete the sentence "etcd at host:port ...".

    `refused`: it has answered. `broken`: the connection broke off without an answer.
    """

    def __init__(self, words: str, *, refused: bool = False, broken: bool = False) -> None:
        super().__init__(words)
        self.words, self.refused, self.broken = words, refused, broken


class Gateway:
    """The members of one etcd cluster. Opened by the first request, inside the loop."""

    def __init__(self, urls: Iterable[str], *, timeout_s: float, tls: Tls) -> None:
        """Each call gets `timeout_s` seconds in all, and each member its part of them."""
        self._members = tuple(URL(url.rstrip("/")) for url in urls)
        self._timeout_s = timeout_s
        self._tls = tls
        self._first = 0
        self._cluster: int | None = None
        self._revision = 0
        self._session: aiohttp.ClientSession | None = None

    def call(self, *, of_any_age: bool = False) -> Call:
        """Begin what is to be done within the time limit, by one request or several.

        `of_any_age`: data that is older than what was seen is no reason to refuse the answer.
        """
        return Call(self, asyncio.get_running_loop().time() + self._timeout_s, of_any_age=of_any_age)

    def begin_anew(self) -> None:
        """Go on with an etcd that has lost its data; not where another one of several may have them."""
        if len(self._members) == 1:
            self._revision = 0

    async def close(self) -> None:
        """Close all connections; idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, route: str, body: Mapping[str, Any], answer: type[T], until: float, *, of_any_age: bool) -> T:
        """See `Call.post`; `until` is a time of the loop."""
        data = msgspec.json.encode(body)
        now = asyncio.get_running_loop().time
        failed: dict[str, _AtMember] = {}
        # Leases are answered by what the member itself has, which may be older.
        seen = self._revision if route.startswith("kv/") and not of_any_age else 0
        count = len(self._members)
        for number in [(self._first + step) % count for step in range(count)]:
            member = self._members[number]
            # Twice, for a connection that was closed while nobody used it is to cost nothing.
            for _ in range(2):
                if (left_s := until - now()) <= 0:
                    raise _failure(failed)
                try:
                    found = await self._ask(member, route, data, answer, min(self._timeout_s / count, left_s))
                    self._compare(found.header, seen)
                except _AtMember as error:
                    failed[_name(member)] = error
                    if not error.broken:
                        break
                else:
                    self._first = number
                    return found
        raise _failure(failed)

    def _compare(self, header: Header, seen: int) -> None:
        """Refuse the answer of another etcd than the one of earlier answers: its claims would be worth nothing.

        What is read of keys is no older than what was seen before the request; two that were set up from the same
        example have one cluster id.
        """
        if self._cluster not in (None, header.cluster_id) or header.revision < seen:
            raise _AtMember(
                "is not of the cluster that answered before; have CLAIMS_URL name members of one. If its data was"
                " restored, start the cells again",
                refused=True,
            )
        self._cluster = header.cluster_id
        self._revision = max(self._revision, header.revision)

    async def _ask(self, member: URL, route: str, data: bytes, answer: type[T], limit_s: float) -> T:
        # aiohttp warns of large bytes, because it writes them in one go.
        body = data if len(data) < _LARGE_BYTES else io.BytesIO(data)
        try:
            async with (
                asyncio.timeout(limit_s),
                self._open().post(
                    f"{member}/v3/{route}", data=body, headers=_HEADERS, ssl=self._tls.context(), allow_redirects=False
                ) as response,
            ):
                status, found = response.status, await _read(response)
        except TimeoutError:
            raise _AtMember(f"does not answer within {limit_s:.3g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, self._tls) from None
        return _understand(_name(member), status, found, answer)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No proxy: a cell that reached etcd by a way that other cells do not have would be cut off alone.
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # `_ask` has one
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )
        return self._session


class Call:
    """Requests that have one time limit together."""

    def __init__(self, gateway: Gateway, until: float, *, of_any_age: bool) -> None:
        self._gateway, self._until, self._of_any_age = gateway, until, of_any_age

    async def post(self, route: str, body: Mapping[str, Any], answer: type[T]) -> T:
        """Send a request to the member that last answered, else to the next ones; return the first answer.

        It may be done more than once, and after an error still be on its way. Raises StoreUnreachable, StoreRefused,
        and LeaseGone where etcd does not know the lease of the request.
        """
        return await self._gateway.post(route, body, answer, self._until, of_any_age=self._of_any_age)


def _name(member: URL) -> str:
    """Return host and port, without user and password."""
    return member.host_port_subcomponent or ""


def _failure(failed: Mapping[str, _AtMember]) -> ClaimStoreError:
    words = ", ".join(f"etcd at {name} {error.words}" for name, error in failed.items())
    if failed and all(error.refused for error in failed.values()):
        return StoreRefused(f"{words}.")
    return StoreUnreachable(f"{words or 'etcd does not answer'}; check CLAIMS_URL, the network and etcd.")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for piece in response.content.iter_any():
        found += piece
        if len(found) > _MOST_BYTES:
            raise _junk()
    return bytes(found)


def _understand(member: str, status: int, data: bytes, answer: type[T]) -> T:
    """Return the answer, of a stream the first one. Raises _AtMember, StoreRefused and LeaseGone."""
    first = data.split(b"\n", 1)[0]
    try:
        envelope = msgspec.json.decode(first, type=_Envelope, strict=False)
        inner = envelope.error if isinstance(envelope.error, _Inner) else _Inner()
        if status == 200 and not envelope.error:
            return msgspec.json.decode(bytes(envelope.result) or first, type=answer, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _no_gateway(status) from None
    message = envelope.message or inner.message or (envelope.error if isinstance(envelope.error, str) else "")
    code = next((one for one in (envelope.code, inner.grpc_code, inner.code) if one is not None), None)
    if _LEASE_GONE in message:
        raise LeaseGone(f"etcd at {member} does not know the lease of this cell any more.")
    if code in _PASSING or "too many requests" in message:
        raise _AtMember(f"cannot do it now{_quote(message)}")
    for part, words in _REFUSALS.items():
        if part in message:
            raise StoreRefused(f"etcd at {member} {words}.")
    if code is None:
        raise _no_gateway(status)
    raise StoreRefused(f"etcd at {member} refuses (code {code}){_quote(message)}; see its log.")


def _quote(message: str) -> str:
    """Return etcd's own words where it is plain that they hold nothing of ours."""
    return f" ({message})" if re.fullmatch(r"etcdserver: [a-z ,'-]{1,80}", message) else ""


def _no_gateway(status: int) -> _AtMember:
    if status in (401, 403):
        return _AtMember(f"refuses this cell (HTTP {status}); look at what stands before it", refused=True)
    if status in (429, 502, 503, 504):
        return _AtMember(f"cannot be reached by what stands before it (HTTP {status})")
    return _junk(f" (HTTP {status})")


def _junk(detail: str = "") -> _AtMember:
    return _AtMember(f"does not speak the JSON of etcd's v3 API{detail}; check CLAIMS_URL", refused=True)


def _broken(error: Exception, tls: Tls) -> _AtMember:
    """Map what aiohttp raised, without its text, which may hold an address with a password."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _untrusted(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _AtMember("has no address (DNS)")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error.__cause__ or error
    if isinstance(cause, ssl.SSLError):
        return _no_tls(str(getattr(cause, "reason", None)), tls)
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(cause, ConnectionResetError):
        reason = f" ({os.strerror(cause.errno)})" if isinstance(cause, OSError) and cause.errno else ""
        return _AtMember(f"does not take connections{reason}")
    if isinstance(error, aiohttp.ClientResponseError):
        return _junk()
    # A server that refuses a certificate does so after the handshake of TLS 1.3, and may reset the connection before
    # what it says of that is read.
    words = (
        "breaks the connection off; check CLAIMS_CERT_FILE, and whether CLAIMS_URL is to begin with https:// or http://"
    )
    return _AtMember(words, broken=True)


def _untrusted(error: Exception) -> _AtMember:
    code = getattr(error, "verify_code", None)
    if code in _OTHER_NAME:
        return _AtMember("has a certificate for another name; check CLAIMS_URL", refused=True)
    if code in _OUT_OF_DATE:
        return _AtMember("has a certificate that is out of date; renew it, or set the clock", refused=True)
    if code in _UNKNOWN_CA:
        return _AtMember("has a certificate of an unknown authority; name it in CLAIMS_CA_FILE", refused=True)
    return _AtMember(f"has a certificate that cannot be trusted (OpenSSL's {code}); renew it", refused=True)


def _no_tls(reason: str, tls: Tls) -> _AtMember:
    if "ALERT" not in reason:
        cure = "check whether CLAIMS_URL is to begin with http://"
        return _AtMember(f"does not speak TLS ({reason}); {cure}", refused=True)
    if not tls.has_certificate:
        return _AtMember(f"asks for a client certificate ({reason}); name one in CLAIMS_CERT_FILE", refused=True)
    cure = "it is to be one of a client, in date, by an authority that etcd trusts"
    return _AtMember(f"refuses the certificate in CLAIMS_CERT_FILE ({reason}); {cure}", refused=True)
