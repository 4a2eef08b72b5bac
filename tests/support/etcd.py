"""Real etcd for tests: members on loopback, on ports of the test's own and never on etcd's, with data in a folder.

Flags: https://etcd.io/docs/v3.4/op-guide/configuration/.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import DIES_WITH_PARENT
from tests.support.authority import Authority
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S


@dataclass
class Tls:
    """Certificates of a cluster whose members ask each client for one."""

    authority: Authority
    cert_file: Path
    """A client's certificate, and with it its key."""
    key_file: Path

    @classmethod
    def make(cls, folder: Path) -> Tls:
        """Make an authority, and a client's certificate by it, in a folder."""
        authority = Authority(folder, "etcd-ca")
        return cls(authority, *authority.sign("cell.example", client=True))


class Member:
    """One etcd, which can be killed, stopped and started again with the data that it has."""

    def __init__(
        self, name: str, folder: Path, *, ports: Sequence[int], peers: str, tls: Tls | None, flags: Sequence[str]
    ) -> None:
        client, self._peer, self._health = ports
        self.address = f"127.0.0.1:{client}"
        self.url = f"{'http' if tls is None else 'https'}://{self.address}"
        self._data = folder / name
        self._log = folder / f"{name}.log"
        self._command = [
            *(*DIES_WITH_PARENT, _program(), f"--name={name}", f"--data-dir={self._data}", "--logger=zap"),
            *(f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}"),
            *(f"--listen-peer-urls={_peer_url(self._peer)}", f"--initial-advertise-peer-urls={_peer_url(self._peer)}"),
            *(f"--initial-cluster={peers}", f"--listen-metrics-urls=http://127.0.0.1:{self._health}"),
            # A power cut loses nothing that a test needs.
            "--unsafe-no-fsync",
            *flags,
        ]
        if tls is not None:
            # The gateway inside etcd is a client of etcd by the server's own certificate.
            cert, key = tls.authority.sign("127.0.0.1", client=True)
            authority = tls.authority.file
            self._command += [f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={authority}"]
            self._command.append("--client-cert-auth=true")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait_until_ready` waits for it."""
        with self._log.open("ab") as log:
            # Without the environment, where a variable ETCD_... would be a flag.
            env = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def wait_until_ready(self) -> None:
        """Return once it says that it is healthy: it knows a leader, and has committed something with it."""
        deadline = time.monotonic() + HANG_LIMIT_S
        while not self._is_healthy():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"etcd did not start; the end of its log:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut would, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_data(self) -> None:
        """Take the data of a killed one away."""
        shutil.rmtree(self._data)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have it stand still (SIGSTOP) while the block runs: it takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def leads(self) -> bool:
        """Return whether it is the leader, as far as it knows."""
        status = self._ask("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])

    def put(self, key: str, value: bytes) -> None:
        """Write a key."""
        encoded = [base64.b64encode(part).decode() for part in (key.encode(), value)]
        self._ask("kv/put", {"key": encoded[0], "value": encoded[1]})

    def enable_users(self, password: str) -> None:
        """Have it demand a user and a password of everybody from now on."""
        self._ask("auth/user/add", {"name": "root", "password": password})
        self._ask("auth/role/add", {"name": "root"})
        self._ask("auth/user/grant", {"user": "root", "role": "root"})
        self._ask("auth/enable", {})

    def _is_healthy(self) -> bool:
        with contextlib.suppress(OSError, ValueError), _open(f"http://127.0.0.1:{self._health}/health") as response:
            return bool(json.load(response)["health"] == "true")
        return False

    def _ask(self, route: str, body: object) -> Any:
        with _open(f"{self.url}/v3/{route}", json.dumps(body).encode()) as response:
            return json.load(response)


@dataclass
class Etcd:
    """A running cluster."""

    members: list[Member]
    tls: Tls | None

    @property
    def urls(self) -> list[str]:
        """The addresses for clients, one a member."""
        return [member.url for member in self.members]

    def settings(self) -> dict[str, str]:
        """The variables by which a coordinator claims here, with a client's certificate."""
        assert self.tls
        return {
            "CLAIMS": "etcd",
            "CLAIMS_URL": ",".join(self.urls),
            "CLAIMS_CA_FILE": str(self.tls.authority.file),
            "CLAIMS_CERT_FILE": str(self.tls.cert_file),
            "CLAIMS_KEY_FILE": str(self.tls.key_file),
        }

    def values(self) -> dict[str, bytes]:
        """Everything that is in it now, by its keys."""
        assert self.tls
        context = ssl.create_default_context(cafile=self.tls.authority.file)
        context.load_cert_chain(self.tls.cert_file, self.tls.key_file)
        return all_values(self.urls[0], context)


def all_values(url: str, context: ssl.SSLContext) -> dict[str, bytes]:
    """Return everything that is in this etcd, by its keys, as a client of its JSON gateway sees it."""
    everything = {"key": "AA==", "range_end": "AA=="}  # from the byte 0 on, without an end
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(f"{url}/v3/kv/range", data=json.dumps(everything).encode())
    with opener.open(request, timeout=HANG_LIMIT_S) as response:
        found = json.load(response).get("kvs", [])
    return {b64decode(each["key"]).decode(): b64decode(each.get("value", "")) for each in found}


@contextlib.contextmanager
def etcd_server(folder: Path, *, tls: Tls | None = None, members: int = 1, flags: Sequence[str] = ()) -> Iterator[Etcd]:
    """Run a cluster with its data in `folder`, which must exist, until the block ends.

    With `tls`, clients need a certificate of that authority, and there is one member.
    """
    assert tls is None or members == 1  # their certificates would be one file
    first = free_range(3 * members)
    ports = [range(first + 3 * number, first + 3 * number + 3) for number in range(members)]
    peers = ",".join(f"m{number}={_peer_url(own[1])}" for number, own in enumerate(ports))
    cluster = Etcd(
        [
            Member(f"m{number}", folder, ports=own, peers=peers, tls=tls, flags=flags)
            for number, own in enumerate(ports)
        ],
        tls,
    )
    try:
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_until_ready()
        yield cluster
    finally:
        for member in cluster.members:
            member.kill()


def _open(url: str, body: bytes | None = None) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, body, timeout=HANG_LIMIT_S)


def _peer_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _program() -> str:
    program = shutil.which("etcd")
    assert program, "etcd is not installed; scripts/etcd-setup installs it"
    return program
