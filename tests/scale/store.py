"""The store of claims of a scale test: one etcd, where its namespace is, which is stopped, killed and emptied."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from tests.scale.ways import STORE, Ways
from tests.support import DIES_WITH_PARENT
from tests.support.etcd import Tls
from tests.support.ports import free_range
from tests.support.waiting import eventually


class Store:
    """An etcd with TLS, which asks its clients for certificates."""

    def __init__(self, ways: Ways, folder: Path, port: int) -> None:
        self._folder, self._log, self.port = folder, folder / "log", port
        folder.mkdir()
        self.tls = Tls.make(folder)
        peer = f"http://127.0.0.1:{free_range(1)}"
        url = f"https://{ways.store_host}:{port}"
        # The gateway inside etcd is a client of etcd by the server's own certificate.
        cert, key = self.tls.authority.sign(ways.store_host, client=True)
        self._command = [
            *(
                *DIES_WITH_PARENT,
                *ways.command(STORE),
                "etcd",
                "--name=m",
                f"--data-dir={folder / 'data'}",
                "--logger=zap",
            ),
            *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=m={peer}"),
            *(f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={self.tls.authority.file}"),
            *("--client-cert-auth=true", "--unsafe-no-fsync"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it with the data that it has, and wait until it serves."""
        since = self._begin()
        await eventually(lambda: self._serves(since))

    def _begin(self) -> int:
        with self._log.open("ab") as log:
            since = log.tell()
            env = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        return since

    def _serves(self, since: int) -> bool:
        assert self._process is not None
        text = self._log.read_bytes()[since:].decode()
        assert self._process.poll() is None, text[-2000:]
        return "serving client traffic securely" in text

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Lose all that it has; it must not run."""
        assert self._process is None
        shutil.rmtree(self._folder / "data")


@contextlib.asynccontextmanager
async def store(ways: Ways, folder: Path, port: int) -> AsyncIterator[Store]:
    """Run the store until the block ends."""
    made = Store(ways, folder, port)
    try:
        await made.start()
        yield made
    finally:
        made.kill()
