"""A real S3 server for tests and benchmarks: SeaweedFS from PyPI, on loopback, with keys that may only read."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import DIES_WITH_PARENT
from tests.support.ports import MIRROR, free_range

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_s3 import S3Client

BUCKET = "profiles"
ADMIN = "admin"
READER = "reader"
START_TIMEOUT_S = 30.0


def secret_of(identity: str) -> str:
    """The secret key of an identity; its access key is `AK` and its name in capitals."""
    return f"secret-of-{identity}-0123456789abcdef"


@dataclass
class S3Server:
    """A running server. Each identity has the actions it was started with, such as ``Read:profiles``."""

    url: str
    process: subprocess.Popen[bytes]
    ports: tuple[int, ...]

    def credentials(self, identity: str = READER) -> dict[str, str]:
        """The environment that makes the AWS chain use this server as that identity."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": f"AK{identity.upper()}",
            "AWS_SECRET_ACCESS_KEY": secret_of(identity),
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, identity: str = ADMIN) -> S3Client:
        """A client for the tests' own uploads."""
        import boto3
        from botocore.config import Config

        keys = self.credentials(identity)
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(max_pool_connections=32),
        )

    @functools.cached_property
    def _admin(self) -> S3Client:
        return self.client(ADMIN)

    def upload(self, objects: Mapping[str, bytes], bucket: str = BUCKET) -> None:
        """Put objects by key, in parallel."""
        from concurrent.futures import ThreadPoolExecutor

        client = self._admin
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda item: client.put_object(Bucket=bucket, Key=item[0], Body=item[1]), objects.items()))

    def delete(self, *keys: str, bucket: str = BUCKET) -> None:
        """Remove objects."""
        for key in keys:
            self._admin.delete_object(Bucket=bucket, Key=key)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self.process.kill()
        self.process.wait()
        for port in (*self.ports, *(port + MIRROR for port in self.ports)):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


@contextmanager
def s3_server(
    folder: Path, identities: Mapping[str, Sequence[str]] | None = None, *, bucket: str = BUCKET
) -> Iterator[S3Server]:
    """Run a server on free ports with its data in `folder`, which must exist, until the block ends.

    `identities` gives the actions of further identities beside the admin and the reader.
    """
    first = free_range(6, mirrored=True)
    ports = list(range(first, first + 6))
    config = folder / "identities.json"
    config.write_text(json.dumps(_identities(bucket, identities or {})))
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, ports, config),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    server = S3Server(f"http://127.0.0.1:{ports[0]}", process, tuple(ports))
    try:
        _create_bucket(server, bucket, folder / "weed.log")
        yield server
    finally:
        server.kill()


def _command(folder: Path, ports: list[int], config: Path) -> list[str]:
    s3, master, filer, volume, admin, webdav = ports
    (folder / "data").mkdir()
    weed = Path(sys.executable).with_name("weed")
    return [
        *(*DIES_WITH_PARENT, str(weed), "-logtostderr=true", "mini"),
        *(f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}"),
        *(f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}", f"-volume.port={volume}"),
        *(f"-admin.port={admin}", f"-webdav.port={webdav}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
    ]


def _identities(bucket: str, more: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    actions = {ADMIN: ["Admin"], READER: [f"Read:{bucket}", f"List:{bucket}"], **more}
    return {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": f"AK{name.upper()}", "secretKey": secret_of(name)}],
                "actions": list(allowed),
            }
            for name, allowed in actions.items()
        ]
    }


def _create_bucket(server: S3Server, bucket: str, log: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + START_TIMEOUT_S
    port = int(server.url.rpartition(":")[2])
    while True:
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"SeaweedFS did not start; the end of its log:\n{log.read_text()[-2000:]}")
        with suppress(OSError, BotoCoreError, ClientError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            server._admin.create_bucket(Bucket=bucket)
            return
        time.sleep(0.05)
