"""One bucket through boto3: what the AWS chain resolves to, and listing, reading and writing with errors for people.

Imported only where it is needed: loading boto3 takes a third of a second.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.session
import botocore.utils
from botocore import exceptions as sdk
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError
from obstore.store import S3Store
from urllib3 import exceptions as http

from contract.errors import TabfleetError
from contract.proxies import no_proxy_of
from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles.errors import ObjectChanged, ObjectGone
from coordinator.profiles.s3_errors import OBJECT_REFUSED, Attempt, error_code, explain, refusal
from coordinator.profiles.s3_store import Endpoint, endpoint_of_request, open_store
from coordinator.profiles.s3_types import Fetched, S3Location, S3Object, S3Options, bare_etag

if TYPE_CHECKING:  # stubs, which are not there at run time
    from mypy_boto3_s3 import S3Client as BotoS3Client
    from obstore.store import S3Credential

_READ_ATTEMPTS: Final = 3
# botocore renews credentials 10 minutes before they expire at the latest, so that these are valid for longer.
_CREDENTIALS_VALID: Final = timedelta(minutes=5)
_FAILURES: Final = (
    sdk.BotoCoreError,
    sdk.ClientError,
    ResponseParserError,
    http.HTTPError,
    OSError,
    ValueError,
    RuntimeError,  # credentials that have expired although they were just renewed
)


class _EveryService(list[str]):
    """Stands for all services; one that is not there fails when its model is loaded."""

    def __contains__(self, _name: object) -> bool:
        return True


class _NotSent(TabfleetError):
    """A request was signed, and is not to be sent."""

    def __init__(self, url: str, authorization: str) -> None:
        super().__init__(url)
        self.url = url
        self.authorization = authorization


def _not_sent(request: AWSPreparedRequest, **_: Any) -> None:
    authorization = request.headers.get("Authorization", b"")
    raise _NotSent(request.url, authorization.decode() if isinstance(authorization, bytes) else authorization)


class BotoBucket:
    """Reads and writes one bucket over connections that stay open. Safe for several threads."""

    def __init__(self, location: S3Location, options: S3Options) -> None:
        """Resolve the AWS chain, but for the credentials. Raises S3Refused."""
        self._location = location
        self._options = options
        try:
            core = botocore.session.get_session()
            # Nobody asks when an object was modified, and reading that is two thirds of reading a listing.
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
            # The SDK asks whether it has S3 at all, and would look through the folders of its 400 services.
            core.get_component("data_loader").list_available_services = lambda _type_name: _EveryService()
            self._ca_bundle: str | None = core.get_config_variable("ca_bundle")
            self._session = boto3.session.Session(botocore_session=core, region_name=options.region)
            self._client = self._connect()
        except _FAILURES as error:
            raise explain(error, self._listing(location.active)) from None

    def open_store(self) -> S3Store | None:
        """Open the bucket that the AWS chain resolves to with obstore; None where that cannot serve it.

        Gets the credentials. Raises S3Refused, S3Unreachable if there are none.
        """
        endpoint = self.endpoint()
        if endpoint is None or self._ca_bundle:  # obstore would trust the usual authorities beside those of a bundle
            return None
        return open_store(self._location.bucket, endpoint, self._credentials, self._options)

    def endpoint(self) -> Endpoint | None:
        """Return where this bucket's requests go, None if obstore cannot make the like. Raises as `open_store`."""
        # Taken from a request that is signed and not sent: an address that botocore presigns may name another host.
        bucket, key, event = self._location.bucket, "key", "before-send.s3.GetObject"
        self._client.meta.events.register_first(event, _not_sent)
        try:
            self._client.get_object(Bucket=bucket, Key=key)
        except _NotSent as signed:
            return endpoint_of_request(signed.url, signed.authorization, bucket, key)
        except _FAILURES as error:
            raise explain(error, self._listing(self._location.active)) from None
        finally:
            self._client.meta.events.unregister(event, _not_sent)
        return None

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]:
        """Return the objects directly under `prefix`, and the prefixes of those further down.

        Raises S3Refused, S3Unreachable.
        """
        objects: list[S3Object] = []
        below: list[str] = []
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._location.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                if "IsTruncated" not in page:  # in every listing; any other document would pass for an empty bucket
                    raise ResponseParserError
                objects += [_object(found) for found in page.get("Contents", ())]
                below += [found["Prefix"] for found in page.get("CommonPrefixes", ())]
        except _FAILURES as error:
            raise explain(error, self._listing(prefix)) from None
        return objects, below

    def find(self, key: str) -> S3Object | None:
        """Find one object by a listing, so that "not there" differs from "not allowed". Raises as `list_folder`."""
        try:
            page = self._client.list_objects_v2(Bucket=self._location.bucket, Prefix=key, MaxKeys=1)
        except _FAILURES as error:
            raise explain(error, self._listing(key)) from None
        return next((_object(found) for found in page.get("Contents", ()) if found["Key"] == key), None)

    def read(self, key: str) -> Fetched:
        """Return an object's bytes, at most one more than a profile may have.

        Raises ObjectGone, S3Refused, S3Unreachable.
        """
        try:
            for attempt in range(1, _READ_ATTEMPTS + 1):
                answer = self._client.get_object(Bucket=self._location.bucket, Key=key)
                # The SDK tries requests again, but not the reading of a body.
                try:
                    with answer["Body"] as body:
                        return Fetched(body.read(MAX_PROFILE_BYTES + 1), bare_etag(answer.get("ETag")))
                except (sdk.BotoCoreError, http.HTTPError, OSError):
                    if attempt == _READ_ATTEMPTS:
                        raise
            raise AssertionError("the loop returns or raises")
        except sdk.ClientError as error:
            code, failed = error_code(error), self._reading(key)
            if code in {"NoSuchKey", "404"}:
                raise ObjectGone from None
            if code in OBJECT_REFUSED or code.startswith("KMS."):
                return Fetched(refused=refusal(code, failed))
            raise explain(error, failed) from None
        except _FAILURES as error:
            raise explain(error, self._reading(key)) from None

    def write(self, key: str, data: bytes, replaces: str | None) -> str:
        """Put an object in place of the one with the ETag `replaces`, or where there is none; return its ETag.

        Raises ObjectChanged, S3Refused, S3Unreachable.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": f'"{replaces}"'}
        for conditions in (condition, {}):
            try:
                answer = self._client.put_object(Bucket=self._location.bucket, Key=key, Body=data, **conditions)
                return bare_etag(answer.get("ETag"))
            except sdk.ClientError as error:
                code = error_code(error)
                # NoSuchKey: the object that was to be replaced has been deleted.
                if conditions and code in {
                    "PreconditionFailed",
                    "412",
                    "ConditionalRequestConflict",
                    "409",
                    "NoSuchKey",
                }:
                    raise ObjectChanged from None
                if not (conditions and code in {"NotImplemented", "501"}):
                    raise explain(error, self._writing(key)) from None
            except _FAILURES as error:
                raise explain(error, self._writing(key)) from None
        raise AssertionError("the loop returns or raises")

    def _connect(self) -> BotoS3Client:
        config = Config(
            connect_timeout=self._options.connect_timeout_s,
            read_timeout=self._options.read_timeout_s,
            retries={"mode": "standard"},
            max_pool_connections=self._options.workers,
            signature_version="s3v4",
            user_agent_extra="tabfleet",
        )
        verify = self._ca_bundle
        if self._options.extra_ca_file:
            usual = Path(verify or get_cert_path(True) or "").read_bytes()
            # The SDK takes a path, and reads the file for every connection: it lives in memory as long as this does.
            self._authorities = os.fdopen(os.memfd_create("authorities.pem"), "wb", buffering=0)
            self._authorities.write(usual + b"\n" + self._options.extra_authorities())
            verify = f"/proc/self/fd/{self._authorities.fileno()}"
        return self._session.client("s3", config=config, verify=verify)

    def _credentials(self) -> S3Credential:
        found = self._session.get_credentials()
        if found is None:
            raise sdk.NoCredentialsError
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token or None,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_VALID,
        }

    def _listing(self, key: str) -> Attempt:
        permission = f"allow s3:ListBucket on {self._location.arn}, and check the bucket's name"
        return self._attempt("listed", key, permission)

    def _reading(self, key: str) -> Attempt:
        # Without the object's name: this line is also for /ready, which everybody may see.
        return self._attempt("read", key, "allow s3:GetObject on it (and kms:Decrypt, if a KMS key encrypts it)")

    def _writing(self, key: str) -> Attempt:
        return self._attempt(
            "written", key, "allow s3:PutObject on it (and kms:GenerateDataKey, if a KMS key encrypts it)"
        )

    def _attempt(self, done: str, key: str, permission: str) -> Attempt:
        client = getattr(self, "_client", None)
        endpoint = client.meta.endpoint_url if client else ""
        return Attempt(done, self._location.uri(key), permission, endpoint, self._options.read_timeout_s)


def is_direct(url: str) -> bool:
    """Return whether this address is reached without a proxy, by the one meaning of NO_PROXY."""
    return no_proxy_of(os.environ).covers(url)


# botocore asks this one function for S3 and for whatever gives out credentials. Its own goes by Python's rules, which
# know no networks and no "*." and send loopback through the proxy.
botocore.utils.should_bypass_proxies = is_direct


def _object(found: Any) -> S3Object:
    return S3Object(found["Key"], bare_etag(found.get("ETag")), found["Size"])
