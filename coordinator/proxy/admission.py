"""Who gets in, and with what: Host, key, content type, size, and the least a body must hold."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pydantic_core

from contract.keys import KeyStore, presented_key
from coordinator.proxy.wire import CLOSE, Refusal, bad_request, unavailable

if TYPE_CHECKING:
    from starlette.types import Receive

    from coordinator.proxy.wire import Headers


@dataclass
class Access:
    """Which keys count now; None as long as they are not known, and then nobody gets in.

    `keys` is replaced as a whole by a reload.
    """

    keys: KeyStore | None = None

    @property
    def enforced(self) -> bool:
        return self.keys is None or bool(self.keys)

    def check(self, headers: Headers) -> None:
        """Raise Refusal: 401 unless the request carries an accepted key, or no keys are set."""
        if self.keys is None:
            raise unavailable("starting", "The server is starting; try again later.", retry_after_s=5)
        if not self.keys:
            return
        key = presented_key(_text(headers, b"authorization"), _text(headers, b"x-api-key"))
        if key is None:
            raise _unauthorized("missing_api_key", "No API key: send Authorization: Bearer KEY, or X-API-Key.")
        if not self.keys.verify(key):
            raise _unauthorized("invalid_api_key", "This API key is not accepted here.")


@dataclass(frozen=True)
class ChatBody:
    """A request body that may go to a page, as it came, and what routing needs of it."""

    raw: bytes
    model: str
    stream: bool


def check_host(headers: Headers) -> None:
    """Raise Refusal (421) for a Host that is not loopback.

    A name that somebody else resolves to 127.0.0.1 (DNS rebinding) makes their page same-origin with us.
    """
    for name, value in headers:
        if name == b"host" and not names_loopback(value):
            raise Refusal(421, "misdirected_request", "The Host header must name localhost or a loopback address.")


@lru_cache(maxsize=64)
def names_loopback(host: bytes) -> bool:
    """Whether a Host header's value, with or without a port, is localhost or a loopback address."""
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def read_chat_body(headers: Headers, receive: Receive, *, max_bytes: int, idle_s: float) -> ChatBody | None:
    """The body of a chat request; None when the client left before its end.

    Raises Refusal: 415 for another type than JSON, 413 above max_bytes, 408 when nothing comes for
    idle_s seconds, 400 for what is no chat request at all.
    """
    _check_declared(headers, max_bytes)
    raw = await _read(receive, max_bytes, idle_s)
    return None if raw is None else _parse(raw)


def _check_declared(headers: Headers, max_bytes: int) -> None:
    kind = (find(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    # Only this type makes a browser ask before it posts (CORS), and nobody here says yes.
    if kind != b"application/json":
        raise Refusal(415, "unsupported_media_type", "Send the body as Content-Type: application/json.")
    length = find(headers, b"content-length")
    if length is not None and (len(length) > 15 or int(length) > max_bytes):
        raise _too_large(max_bytes)


async def _read(receive: Receive, max_bytes: int, idle_s: float) -> bytes | None:
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
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                limit.reschedule(asyncio.get_running_loop().time() + idle_s)
    except TimeoutError:
        raise Refusal(408, "request_timeout", "The body did not arrive in time.", headers=(CLOSE,)) from None


def _parse(raw: bytes) -> ChatBody:
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


def find(headers: Headers, wanted: bytes) -> bytes | None:
    """The first value of a header; names are in lower case."""
    for name, value in headers:
        if name == wanted:
            return value
    return None


def _text(headers: Headers, wanted: bytes) -> str | None:
    value = find(headers, wanted)
    return None if value is None else value.decode("latin-1")


def _unauthorized(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, headers=((b"www-authenticate", b"Bearer"),))


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, "body_too_large", f"The body is larger than {max_bytes} bytes (MAX_BODY_BYTES).")
