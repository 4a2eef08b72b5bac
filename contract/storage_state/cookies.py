"""What a cookie of a storage_state must be, so that browsers keep it.

The rules are those of Playwright 1.62 (`SetNetworkCookie`) and of Chromium 156, which refuses the whole
profile for one cookie that breaks them; they follow RFC 6265bis (prefixes, 4,096 bytes, attributes).
"""

from __future__ import annotations

import re
from typing import Any, Final

from contract.storage_state.reasons import BadProfile, kind

MAX_COOKIE_BYTES: Final = 4096
MAX_PATH_BYTES: Final = 1024
LATEST_EXPIRY: Final = 253402300799
"""The last second of the year 9999, beyond which Playwright takes none."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOST: Final = re.compile(r"\.?[\w-]+(\.[\w-]+)*\.?\Z|\[[0-9a-fA-F:.]+\]\Z")
_SAME_SITE: Final = ("Strict", "Lax", "None")


def check_cookie(where: str, cookie: Any) -> None:
    """Raise BadProfile unless a browser keeps this cookie; `where` is its place, such as ``cookies[2]``."""
    if not isinstance(cookie, dict):
        raise BadProfile(f"{where} is {kind(cookie)}, not an object")
    _check_name_and_value(where, cookie)
    _check_place(where, cookie)
    _check_expires(where, cookie)
    _check_flags(where, cookie)
    _check_prefix(where, cookie)


def _check_name_and_value(where: str, cookie: dict[str, Any]) -> None:
    name, value = _text(where, cookie, "name"), _text(where, cookie, "value")
    if _CONTROL.search(name) or ";" in name or "=" in name:
        raise BadProfile(f"{where}.name holds a control character, ';' or '='")
    if _CONTROL.search(value) or ";" in value:
        raise BadProfile(f"{where}.value holds a control character or ';'")
    if name != name.strip(" ") or value != value.strip(" "):
        raise BadProfile(f"{where} has a space at the start or end of its name or value")
    if not name and (not value or "=" in value):
        raise BadProfile(f"{where}.name is empty")
    if len(name.encode()) + len(value.encode()) > MAX_COOKIE_BYTES:
        raise BadProfile(f"{where} is larger than the {MAX_COOKIE_BYTES} bytes that browsers keep")


def _check_place(where: str, cookie: dict[str, Any]) -> None:
    if "url" in cookie:
        return _check_url(where, cookie)
    domain, path = _text(where, cookie, "domain"), _text(where, cookie, "path")
    if not _HOST.match(domain):
        raise BadProfile(f"{where}.domain is not a host name")
    if not path.startswith("/"):
        raise BadProfile(f"{where}.path does not begin with '/'")
    if _CONTROL.search(path) or ";" in path:
        raise BadProfile(f"{where}.path holds a control character or ';'")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise BadProfile(f"{where}.path is longer than the {MAX_PATH_BYTES} bytes that browsers keep")
    return None


def _check_url(where: str, cookie: dict[str, Any]) -> None:
    if "domain" in cookie or "path" in cookie:
        raise BadProfile(f"{where} has a url beside domain or path; Playwright takes one or the other")
    if not re.match(r"https?://[^/\s]+", _text(where, cookie, "url")):
        raise BadProfile(f"{where}.url is not an http or https address")


def _check_expires(where: str, cookie: dict[str, Any]) -> None:
    expires = cookie.get("expires", -1)
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise BadProfile(f"{where}.expires is {kind(expires)}, not a number of seconds")
    if expires < 0 and expires != -1:
        raise BadProfile(f"{where}.expires is negative; -1 means until the browser closes")
    if expires > LATEST_EXPIRY:
        raise BadProfile(f"{where}.expires is after the year 9999; Unix seconds are needed, not milliseconds")


def _check_flags(where: str, cookie: dict[str, Any]) -> None:
    for flag in ("httpOnly", "secure"):
        if not isinstance(cookie.get(flag, False), bool):
            raise BadProfile(f"{where}.{flag} is {kind(cookie[flag])}, not true or false")
    if cookie.get("sameSite", "Lax") not in _SAME_SITE:
        raise BadProfile(f"{where}.sameSite is not one of Strict, Lax, None")
    partition = cookie.get("partitionKey", "")
    if not isinstance(partition, str) or not re.match(r"\Z|https?://", partition):
        raise BadProfile(f"{where}.partitionKey is not an http or https site")


def _check_prefix(where: str, cookie: dict[str, Any]) -> None:
    name, url = cookie["name"].lower(), cookie.get("url", "")
    secure = cookie.get("secure", False) or url.startswith("https:")
    if name.startswith("__secure-") and not secure:
        raise BadProfile(f"{where} is named __Secure- but is not secure")
    if name.startswith("__host-") and not (
        secure and cookie.get("path", "/") == "/" and not cookie.get("domain", "").startswith(".")
    ):
        raise BadProfile(
            f"{where} is named __Host-, which needs secure, the path / and a domain without a dot in front"
        )


def _text(where: str, cookie: dict[str, Any], field: str) -> str:
    if field not in cookie:
        raise BadProfile(f"{where} has no {field}")
    value = cookie[field]
    if not isinstance(value, str):
        raise BadProfile(f"{where}.{field} is {kind(value)}, not a text")
    return value
