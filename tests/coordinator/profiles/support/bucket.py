"""One test's part of the bucket."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.profiles import S3Location, S3Options, S3ProfileProvider
from tests.support.s3 import BUCKET

if TYPE_CHECKING:
    from pathlib import Path

    from coordinator.fleet_file.load import FleetFileReader
    from tests.support.s3 import S3Server


@dataclass(frozen=True)
class Bucket:
    """A prefix in the real bucket."""

    server: S3Server
    prefix: str

    @property
    def uri(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}/active/"

    def put(self, **profiles: bytes) -> None:
        """Upload profiles by name."""
        self.server.upload({f"{self.prefix}/active/{name}.json": data for name, data in profiles.items()})

    def put_as(self, objects: dict[str, bytes]) -> None:
        """Upload objects by what follows the prefix."""
        self.server.upload({f"{self.prefix}/{key}": data for key, data in objects.items()})

    def put_keys(self, content: bytes) -> None:
        self.server.upload({f"{self.prefix}/key.txt": content})

    def remove(self, *names: str) -> None:
        """Delete objects by what follows the prefix."""
        self.server.delete(*(f"{self.prefix}/{name}" for name in names))

    def provider(
        self, cache_dir: Path, *, allow_stale: bool = False, fleet_file: FleetFileReader | None = None
    ) -> S3ProfileProvider:
        """A provider that has not run yet, with an AWS chain of its own."""
        options = S3Options(connect_timeout_s=20.0, read_timeout_s=30.0)
        return S3ProfileProvider(
            S3Location(BUCKET, self.prefix), cache_dir, options=options, allow_stale=allow_stale, fleet_file=fleet_file
        )

    def environment(self, cache_dir: Path, identity: str = "reader", **more: str) -> dict[str, str]:
        """The whole environment of a program that hydrates from here."""
        return {
            "PATH": os.environ["PATH"],
            **self.server.credentials(identity),
            "PROFILE_BACKEND": "s3",
            "AUTH_PROFILE_S3_BUCKET": BUCKET,
            "AUTH_PROFILE_S3_PREFIX": self.prefix,
            "AUTH_PROFILE_S3_CONNECT_TIMEOUT_S": "20",
            "AUTH_PROFILE_S3_READ_TIMEOUT_S": "30",
            "AUTH_PROFILE_CACHE_DIR": str(cache_dir),
            **more,
        }
