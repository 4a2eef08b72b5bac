"""Reading objects by presigned addresses: a fifth of what the SDK costs per object.

The SDK signs one address; those of other keys are derived from it, and only if the derivation gives the
SDK's own signature for the SDK's own key. So regions, endpoints, roles and tokens stay its business, and so
does whatever is not a plain complete answer: it is read again by the SDK, which retries and reports.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from coordinator.profiles.s3_http import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

    from coordinator.profiles.s3_place import S3Connection

    Take = Callable[[str, bytes, str], object]

_VALID_S: Final = 600
_RENEW_S: Final = 300.0


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
        self.name = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
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


class _Unsigned(Exception):
    """There is no address that is signed as the SDK does it, or it is not to be gone to past the SDK."""


class DirectReader:
    """Reads many objects at a time, in one thread, until something unusual happens, and then never again.

    Threads would take turns at the interpreter for every piece of an answer; that costs more than the reading.
    """

    def __init__(
        self, client: S3Client, session: Session, bucket: str, authorities: str | None, connection: S3Connection
    ) -> None:
        self._client = client
        self._session = session
        self._bucket = bucket
        self._authorities = authorities
        self._limits = connection
        self._usual = True
        self._signer: AddressSigner | None = None
        self._signed_at = 0.0
        self._tls: ssl.SSLContext | None = None

    def read(self, keys: Sequence[str], max_bytes: int, take: Take) -> list[str]:
        """Give `take` each object as it comes: its key, its bytes, its ETag. Return the keys that are left to the SDK.

        At most the first `max_bytes` of each are read. Blocks, and is not for a thread where an event loop runs.
        Raises what `take` raises, and nothing else.
        """
        left = deque(keys)
        addresses = self._addresses(left[0]) if left and self._usual else []
        if addresses:
            asyncio.run(self._read(left, addresses, max_bytes, take))
        return list(left)

    def _addresses(self, key: str) -> list[str]:
        """The server's IP addresses, none if this way is not to be taken."""
        # Looked up here and not by the event loop, whose thread for it would keep the process from ending.
        with suppress(OSError, _Unsigned):
            signer = self._signer_for(key)
            found = socket.getaddrinfo(signer.name, signer.port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))
        return []

    async def _read(self, left: deque[str], addresses: list[str], max_bytes: int, take: Take) -> None:
        count = min(self._limits.connections, len(left))
        await asyncio.gather(*(self._read_over_one(left, addresses, max_bytes, take) for _ in range(count)))

    async def _read_over_one(self, left: deque[str], addresses: list[str], max_bytes: int, take: Take) -> None:
        """Read objects over one connection, and the next one when the server has closed that."""
        while left and self._usual:
            connection = await self._connect(left[0], addresses)
            if connection is None:
                self._usual = False
                return
            try:
                await self._use(connection, left, max_bytes, take)
            finally:
                connection.close()

    async def _use(self, connection: Connection, left: deque[str], max_bytes: int, take: Take) -> None:
        answers = 0
        while left and self._usual and not connection.is_over:
            key = left.popleft()
            try:
                data, etag = await connection.get(self._signer_for(key).target(key), max_bytes)
            except (OSError, EOFError, ValueError, _Unsigned) as error:
                left.append(key)
                # Servers close connections that they have answered on for long.
                if not (answers and isinstance(error, (ConnectionError, EOFError))):
                    self._usual = False
                return
            answers += 1
            take(key, data, etag)

    async def _connect(self, key: str, addresses: list[str]) -> Connection | None:
        for address in addresses:
            with suppress(OSError, _Unsigned):
                signer = self._signer_for(key)
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    streams = await asyncio.open_connection(address, signer.port, **self._tls_options(signer))
                return Connection(*streams, signer.host, self._limits.read_timeout_s)
        return None

    def _tls_options(self, signer: AddressSigner) -> dict[str, Any]:
        if signer.scheme == "http":
            return {}
        self._tls = self._tls or ssl.create_default_context(cafile=self._authorities or get_cert_path(True))
        return {"ssl": self._tls, "server_hostname": signer.name}

    def _signer_for(self, key: str) -> AddressSigner:
        """The signer of now; `key` is any. Raises _Unsigned."""
        if self._signer is None or time.monotonic() - self._signed_at > _RENEW_S:
            self._signer, self._signed_at = self._new_signer(key), time.monotonic()
        return self._signer

    def _new_signer(self, key: str) -> AddressSigner:
        try:
            address = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=_VALID_S
            )
            credentials = self._session.get_credentials()
            if credentials is None or is_proxied(address):
                raise _Unsigned
            return AddressSigner(address, key, credentials.get_frozen_credentials().secret_key or "")
        except (BotoCoreError, ClientError, RuntimeError, ValueError, LookupError):
            raise _Unsigned from None  # the SDK will come upon it too, and say what it is


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
