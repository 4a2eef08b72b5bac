"""Two network namespaces with a wire between them: in one a browser, in the other the world, which notes each packet.

The world is where this process is (`unshare --net --mount`). It has the site, the proxies, and a name server that
knows all names, so that what goes past a proxy would succeed.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import re
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

WORLD: Final = "10.99.0.1"
BROWSER: Final = "10.99.0.2"
SITE: Final = "10.99.1.1"
NAME_SERVER: Final = "198.51.100.53"

# Playwright's driver looks for both addresses of localhost, where Firefox listens for it, and something for the
# machine's own name. A usual hosts file has them, unlike some containers'.
_OWN_HOSTS: Final = f"127.0.0.1 localhost {socket.gethostname()}\n::1 localhost {socket.gethostname()}\n"
_numbers = itertools.count()
_CLONE_NEWNET: Final = 0x40000000
_ALL_PROTOCOLS: Final = 0x0003
_OUTGOING: Final = 4
_KERNELS_OWN_ICMPV6: Final = frozenset({133, 134, 135, 136, 143})
"""Neighbour discovery, and the membership of groups: the kernel sends these for every interface."""


@dataclass(frozen=True)
class Packet:
    """A packet of the browser's namespace. `port` is 0 for what is neither TCP nor UDP."""

    protocol: str
    address: str
    port: int


@dataclass
class Capture:
    """All packets that have come over the wire so far, and the names that were asked for in them."""

    packets: Counter[Packet] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    def past(self, host: str, *ports: int) -> dict[str, int]:
        """Return what did not go to these ports of the host by TCP."""
        allowed = {Packet("tcp", host, port) for port in ports}
        return {
            f"{packet.protocol} {packet.address} {packet.port}": count
            for packet, count in self.packets.items()
            if packet not in allowed
        }

    def read(self, sock: socket.socket) -> None:
        """Take one packet down."""
        frame, address = sock.recvfrom(65535)
        packet = None if address[2] == _OUTGOING else _parse(frame)
        if packet:
            self.packets[packet] += 1

    def answer_name(self, sock: socket.socket) -> None:
        """Say of any name that it is the site's (RFC 1035); a question of another kind has no answer."""
        query, sender = sock.recvfrom(512)
        end = query.index(0, 12) + 5
        name, kind = (
            re.sub(rb"[^!-~]", b".", query[13 : end - 5]).decode(),
            struct.unpack("!H", query[end - 4 : end - 2]),
        )
        self.names.add(f"{name} {kind[0]}")
        is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(SITE) if is_ipv4 else b""
        header = query[:2] + b"\x81\x80" + query[4:6] + struct.pack("!HHH", bool(answer), 0, 0)
        sock.sendto(header + query[12:end] + answer, sender)


def _parse(frame: bytes) -> Packet | None:
    kind, data = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if kind == 0x0800:
        number, address, rest = data[9], str(IPv4Address(data[16:20])), data[(data[0] & 15) * 4 :]
    elif kind == 0x86DD:
        number, address, rest = data[6], str(IPv6Address(data[24:40])), data[40:]
        if number == 0:  # hop-by-hop options, as membership reports have
            number, rest = rest[0], rest[(rest[1] + 1) * 8 :]
        if number == 58 and rest[0] in _KERNELS_OWN_ICMPV6:
            return None
    else:  # ARP
        return None
    if number in (6, 17):
        return Packet("tcp" if number == 6 else "udp", address, struct.unpack("!H", rest[2:4])[0])
    return Packet(f"protocol {number}", address, 0)


class Namespace:
    """The browser's namespace; it goes when the process that holds it ends."""

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        self._holder = holder

    @property
    def command(self) -> list[str]:
        """What to put before a command that is to run there."""
        target = str(self._holder.pid)
        return ["nsenter", "--target", target, "--net", "--mount", f"--wd={Path.cwd()}"]

    async def call(self, work: Callable[[], T]) -> T:
        """Run a function in a thread that is in that network."""

        def run() -> T:
            with Path(f"/proc/{self._holder.pid}/ns/net").open("rb") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return work()

        found: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def thread() -> None:
            try:
                result = run()
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                loop.call_soon_threadsafe(found.set_exception, error)
            else:
                loop.call_soon_threadsafe(found.set_result, result)

        # Not of a pool: the thread stays in that network as long as it lives.
        threading.Thread(target=thread, daemon=True).start()
        return await found


@contextmanager
def network(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[Namespace, Capture]]:
    """Make the browser's namespace and the wire. `names` are the site's, which the world's programs know."""
    resolver, hosts = folder / "resolv.conf", folder / "hosts"
    resolver.write_text(f"nameserver {NAME_SERVER}\noptions attempts:1 timeout:1\n")
    hosts.write_text(f"127.0.0.1 localhost\n{SITE} {' '.join(names)}\n")
    wire = f"wire{next(_numbers)}"
    own_hosts = folder / "own-hosts"
    own_hosts.write_text(_OWN_HOSTS)
    binds = f"mount --bind {resolver} /etc/resolv.conf && mount --bind {own_hosts} /etc/hosts"
    script = f"{binds} && ip link set lo up && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"ready\n":
                raise RuntimeError("no namespaces can be made here; be root, or allow user namespaces")
            namespace = Namespace(holder)
            for command in (
                f"mount --bind {hosts} /etc/hosts",
                "ip link set lo up",
                f"ip address replace {SITE}/32 dev lo",
                f"ip address replace {NAME_SERVER}/32 dev lo",
                f"ip link add {wire} type veth peer name {wire} netns {holder.pid}",
                f"ip address add {WORLD}/24 dev {wire}",
                f"ip address add fd99::1/64 dev {wire} nodad",
                f"ip link set {wire} up",
            ):
                subprocess.run(command.split(), check=True)
            for command in (
                f"ip address add {BROWSER}/24 dev {wire}",
                f"ip address add fd99::2/64 dev {wire} nodad",
                f"ip link set {wire} up",
                f"ip route add default via {WORLD}",
                "ip -6 route add default via fd99::1",
            ):
                subprocess.run([*namespace.command, *command.split()], check=True)
            with (
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as packets,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server,
            ):
                packets.bind((wire, 0))
                name_server.bind((NAME_SERVER, 53))
                capture = Capture()
                loop = asyncio.get_running_loop()
                loop.add_reader(packets, capture.read, packets)
                loop.add_reader(name_server, capture.answer_name, name_server)
                yield namespace, capture
                loop.remove_reader(packets)
                loop.remove_reader(name_server)
                subprocess.run(["ip", "link", "del", wire], check=True)
        finally:
            holder.kill()


def own_network() -> tuple[str, ...]:
    """Return the command that makes the world: for root, or for a user who may have namespaces with other users."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")
    return ("unshare", *user, "--net", "--mount")
