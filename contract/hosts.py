"""Which values of the Host header are taken by a server that asks for no key, or is meant for its own machine only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from contract.api_error import ApiError, ErrorCode


@dataclass(frozen=True)
class Hosts:
    """Which values of the Host header are taken, by those who can reach this server.

    A name that somebody else resolves to our address (DNS rebinding) makes their page same-origin with us; an address
    is nobody's to resolve. `names` are taken as well, and "*" is any; `settable` is whether ALLOWED_HOSTS sets them.
    """

    loopback_only: bool
    names: frozenset[str] = frozenset()
    settable: bool = True

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ApiError (421) for a Host that is not taken. The headers' names are in lower case."""
        for host in [value for name, value in headers if name == b"host"]:
            if not self._takes(host):
                what = "a loopback" if self.loopback_only else "an IP"
                names = ", or a name in ALLOWED_HOSTS" if self.settable else ""
                keys = "; or set API keys" if self.settable and not self.loopback_only else ""
                hosts = f"localhost or {what} address{names}{keys}"
                message = f"The Host header, which is the host of the client's base_url, must be {hosts}."
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
