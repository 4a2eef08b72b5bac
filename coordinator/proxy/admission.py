"""Which requests are admitted: Host, key, content type, size, and the least a body must hold."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pydantic_core
from starlette.types import Receive

from contract.api_error import ApiError, ErrorCode, bad_request, unavailable
from contract.chat_body import check_amount, longest_s
from contract.dialects.chat import CHAT
from contract.dialects.dialect import Dialect
from contract.keys import KeyStore, Role, lacks_role, presented_key
from coordinator.proxy.headers import CLOSE, Headers, find

_START_RETRY_S = 5.0
_BUFFER_RETRY_S = 5.0
_LARGE_BYTES = 256 * 1024  # parsed in some 5 ms
_CHALLENGE = {"www-authenticate": "Bearer"}  # RFC 9110, section 11.6.1: every 401 has one


@dataclass
class Access:
    """Which keys count now; None as long as they are not known, and then nobody is admitted.

    `keys` is replaced as a whole by a reload.
    """

    keys: KeyStore | None = None

    @property
    def enforced(self) -> bool:
        """Whether a request needs a key."""
        return self.keys is None or bool(self.keys)

    def check(self, headers: Headers) -> None:
        """Raise ApiError (401) unless the request carries an accepted key, or no keys are set."""
        self._check(headers, None)

    def check_viewer(self, headers: Headers) -> None:
        """Raise ApiError for who must not see what pages show: 401 as `check`, 403 without the role, or any keys."""
        self._check(headers, Role.VIEW)

    def check_operator(self, headers: Headers) -> None:
        """Raise ApiError for who must not act on the fleet: 401 as `check`, 403 without the role, or any keys."""
        self._check(headers, Role.OPERATE)

    def _check(self, headers: Headers, needed: Role | None) -> None:
        """`needed` is the role for what an open API does not give to everybody."""
        if self.keys is None:
            raise unavailable(
                ErrorCode.STARTING, "The server is starting; try again later.", retry_after_s=_START_RETRY_S
            )
        if not self.keys:
            if needed is not None:
                raise lacks_role(self.keys, needed)
            return
        key = presented_key(find(headers, b"authorization"), find(headers, b"x-api-key"))
        if key is None:
            message = "No API key: send Authorization: Bearer KEY, or X-API-Key."
            raise ApiError(ErrorCode.MISSING_API_KEY, message, headers=_CHALLENGE)
        role = self.keys.role_of(key)
        if role is None:
            raise ApiError(ErrorCode.INVALID_API_KEY, "This API key is not accepted here.", headers=_CHALLENGE)
        if needed is not None and not role.includes(needed):
            raise lacks_role(self.keys, needed)


@dataclass(frozen=True)
class BodyLimits:
    """How large one body, and all that are held together, may be; how many seconds may pass between two pieces."""

    max_bytes: int
    max_buffered_bytes: int
    idle_s: float


@dataclass(frozen=True)
class ChatBody:
    """A request body that may go to a page, as it came, and what routing needs of it."""

    raw: bytes
    model: str
    stream: bool


@dataclass(frozen=True)
class Hosts:
    """Which values of the Host header are taken, by those who can reach this server.

    A name that somebody else resolves to our address (DNS rebinding) makes their page same-origin with us; an address
    is nobody's to resolve. `names` are taken as well, and "*" is any.
    """

    loopback_only: bool
    names: frozenset[str] = frozenset()

    def check(self, headers: Headers) -> None:
        """Raise ApiError (421) for a Host that is not taken."""
        for name, value in headers:
            if name == b"host" and not self._takes(value):
                what, cure = ("a loopback", "") if self.loopback_only else ("an IP", "; or set API keys")
                message = f"The Host header must be localhost or {what} address, or a name in ALLOWED_HOSTS{cure}."
                raise ApiError(ErrorCode.MISDIRECTED_REQUEST, message)

    def _takes(self, host: bytes) -> bool:
        return "*" in self.names or names_address(host, loopback=self.loopback_only) or _name_of(host) in self.names


def _name_of(host: bytes) -> str:
    """Return the name in a Host header's value, in lower case, without the port."""
    name = host.decode("latin-1").lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


@lru_cache(maxsize=64)
def names_address(host: bytes, *, loopback: bool) -> bool:
    """Return whether a Host header's value is localhost or an IP address, with `loopback` one of loopback."""
    name = _name_of(host)
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback


class BodyReader:
    """Reads bodies of chat requests within the limits. Make it inside a running loop."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._buffered_bytes = 0
        self._one_large = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def read(self, headers: Headers, receive: Receive, dialect: Dialect) -> AsyncIterator[ChatBody | None]:
        """Yield the body of a request for a page, which counts as held until the end; None when the client left before.

        Raises ApiError: 415 for another type than JSON, 413 for too large a body, 408 for one that does not come in
        time, 503 where too much is held already, 400 for what is no request of this dialect at all.
        """
        kind = (find(headers, b"content-type") or "").partition(";")[0].strip().lower()
        # Only this type makes a browser ask before it posts (CORS), and nobody here says yes.
        if kind != "application/json":
            raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
        length = find(headers, b"content-length")
        # int() raises ValueError for thousands of digits.
        if length is not None and (len(length) > 15 or int(length) > self._limits.max_bytes):
            raise self._too_large()
        parts: list[bytes] = []
        try:
            yield await self._parse(parts, dialect) if await self._receive(receive, parts) else None
        finally:
            self._buffered_bytes -= sum(map(len, parts))

    async def _receive(self, receive: Receive, parts: list[bytes]) -> bool:
        """Collect the parts, and return whether the client stayed."""
        limits, now, size = self._limits, asyncio.get_running_loop().time, 0
        end = now() + longest_s(limits.idle_s)
        try:
            async with asyncio.timeout(limits.idle_s) as limit:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return False
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limits.max_bytes:
                        raise self._too_large()
                    self._count(len(part))
                    parts.append(part)
                    if not message.get("more_body"):
                        return True
                    limit.reschedule(min(end, now() + limits.idle_s))
        except TimeoutError:
            raise ApiError(ErrorCode.REQUEST_TIMEOUT, "The body did not arrive in time.", headers=CLOSE) from None

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count as held what a request takes beside its body. Raises ApiError (503) where too much is held already."""
        self._count(size)
        try:
            yield
        finally:
            self._buffered_bytes -= size

    def _count(self, size: int) -> None:
        if self._buffered_bytes + size > self._limits.max_buffered_bytes:
            what = "The server holds as many bytes of requests as it may (MAX_BUFFERED_BYTES)"
            raise unavailable(ErrorCode.BUFFER_FULL, f"{what}; try again.", retry_after_s=_BUFFER_RETRY_S)
        self._buffered_bytes += size

    async def _parse(self, parts: list[bytes], dialect: Dialect) -> ChatBody:
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(raw) < _LARGE_BYTES:
            return parse_chat_body(raw, dialect)
        # A parser in a thread keeps the interpreter's lock all the same: others get their turn between two large ones.
        async with self._one_large:
            await asyncio.sleep(0)
            return parse_chat_body(raw, dialect)

    def _too_large(self) -> ApiError:
        message = f"The body is larger than {self._limits.max_bytes} bytes (MAX_BODY_BYTES)."
        return ApiError(ErrorCode.BODY_TOO_LARGE, message)


def parse_chat_body(raw: bytes, dialect: Dialect = CHAT) -> ChatBody:
    """Check the least that a request of this dialect must hold. Raises ApiError (400)."""
    try:
        # Stricter than json: UTF-8 only, no lone surrogates, bounded depth; so the child can only agree.
        body = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise bad_request("The body is not valid JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise bad_request(f"The body must be a JSON object with model and {dialect.conversation}.")
    name, model = dialect.conversation, body.get("model")
    conversation = body.get(name)
    if not conversation or not isinstance(conversation, (list, str) if dialect.may_be_text else list):
        what = (
            "a text, or a list with at least one entry" if dialect.may_be_text else "a list with at least one message"
        )
        raise bad_request(f"{name} must be {what}.", param=name)
    if isinstance(conversation, list):
        check_amount(conversation, name)
    if not isinstance(model, str) or not model:
        raise bad_request("model must name a model; GET /v1/models lists them.", param="model")
    return ChatBody(raw, model, body.get("stream") is True)
