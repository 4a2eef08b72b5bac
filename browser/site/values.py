"""What single values of a site file may be: addresses, patterns of addresses, keys. Each check raises ValueError."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

_WEB = ("http://", "https://")
_SOCKET = ("ws://", "wss://")
_USUAL_PORTS = {"http://": ":80", "https://": ":443", "ws://": ":80", "wss://": ":443"}
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.IGNORECASE)
# A browser encodes these wherever they stand in an address: https://url.spec.whatwg.org/#percent-encoded-bytes
_NEVER_IN_ADDRESS = re.compile(r'[^!-~]|["<>]')
_NEVER_IN_PATH = re.compile(r"[{}|\\^`]")

T = TypeVar("T", bound=Hashable)


def web_url(value: str) -> str:
    """Return an address that a browser can open, written as the browser writes it."""
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("must be an address without spaces and line breaks")
    parts = _split(value)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("must be an http:// or https:// address with a host")
    if parts.username is not None:
        raise ValueError("must hold no user name or password: messages and logs name the address")
    if not host.isascii():
        raise ValueError(f"must have its host as browsers send it{_punycode(host)}")
    if not _HOST.fullmatch(host):
        raise ValueError("must have a host of letters, digits, dots and hyphens")
    return value


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("must be an address; what stands in brackets is no IPv6 address") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must be an address whose port is a number from 1 to 65535")
    return parts


def _punycode(host: str) -> str:
    try:
        return f": {host.encode('idna').decode()}"
    except UnicodeError:
        return ""


def relative_url(value: str) -> str:
    """Return an address that may be relative to the site's, and is none of another scheme."""
    if value != value.strip() or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("must be an address without line breaks, and without white space around it")
    if "*" in value:
        raise ValueError("must be one address, such as /api/me: * is for patterns")
    if urlsplit(value.partition("?")[0]).scheme:
        web_url(value.replace(" ", "%20"))
    return value


def regular_expression(value: str) -> str:
    """Return a regular expression of Python's that can be compiled, and that does not hold everywhere."""
    try:
        matches_nothing = re.compile(value).match("")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression of Python's: {error}") from None
    if matches_nothing:
        raise ValueError("must be a regular expression that some text does not match: this one matches the empty text")
    return value


def address_pattern(value: str) -> str:
    """Return a pattern that some address of a page or a request can match."""
    return _pattern(value, _WEB)


def traffic_pattern(value: str) -> str:
    """Return a pattern that some address of a request or a WebSocket can match."""
    return _pattern(value, _WEB + _SOCKET)


def may_begin(pattern: str, schemes: Sequence[str]) -> bool:
    """Return whether an address of one of these schemes (`https://`) can match the pattern."""
    head, star, _ = pattern.partition("*")
    return any(head.startswith(scheme) or (bool(star) and scheme.startswith(head)) for scheme in schemes)


def is_of_kind(pattern: str, *, websocket: bool) -> bool:
    """Return whether the pattern can match an address of a WebSocket, or of a request."""
    return may_begin(pattern, _SOCKET if websocket else _WEB)


def _pattern(value: str, schemes: Sequence[str]) -> str:
    if not may_begin(value, schemes):
        raise ValueError(f"matches no address: a full one begins with {' or '.join(schemes)}; begin the pattern with *")
    if never := _NEVER_IN_ADDRESS.search(value):
        raise ValueError(f"matches no address: browsers encode {_named(never[0])} in it, as in %20 and xn--")
    if never := _NEVER_IN_PATH.search(value.partition("?")[0]):
        raise ValueError(f"matches no address: its path holds no {never[0]}; only * stands for something else")
    _check_host(value, next((scheme for scheme in schemes if value.startswith(scheme)), ""))
    return value


def _check_host(value: str, scheme: str) -> None:
    """Refuse a host that no browser writes so. Raises ValueError."""
    host, end, _ = re.match(r"([^/?#*]*)(.?)(.*)", value[len(scheme) :], re.DOTALL).groups()  # type: ignore[union-attr]
    if not scheme:
        return
    if host != host.lower():
        raise ValueError("matches no address: browsers write the host in lower case")
    if not end:
        raise ValueError("matches no address: a / follows the host; add / or *")
    if end != "*" and host.endswith(_USUAL_PORTS[scheme]):
        raise ValueError(f"matches no address: browsers leave out the port {_USUAL_PORTS[scheme]} of {scheme}")


def _named(character: str) -> str:
    return {" ": "a space", "\n": "a line break", "\t": "a tab"}.get(character, repr(character))


# Playwright's keys, but for those that it does not know in Firefox, such as CapsLock:
# https://playwright.dev/python/docs/api/class-keyboard#keyboard-press
_LARGE_KEYS = ("Escape", "Tab", "Shift", "Control", "Meta", "Alt", "ControlOrMeta", "Space", "Enter", "Backspace")
_SIDED_KEYS = tuple(
    f"{key}{side}" for key in ("Shift", "Control", "Meta", "Alt", "Bracket") for side in ("Left", "Right")
)
_SIGN_KEYS = ("Backquote", "Minus", "Equal", "Backslash", "Semicolon", "Quote", "Comma", "Period", "Slash")
_MOVING_KEYS = ("Home", "End", "PageUp", "PageDown", "ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown")
_OTHER_KEYS = ("Insert", "Delete", "Pause")
KEYS = {
    *(*_LARGE_KEYS, *_SIDED_KEYS, *_SIGN_KEYS, *_OTHER_KEYS, *_MOVING_KEYS),
    *(f"Numpad{key}" for key in ("Divide", "Multiply", "Subtract", "Add", "Decimal", "Enter")),
    *(f"{kind}{digit}" for kind in ("Digit", "Numpad") for digit in string.digits),
    *(f"F{number}" for number in range(1, 13)),
    *(f"Key{letter}" for letter in string.ascii_uppercase),
    *(chr(code) for code in range(0x20, 0x7F)),
}
"""The keys that a step may press."""


def key_to_press(value: str) -> str:
    """Return a key, with those that are held meanwhile before it: `Control+Enter`, named as in Playwright."""
    keys = re.findall(r"(.[^+]*)(?:\+|$)", value, re.DOTALL)
    if "+".join(keys) != value:
        raise ValueError("must end with a key: nothing stands after the last +")
    if unknown := next((key for key in keys if key not in KEYS), None):
        raise ValueError(f"must be a key, such as Enter, Escape or Control+k: there is no key {unknown!r}")
    return value


def distinct(what: str) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    """Return the check of a list in which nothing stands twice; `what` is what it lists."""

    def check(values: tuple[T, ...]) -> tuple[T, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"each {what} may stand there once")
        return values

    return check
