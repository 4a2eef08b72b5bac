"""Reading objects by presigned addresses, at a quarter of the SDK's cost per object.

The SDK signs, so regions, endpoints, roles and tokens are its own business. Whatever is not a plain
complete answer is left to the SDK, which retries and reports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import urllib3
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from coordinator.profiles.s3_place import S3Connection

_VALID_S = 600
OK = 200


class DirectReader:
    """Reads until something unusual happens, then never again. Safe for several threads."""

    def __init__(self, client: S3Client, bucket: str, authorities: str | None, connection: S3Connection) -> None:
        self._client = client
        self._bucket = bucket
        self._usual = not get_environ_proxies(client.meta.endpoint_url)
        self._pool = urllib3.PoolManager(
            maxsize=connection.workers,
            timeout=urllib3.Timeout(connect=connection.connect_timeout_s, read=connection.read_timeout_s),
            ca_certs=authorities or get_cert_path(True),
        )

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """The first `max_bytes` of an object and its ETag, None if the SDK should read it.

        Raises what signing raises: botocore's errors.
        """
        if not self._usual:
            return None
        address = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=_VALID_S
        )
        answer = self._request(address, max_bytes)
        self._usual = self._usual and answer is not None
        return answer

    def _request(self, address: str, max_bytes: int) -> tuple[bytes, str] | None:
        try:
            response = self._pool.request("GET", address, preload_content=False, redirect=False, retries=False)
            try:
                data = response.read(max_bytes)
            finally:
                response.close()  # gives the connection back if the answer was read to its end
        except (urllib3.exceptions.HTTPError, OSError):
            return None
        whole = len(data) == min(max_bytes, int(response.headers.get("Content-Length", -1)))
        return (data, response.headers.get("ETag", "")) if response.status == OK and whole else None
