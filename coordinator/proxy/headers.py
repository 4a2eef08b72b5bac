"""HTTP headers as ASGI and aiohttp hand them over. Most of a child's pass the proxy, and none of a client's."""

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

HOP_HEADER: Final = b"x-tabfleet-hop"
"""Any value: whoever sends the request tries another cell after a refusal, so that it is not to wait in this one.

One rule without a count of tries: HAProxy sends all tries of a request with the same headers. The refusal is 503, as
HAProxy 2.6 sends nothing again after 429.
"""

BUSY: Final[Mapping[str, str]] = {"x-tabfleet-busy": "true"}
"""Tells that refusal from others with 503: of this cell's pages some are ready, and a request could wait for one."""

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
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_OURS: Final = {_REQUEST_ID, TOKEN_HEADER.encode(), MODEL_HEADER.encode()}
# The length too: a stream may end with one more event than the child sent.
_NOT_SENT_BACK: Final = _HOP_BY_HOP | _OURS | {b"content-length", b"date", b"server"}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # our server refuses a response with one in a header


def encode(headers: Mapping[str, str]) -> Headers:
    """Return headers as ASGI takes them. Names are given in lower case."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class HeaderMap:
    """The headers of one request or response by their names, which are given in lower case.

    A dictionary, because a request's headers are looked at some ten times.
    """

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Headers) -> None:
        self._pairs = pairs
        self._first = dict(reversed(pairs))

    def get(self, name: bytes) -> str | None:
        """Return the first value of a header; None if there is none."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")

    def all(self, name: bytes) -> list[bytes]:
        """Return all values of a header in their order."""
        return [value for known, value in self._pairs if known == name] if name in self._first else []

    @property
    def presented_key(self) -> str | None:
        """The API key that a request carries, None if it has none."""
        return presented_key(self.get(b"authorization"), self.get(b"x-api-key"))

    @property
    def owner(self) -> bytes:
        """The SHA-256 that stands for a request's API key; the same for all requests without one."""
        return hashlib.sha256((self.presented_key or "").encode("utf-8", "surrogatepass")).digest()


def child_headers(request_id: str, token: str, model: str | None = None) -> list[tuple[str, str]]:
    """Return the headers of a request to a child, with the child's own token.

    None of them is the client's: a key, a cookie or a name of a program is nothing that a page's process needs.
    `model` is the one to use, where the body does not name it as the child does.
    """
    meant = [(MODEL_HEADER, quote(model, safe=""))] if model is not None else []
    return [("content-type", "application/json"), (REQUEST_ID_HEADER, request_id), (TOKEN_HEADER, token), *meant]


def response_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Headers:
    """Return what the client gets of a child's headers, with this request's id."""
    lowered = [(name.lower(), value) for name, value in headers]
    # Further names that Connection headers make hop-by-hop; mostly none.
    connection = [value for name, value in lowered if name == b"connection"]
    named = {name.strip().lower() for value in connection for name in value.split(b",")}
    passed = [
        (name, value)
        for name, value in lowered
        if name not in _NOT_SENT_BACK and name not in named and not _CONTROL.search(value)
    ]
    passed.append((_REQUEST_ID, request_id.encode()))
    return passed
