"""squid, tinyproxy and microsocks as Debian packages them: each takes one user, and says what it was asked for."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.waiting import eventually

USER: Final = "ada"
PASSWORD: Final = "canary-of-the-proxy"
NO_PROXY: Final = "none"
_ASKED_FOR: Final = (r"CONNECT (\S+:\d+)", r"[A-Z]+ http://([^/\s]+)", r"connected to (\S+:\d+)")
"""How the logs name a host and port: those of HTTP proxies by method, that of microsocks for each connection."""
_SQUID_HELPER: Final = "/usr/lib/squid/basic_ncsa_auth"


class RealProxy:
    """A proxy's program, which can be killed and started again."""

    def __init__(self, scheme: str, host: str, port: int, command: Sequence[str], log: Path) -> None:
        """`log` gets the program's output, too."""
        self.port = port
        self.address = f"{scheme}://{host}:{port}"
        self.url = f"{scheme}://{USER}:{PASSWORD}@{host}:{port}"
        self._host = host
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and return when it takes connections."""
        with self._log.open("ab") as out:
            self._log.chmod(0o666)  # squid writes it as a user of its own
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=out, stderr=out, start_new_session=True
            )
        await eventually(self._answers, what=self._log.read_text)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self._host, self.port)) == 0

    async def kill(self) -> None:
        """Kill it and its helpers, if it runs."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def asked_for(self) -> set[str]:
        """Return the hosts and ports that its log names."""
        text = self._log.read_text(errors="replace")
        return {found for pattern in _ASKED_FOR for found in re.findall(pattern, text)}


def squid(folder: Path, host: str) -> RealProxy:
    """An HTTP proxy."""
    users = folder / "users"
    crypted = subprocess.run(
        ["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True
    ).stdout
    users.write_text(f"{USER}:{crypted}")
    users.chmod(0o644)
    log = folder / "squid.log"
    return RealProxy(
        "http",
        host,
        3128,
        _squid_command(
            folder,
            f"""
http_port {host}:3128
auth_param basic program {_SQUID_HELPER} {users}
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
access_log stdio:{log}
cache_log {folder}/squid-cache.log
coredump_dir {folder}
pid_filename none
hosts_file /etc/hosts
dns_nameservers 127.0.0.1
visible_hostname squid.test
""",
        ),
        log,
    )


def _squid_command(folder: Path, text: str) -> list[str]:
    path = folder / "squid.conf"
    path.write_text(text)
    return [_found("squid"), "-N", "-f", str(path)]


def tinyproxy(folder: Path, host: str) -> RealProxy:
    """Another HTTP proxy."""
    log, path = folder / "tinyproxy.log", folder / "tinyproxy.conf"
    path.write_text(
        f'Port 8888\nListen {host}\nTimeout 600\nMaxClients 100\nLogFile "{log}"\nLogLevel Connect\n'
        f"BasicAuth {USER} {PASSWORD}\n"
    )
    return RealProxy("http", host, 8888, [_found("tinyproxy"), "-d", "-c", str(path)], log)


def microsocks(folder: Path, host: str) -> RealProxy:
    """A SOCKS5 server."""
    command = [_found("microsocks"), "-i", host, "-p", "1080", "-u", USER, "-P", PASSWORD]
    return RealProxy("socks5", host, 1080, command, folder / "microsocks.log")


def _found(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise RuntimeError(f"{name} is missing; scripts/proxies-setup installs it")
    return path


ALL: Final[Mapping[str, Callable[[Path, str], RealProxy]]] = {
    "squid": squid,
    "tinyproxy": tinyproxy,
    "microsocks": microsocks,
}
"""Each by its program's name: it takes a folder for its files, and the address to listen on."""
