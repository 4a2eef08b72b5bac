"""HTTPS_PROXY and NO_PROXY: one meaning of each, for S3 and for every browser; and a login's own proxy.

NO_PROXY is a list with commas or spaces. Each entry is one of these:

*                   everything
NAME                this host name and all below it; a leading ``.`` or ``*.`` makes no difference
ADDRESS, NETWORK    ``10.1.2.3``, ``fd00::1``, ``10.0.0.0/8``: hosts that are given as addresses; no name is resolved
NAME:PORT, ADDRESS:PORT, [IPV6]:PORT    the same, for this port only

Loopback and link-local addresses are always reached directly. Programs differ in all of this, so none is given the
operator's text: https://about.gitlab.com/blog/we-need-to-talk-no-proxy/.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_LOGIN_WORDS: Final = (
    "before the host USER:PASSWORD@ if needed, in which %, #, /, ? and @ are written %25, %23, %2F, %3F and %40"
)
PROXY_WORDS: Final = f"http://HOST:PORT or https://HOST:PORT, {_LOGIN_WORDS}"
OWN_PROXY_WORDS: Final = f"http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, {_LOGIN_WORDS}"
NO_PROXY_WORDS: Final = "host names, addresses, networks such as 10.0.0.0/8, or *, with commas"
VARIABLES: Final = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
"""The variables by which programs find a proxy, in lower case; each is also read in capitals."""

_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ENTRY: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_PORTS: Final = range(1, 65536)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "socks5": 1080}
_PROXY_FILE_BYTES: Final = 4096
_SOCKS_FIELD: Final = 255


@dataclass(frozen=True)
class Proxy:
    """A proxy's address and, where it wants a login, user name and password ("" for none)."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def server(self) -> str:
        """Its address without the login."""
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"

    def unusable_by(self, engine: str) -> str | None:
        """Return why a browser cannot use it, None if it can."""
        if engine != "firefox":
            return None
        if self.scheme == "https":
            return "Firefox takes a proxy at http:// only; use such a one, or another engine"
        return (
            "Firefox cannot log in at a proxy; use one without a password, or another engine" if self.username else None
        )


@dataclass(frozen=True)
class DirectHost:
    """One entry of NO_PROXY: a name with all below it, or a network of one or more addresses."""

    host: str | IPv4Network | IPv6Network
    port: int | None = None

    def covers(self, host: str, port: int | None) -> bool:
        """Return whether this host, a name in lower case or an address without brackets, is meant."""
        if self.port is not None and self.port != port:
            return False
        if isinstance(self.host, str):
            return host == self.host or host.endswith(f".{self.host}")
        try:
            return ip_address(host) in self.host
        except ValueError:
            return False


@dataclass(frozen=True)
class NoProxy:
    """What is reached without the proxy; `everything` stands for all hosts."""

    hosts: tuple[DirectHost, ...]
    everything: bool = False

    def covers(self, url: str) -> bool:
        """Return whether this address is reached directly. Raises ValueError if it is none."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)
        return self.everything or any(entry.covers(host, port) for entry in self.hosts)


def parse_proxy(text: str) -> Proxy:
    """Return the proxy at a URL. Raises ValueError, whose message does not hold the text, which may hold a password."""
    return _parse(text, ("http", "https"), PROXY_WORDS)


def parse_own_proxy(text: str) -> Proxy:
    """Return a login's own proxy, which may be a SOCKS server, too. Raises ValueError as `parse_proxy` does.

    Its user name and password go to it as the child gives them, whatever the browser can do.
    """
    proxy = _parse(text.replace("socks5h://", "socks5://", 1), ("http", "https", "socks5"), OWN_PROXY_WORDS)
    if ":" in proxy.username and proxy.scheme != "socks5":
        raise ValueError("has a user name with a colon, which ends the name where it is sent (RFC 7617)")
    if proxy.scheme == "socks5" and proxy.username:
        # RFC 1929: one byte tells the length of each. Names in other letters have no encoding that servers agree on.
        for name, value in (("user name", proxy.username), ("password", proxy.password)):
            if not (value.isascii() and 1 <= len(value) <= _SOCKS_FIELD):
                raise ValueError(f"has a {name} that SOCKS5 cannot send: 1 to {_SOCKS_FIELD} ASCII characters")
    return proxy


def read_own_proxy(path: Path) -> Proxy:
    """Return the proxy whose URL a file holds. Raises ValueError, one line without anything of the file's content."""
    try:
        with path.open("rb") as file:
            # Without the byte order mark that editors on Windows write.
            text = file.read(_PROXY_FILE_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    try:
        return parse_own_proxy(text.strip())
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def _parse(text: str, schemes: tuple[str, ...], words: str) -> Proxy:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        is_address = "[" in parts.netloc
        host = str(ip_address(host)) if is_address else _name(host)
    except ValueError:
        raise ValueError(f"takes {words}") from None
    # A '#', '/' or '?' of a password ends the host, and what comes before it would be taken for one.
    if parts.scheme not in schemes or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"takes {words}")
    return Proxy(
        parts.scheme,
        host,
        port or _DEFAULT_PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def parse_no_proxy(text: str) -> NoProxy:
    """Return what NO_PROXY names, and what is always reached directly. Raises ValueError that names a wrong entry."""
    words = [word for word in re.split(r"[,\s]+", text) if word]
    return NoProxy((*_ALWAYS, *(_entry(word) for word in words if word != "*")), everything="*" in words)


def no_proxy_of(environment: Mapping[str, str]) -> NoProxy:
    """Return what an environment's NO_PROXY names; the variable in lower case comes first, as elsewhere."""
    return parse_no_proxy(environment.get("no_proxy") or environment.get("NO_PROXY") or "")


def _entry(word: str) -> DirectHost:
    try:
        return DirectHost(ip_network(word, strict=False))
    except ValueError:  # no bare address and no network
        pass
    parts = _ENTRY.fullmatch(word)
    port = int(parts["port"]) if parts and parts["port"] else None
    if parts and (port is None or port in _PORTS):
        with contextlib.suppress(ValueError):
            return DirectHost(ip_network(ip_address(parts["ipv6"] or parts["host"])), port)
        with contextlib.suppress(ValueError, TypeError):  # no name, or an address in brackets that is none
            return DirectHost(_name(re.sub(r"^\*?\.", "", parts["host"]).rstrip(".")), port)
    raise ValueError(f"{word[:80]!r} is no host name, address or network")


def _name(host: str) -> str:
    """Return a host name as browsers send it. Raises ValueError if it is none, or looks like a part of an address."""
    name = host.lower() if host.isascii() else host.encode("idna").decode()
    if not _NAME.fullmatch(name) or (name.rpartition(".")[2].isdecimal() and not _is_address(name)):
        raise ValueError(name)
    return name


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


_ALWAYS: Final = tuple(map(_entry, ("localhost", "127.0.0.0/8", "::1", "169.254.0.0/16", "fe80::/10")))
