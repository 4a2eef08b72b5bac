"""One bucket through boto3: listing and reading, with errors for people.

Imported only where S3 is used: loading the SDK takes a third of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.session
from botocore import exceptions as sdk
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies
from urllib3 import exceptions as http

from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles.errors import ObjectGone
from coordinator.profiles.memory_file import memory_file
from coordinator.profiles.s3_direct import DirectReader, is_proxied
from coordinator.profiles.s3_errors import OBJECT_REFUSED, Attempt, error_code, explain, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

    from coordinator.profiles.s3_place import S3Connection, S3Place

_READ_ATTEMPTS: Final = 3
_FAILURES: Final = (
    sdk.BotoCoreError,
    sdk.ClientError,
    ResponseParserError,
    http.HTTPError,
    OSError,
    ValueError,
    RuntimeError,  # credentials that have expired although they were just renewed
)


@dataclass(frozen=True)
class S3Object:
    """An object of a listing; `size` in bytes, `etag` without quotes, "" if the storage gives none."""

    key: str
    etag: str
    size: int
    storage_class: str = "STANDARD"


@dataclass(frozen=True)
class Fetched:
    """An object's bytes and ETag, or why this one object cannot be read."""

    data: bytes = b""
    etag: str = ""
    refused: str = ""


class _EveryService(list[str]):
    """Stands for all services; one that is not there fails when its model is loaded."""

    def __contains__(self, _name: object) -> bool:
        return True


class S3Bucket:
    """Reads one bucket over connections that stay open. Safe for several threads."""

    def __init__(self, place: S3Place, connection: S3Connection) -> None:
        self._place = place
        self._connection = connection
        try:
            core = botocore.session.get_session()
            # Nobody asks when an object was modified, and reading that is two thirds of reading a listing.
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
            # The SDK asks whether it has S3 at all, and would look through the folders of its 400 services.
            core.get_component("data_loader").list_available_services = lambda _type_name: _EveryService()
            verify = _authorities(core.get_config_variable("ca_bundle"), connection.extra_ca_file)
            session = boto3.session.Session(botocore_session=core, region_name=connection.region)
            self._client = _client(session, connection, verify)
        except _FAILURES as error:
            raise explain(error, self._listing(place.active)) from None
        self._direct = DirectReader(self._client, session, place.bucket, verify, connection)

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]:
        """The objects directly under `prefix`, and the prefixes of those further down.

        Raises S3Refused, S3Unreachable.
        """
        objects: list[S3Object] = []
        below: list[str] = []
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                _check_is_listing(page)
                objects += [_object(found) for found in page.get("Contents", ())]
                below += [found["Prefix"] for found in page.get("CommonPrefixes", ())]
        except _FAILURES as error:
            raise explain(error, self._listing(prefix)) from None
        return objects, below

    def find(self, key: str) -> S3Object | None:
        """One object by a listing, so that "not there" differs from "not allowed". Raises as `list_folder`."""
        try:
            page = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=key, MaxKeys=1)
        except _FAILURES as error:
            raise explain(error, self._listing(key)) from None
        return next((_object(found) for found in page.get("Contents", ()) if found["Key"] == key), None)

    def read_many(self, keys: Sequence[str], take: Callable[[str, Fetched], object]) -> list[str]:
        """Give `take` each object that is read the plain way, as it comes; return the keys left to `read`.

        Blocks, and is not for a thread where an event loop runs. Raises what `take` raises, and nothing else.
        """
        return self._direct.read(
            keys, MAX_PROFILE_BYTES + 1, lambda key, data, etag: take(key, Fetched(data, _etag(etag)))
        )

    def read(self, key: str) -> Fetched:
        """An object's bytes, at most one more than a profile may have.

        Raises ObjectGone, S3Refused, S3Unreachable.
        """
        try:
            return self._read(key)
        except sdk.ClientError as error:
            return self._refused(error, key)
        except _FAILURES as error:
            raise explain(error, self._reading(key)) from None

    def _read(self, key: str) -> Fetched:
        for attempt in range(1, _READ_ATTEMPTS + 1):
            answer = self._client.get_object(Bucket=self._place.bucket, Key=key)
            try:
                with answer["Body"] as body:
                    return Fetched(body.read(MAX_PROFILE_BYTES + 1), _etag(answer.get("ETag", "")))
            except (sdk.BotoCoreError, http.HTTPError, OSError):
                if attempt == _READ_ATTEMPTS:
                    raise
        raise AssertionError("the loop returns or raises")

    def _refused(self, error: sdk.ClientError, key: str) -> Fetched:
        code, attempt = error_code(error), self._reading(key)
        if code in {"NoSuchKey", "404"}:
            raise ObjectGone from None
        if code in OBJECT_REFUSED or code.startswith("KMS."):
            return Fetched(refused=refusal(code, attempt))
        raise explain(error, attempt) from None

    def _listing(self, key: str) -> Attempt:
        permission = f"allow s3:ListBucket on {self._place.arn}, and check the bucket's name"
        return self._attempt("listed", key, permission)

    def _reading(self, key: str) -> Attempt:
        # Without the object's name: this line is also for /ready, which everybody may see.
        return self._attempt("read", key, "allow s3:GetObject on it (and kms:Decrypt, if a KMS key encrypts it)")

    def _attempt(self, done: str, key: str, permission: str) -> Attempt:
        client = getattr(self, "_client", None)
        endpoint = client.meta.endpoint_url if client else ""
        return Attempt(done, self._place.uri(key), permission, endpoint, self._connection.read_timeout_s)


def _client(session: Session, connection: S3Connection, verify: str | None) -> S3Client:
    config = _config(connection)
    client: S3Client = session.client("s3", config=config, verify=verify)
    if is_proxied(client.meta.endpoint_url) or not get_environ_proxies(client.meta.endpoint_url):
        return client
    return session.client("s3", config=config.merge(Config(proxies={})), verify=verify)


def _config(connection: S3Connection) -> Config:
    return Config(
        connect_timeout=connection.connect_timeout_s,
        read_timeout=connection.read_timeout_s,
        retries={"mode": "standard"},
        max_pool_connections=connection.workers,
        signature_version="s3v4",
        user_agent_extra="tabfleet",
    )


def _check_is_listing(page: Any) -> None:
    if "IsTruncated" not in page:  # in every listing; any other document would pass for an empty bucket
        raise ResponseParserError


def _object(found: Any) -> S3Object:
    return S3Object(found["Key"], _etag(found.get("ETag", "")), found["Size"], found.get("StorageClass", "STANDARD"))


def _etag(header: str) -> str:
    """An ETag in one form: storages differ in whether they quote it."""
    return header.removeprefix("W/").strip('"')


def _authorities(configured: str | None, extra: Path | None) -> str | None:
    """The path of a file with the usual certificate authorities and further ones; None: the usual ones."""
    if extra is None:
        return configured
    usual = Path(configured or get_cert_path(True) or "").read_bytes()
    return str(memory_file("authorities.pem", usual + b"\n" + extra.read_bytes()))
