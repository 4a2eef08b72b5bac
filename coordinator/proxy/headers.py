"""HTTP headers as ASGI and aiohttp hand them over, and which of them pass the proxy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias
from urllib.parse import quote

from contract.child_api import MODEL_HEADER, REQUEST_ID_HEADER, TOKEN_HEADER
from contract.keys import presented_key

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Pairs of name and value; ASGI gives names in lower case."""

CLOSE: Final[Mapping[str, str]] = {"connection": "close"}

# RFC 9110, section 7.6.1: these belong to one connection, not to the message.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OURS: Final = {REQUEST_ID_HEADER.encode(), TOKEN_HEADER.encode(), MODEL_HEADER.encode()}
# The coordinator has checked the caller's key; the child goes by its own token, and has no need of the key.
# Nor does it know of repeats.
_KEYS: Final = {b"authorization", b"x-api-key", b"idempotency-key"}
# A compressed body has been decoded.
_NOT_SENT_ON: Final = _HOP_BY_HOP | _OURS | _KEYS | {b"host", b"content-length", b"content-encoding", b"expect"}
# The length too: a stream may end with one more event than the child sent.
_NOT_SENT_BACK: Final = _HOP_BY_HOP | _OURS | {b"content-length", b"date", b"server"}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # our server refuses a response with one in a header


def encode(headers: Mapping[str, str]) -> Headers:
    """Return headers as ASGI takes them. Names are given in lower case."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def find(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first value of a header, whose name is given in lower case; None if there is none."""
    for known, value in headers:
        if known == name:
            return value.decode("latin-1")
    return None


def presented(headers: Headers) -> str | None:
    """Return the API key that a request carries, None if it has none."""
    return presented_key(find(headers, b"authorization"), find(headers, b"x-api-key"))


def owner_of(headers: Headers) -> bytes:
    """Return the SHA-256 that stands for the API key of a request; the same for all requests without one."""
    return hashlib.sha256((presented(headers) or "").encode("utf-8", "surrogatepass")).digest()


def request_headers(headers: Headers, request_id: str, token: str, model: str | None = None) -> list[tuple[str, str]]:
    """Return what a child gets of the client's headers, with this request's id and the child's own token.

    `model` is the one to use, where the body does not name it as the child does.
    """
    named = _named_by_connection(headers)
    passed = [
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in headers
        if name not in _NOT_SENT_ON and name not in named
    ]
    meant = [(MODEL_HEADER, quote(model, safe=""))] if model is not None else []
    return [*passed, (REQUEST_ID_HEADER, request_id), (TOKEN_HEADER, token), *meant]


def response_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Headers:
    """Return what the client gets of a child's headers, with this request's id."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(lowered)
    passed = [
        (name, value)
        for name, value in lowered
        if name not in _NOT_SENT_BACK and name not in named and not _CONTROL.search(value)
    ]
    passed.append((REQUEST_ID_HEADER.encode(), request_id.encode()))
    return passed


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Return further names that a Connection header makes hop-by-hop; mostly none."""
    for name, value in headers:
        if name == b"connection" and value not in (b"keep-alive", b"close"):
            return frozenset(token.strip().lower() for token in value.split(b","))
    return frozenset()
