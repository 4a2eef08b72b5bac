"""Which requests are admitted: Host, key, content type, size, and the least a body must hold."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from functools import lru_cache

import pydantic_core
from starlette.types import Receive

from contract.api_error import ApiError, ErrorCode, bad_request, unavailable
from contract.keys import KeyStore, presented_key
from coordinator.proxy.headers import CLOSE, Headers, find

_START_RETRY_S = 5.0
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
        if self.keys is None:
            raise unavailable(
                ErrorCode.STARTING, "The server is starting; try again later.", retry_after_s=_START_RETRY_S
            )
        if not self.keys:
            return
        key = presented_key(find(headers, b"authorization"), find(headers, b"x-api-key"))
        if key is None:
            message = "No API key: send Authorization: Bearer KEY, or X-API-Key."
            raise ApiError(ErrorCode.MISSING_API_KEY, message, headers=_CHALLENGE)
        if not self.keys.verify(key):
            raise ApiError(ErrorCode.INVALID_API_KEY, "This API key is not accepted here.", headers=_CHALLENGE)

    def check_operator(self, headers: Headers) -> None:
        """Raise ApiError for who must not act on the fleet: 403 where no keys are set, else as `check` does."""
        if not self.enforced:
            raise ApiError(ErrorCode.ADMIN_OFF, "Admin routes are off: no API keys are set.")
        self.check(headers)


@dataclass(frozen=True)
class ChatBody:
    """A request body that may go to a page, as it came, and what routing needs of it."""

    raw: bytes
    model: str
    stream: bool


def check_host(headers: Headers) -> None:
    """Raise ApiError (421) for a Host that is not loopback.

    A name that somebody else resolves to 127.0.0.1 (DNS rebinding) makes their page same-origin with us.
    """
    for name, value in headers:
        if name == b"host" and not names_loopback(value):
            message = "The Host header must name localhost or a loopback address."
            raise ApiError(ErrorCode.MISDIRECTED_REQUEST, message)


@lru_cache(maxsize=64)
def names_loopback(host: bytes) -> bool:
    """Return whether a Host header's value, with or without a port, is localhost or a loopback address."""
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def read_chat_body(headers: Headers, receive: Receive, *, max_bytes: int, idle_s: float) -> ChatBody | None:
    """Return the body of a chat request; None when the client left before its end.

    Raises ApiError: 415 for another type than JSON, 413 above max_bytes, 408 when nothing comes for
    idle_s seconds, 400 for what is no chat request at all.
    """
    kind = (find(headers, b"content-type") or "").partition(";")[0].strip().lower()
    # Only this type makes a browser ask before it posts (CORS), and nobody here says yes.
    if kind != "application/json":
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json.")
    length = find(headers, b"content-length")
    # int() raises ValueError for thousands of digits.
    if length is not None and (len(length) > 15 or int(length) > max_bytes):
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(idle_s) as limit:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if not message.get("more_body"):
                    break
                limit.reschedule(asyncio.get_running_loop().time() + idle_s)
    except TimeoutError:
        raise ApiError(ErrorCode.REQUEST_TIMEOUT, "The body did not arrive in time.", headers=CLOSE) from None
    return parse_chat_body(parts[0] if len(parts) == 1 else b"".join(parts))


def parse_chat_body(raw: bytes) -> ChatBody:
    """Check the least that a chat request must hold. Raises ApiError (400)."""
    try:
        # Stricter than json: UTF-8 only, no lone surrogates, bounded depth; so the child can only agree.
        body = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise bad_request("The body is not valid JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object with model and messages.")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a list with at least one message.", param="messages")
    if not isinstance(model, str) or not model:
        raise bad_request("model must name a model; GET /v1/models lists them.", param="model")
    return ChatBody(raw, model, body.get("stream") is True)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {max_bytes} bytes (MAX_BODY_BYTES).")
