"""Reading objects by presigned addresses: a fifth of what the SDK costs per object.

The SDK signs one address; those of other keys are derived from it, and only if the derivation gives the
SDK's own signature for the SDK's own key. So regions, endpoints, roles and tokens stay its business, and so
does whatever is not a plain complete answer: it is read again by the SDK, which retries and reports.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlsplit

from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

    from coordinator.profiles.s3_place import S3Connection

_VALID_S: Final = 600
_RENEW_S: Final = 300.0
_OK: Final = 200


class AddressSigner:
    """Presigned addresses of keys in one bucket (Signature Version 4 by query parameters).

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html.
    """

    def __init__(self, address: str, key: str, secret: str) -> None:
        """Take over from an address that the SDK has signed for `key`. Raises ValueError if that cannot be done."""
        parts = urlsplit(address)
        if not parts.path.endswith(_quoted(key)):
            raise ValueError("the address does not end in the key")
        self._before_key = parts.path.removesuffix(_quoted(key))
        fields = sorted(field for field in parts.query.split("&") if not field.startswith("X-Amz-Signature="))
        values = parse_qs(parts.query)
        self._query = "&".join(fields)
        self.scheme = parts.scheme
        self.host = parts.netloc
        self._time = values["X-Amz-Date"][0]
        self._scope = values["X-Amz-Credential"][0].partition("/")[2]
        self._signing_key = _signing_key(secret, self._scope)
        if values["X-Amz-SignedHeaders"] != ["host"] or self._signature(parts.path) != values["X-Amz-Signature"][0]:
            raise ValueError("the SDK signs in another way")

    def target(self, key: str) -> str:
        """What follows ``GET`` for another key: path and query."""
        path = self._before_key + _quoted(key)
        return f"{path}?{self._query}&X-Amz-Signature={self._signature(path)}"

    def _signature(self, path: str) -> str:
        request = f"GET\n{path}\n{self._query}\nhost:{self.host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self._time}\n{self._scope}\n{digest}"
        return hmac.digest(self._signing_key, text.encode(), "sha256").hex()


class DirectReader:
    """Reads until something unusual happens, then never again. Safe for several threads."""

    def __init__(
        self, client: S3Client, session: Session, bucket: str, authorities: str | None, connection: S3Connection
    ) -> None:
        self._client = client
        self._session = session
        self._bucket = bucket
        self._authorities = authorities
        self._timeouts = connection
        self._usual = True
        self._signer: AddressSigner | None = None
        self._signed_at = 0.0
        self._signing = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._idle: list[http.client.HTTPConnection] = []

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """The first `max_bytes` of an object and its ETag, None if the SDK should read it.

        Raises what the SDK raises where it cannot sign.
        """
        signer = self._signer_for(key) if self._usual else None
        answer = self._get(signer, key, max_bytes) if signer else None
        if answer is None:
            self._usual = False
        return answer

    def _signer_for(self, key: str) -> AddressSigner | None:
        with self._signing:
            if self._signer is None or time.monotonic() - self._signed_at > _RENEW_S:
                self._signer, self._signed_at = self._new_signer(key), time.monotonic()
            return self._signer

    def _new_signer(self, key: str) -> AddressSigner | None:
        address = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=_VALID_S
        )
        credentials = self._session.get_credentials()
        secret = credentials.get_frozen_credentials().secret_key if credentials else None
        if secret is None or is_proxied(address):
            return None
        try:
            return AddressSigner(address, key, secret)
        except (ValueError, LookupError):
            return None

    def _get(self, signer: AddressSigner, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        target = signer.target(key)
        while self._idle:  # the server may have closed these in the meantime
            with suppress(OSError, http.client.HTTPException, IndexError):
                return self._ask(self._idle.pop(), target, max_bytes)
        with suppress(OSError, http.client.HTTPException):
            return self._ask(self._connect(signer), target, max_bytes)
        return None

    def _ask(self, connection: http.client.HTTPConnection, target: str, max_bytes: int) -> tuple[bytes, str] | None:
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            data = response.read(max_bytes)
        except BaseException:
            connection.close()
            raise
        whole = len(data) == min(max_bytes, int(response.headers.get("Content-Length", -1)))
        if response.isclosed():
            self._idle.append(connection)
        else:
            connection.close()
        return (data, response.headers.get("ETag", "")) if response.status == _OK and whole else None

    def _connect(self, signer: AddressSigner) -> http.client.HTTPConnection:
        connection = self._unconnected(signer)
        connection.connect()
        connection.sock.settimeout(self._timeouts.read_timeout_s)
        return connection

    def _unconnected(self, signer: AddressSigner) -> http.client.HTTPConnection:
        limit_s = self._timeouts.connect_timeout_s
        if signer.scheme == "http":
            return http.client.HTTPConnection(signer.host, timeout=limit_s)
        self._tls = self._tls or ssl.create_default_context(cafile=self._authorities or get_cert_path(True))
        return http.client.HTTPSConnection(signer.host, timeout=limit_s, context=self._tls)


def is_proxied(address: str) -> bool:
    """Whether HTTP_PROXY, HTTPS_PROXY and NO_PROXY send this address through a proxy; loopback never goes there."""
    host = urlsplit(address).hostname or ""
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return False
    return host != "localhost" and bool(get_environ_proxies(address))


def _quoted(key: str) -> str:
    return quote(key, safe="/-_.~")


def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
