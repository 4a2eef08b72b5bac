"""Where in S3 the profiles are, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class S3Place:
    """A bucket and a prefix in it, which has no slash at its ends; "" is the bucket's root."""

    bucket: str
    prefix: str = ""

    @property
    def active(self) -> str:
        """The prefix of the profiles' keys: ``active/`` or ``<prefix>/active/``."""
        return f"{self.prefix}/active/".lstrip("/")

    @property
    def key_file(self) -> str:
        """The key of the file with the API keys."""
        return f"{self.prefix}/key.txt".lstrip("/")

    def uri(self, key: str) -> str:
        """A key or prefix as people write it."""
        return f"s3://{self.bucket}/{key}"

    @property
    def arn(self) -> str:
        """What a policy calls the bucket."""
        return f"arn:aws:s3:::{self.bucket}"


@dataclass(frozen=True)
class S3Connection:
    """How S3 is reached; everything else comes from the AWS chain."""

    region: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    extra_ca_file: Path | None = None
    connections: int = 32
    """So many objects are read at a time."""
    workers: int = 16
    """So many threads read what the SDK has to read."""
