"""What the S3 modules pass to each other: where the profiles are, how S3 is reached, what was listed and read."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coordinator.settings import Settings


@dataclass(frozen=True)
class S3Location:
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

    @property
    def fleet_file(self) -> str:
        """The key of the fleet file."""
        return f"{self.prefix}/fleet.toml".lstrip("/")

    def uri(self, key: str) -> str:
        """Return a key or prefix as people write it."""
        return f"s3://{self.bucket}/{key}"

    @property
    def arn(self) -> str:
        """What a policy calls the bucket."""
        return f"arn:aws:s3:::{self.bucket}"


@dataclass(frozen=True)
class S3Options:
    """How S3 is reached; everything else comes from the AWS chain. `workers` objects are read at a time."""

    region: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    extra_ca_file: Path | None = None
    workers: int = 16

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the options that the AUTH_PROFILE_S3_ settings ask for."""
        return cls(
            settings.auth_profile_s3_region,
            settings.auth_profile_s3_connect_timeout_s,
            settings.auth_profile_s3_read_timeout_s,
            settings.extra_ca_file,
        )

    def extra_authorities(self) -> bytes:
        """Return the certificates of `extra_ca_file` in PEM form, nothing without one. Raises OSError."""
        # A byte order mark before the first line would hide the first certificate.
        return self.extra_ca_file.read_bytes().removeprefix(codecs.BOM_UTF8) if self.extra_ca_file else b""


@dataclass(frozen=True)
class S3Object:
    """An object of a listing; `size` in bytes, `etag` without quotes, "" if the storage gives none."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Fetched:
    """An object's bytes and ETag, or why this one object cannot be read."""

    data: bytes = b""
    etag: str = ""
    refused: str = ""


def bare_etag(header: str | None) -> str:
    """Return an ETag in one form, as storages differ in whether they quote it; "" for none."""
    return (header or "").removeprefix("W/").strip('"')
