"""Opening a bucket with obstore, the Rust object_store: a fraction of boto3's CPU for each object.

obstore must see exactly what botocore would: endpoint, region, style of addressing, credentials. They come from
plain environment variables where nothing else can have a say (loading boto3 takes a third of a second), else
from boto3's own resolution. Where obstore cannot be told to do as botocore does, there is no store, and boto3 reads.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from obstore.store import S3Store

from coordinator.profiles.s3_types import S3Options

if TYPE_CHECKING:  # in obstore's stubs only
    from obstore.store import S3Credential

_ATTEMPTS: Final = 3
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LABEL: Final = re.compile(r"[a-z0-9-]{1,63}")
_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
# Regions of the aws partition; the others have domains of their own, which botocore knows.
_AWS_REGION: Final = re.compile(r"(af|ap|ca|eu|il|me|mx|sa|us)-[a-z]{4,12}-[0-9]")
_CONFIGURATION_FILES: Final = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
)
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_PLAIN: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_STS",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_REGION",
        "AWS_RETRY_MODE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
"""Variables that leave everything to the environment, read here as botocore reads them."""
_RESOLVED_BY_BOTO: Final = _PLAIN | {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
}
"""Variables whose effect boto3's session has taken into what it hands over.

obstore reads variables too (``AWS_SKIP_SIGNATURE``, ``AWS_PROXY_URL``, ``AWS_ALLOW_INVALID_CERTIFICATES``), and some
of botocore's have no counterpart there (``AWS_CA_BUNDLE``): with any that is not listed here, boto3 reads.
"""


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket is: with `virtual_hosted`, `url` holds its name."""

    url: str
    region: str
    virtual_hosted: bool


def endpoint_from_environment(bucket: str, region: str | None, environment: Mapping[str, str]) -> Endpoint | None:
    """Return the endpoint that plain variables name, None where it takes botocore to say.

    Source of the rules: botocore/configprovider.py (ConfiguredEndpointProvider) and botocore/args.py.
    """
    names = {name for name in environment if name.startswith("AWS_")}
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if names - _PLAIN or not all(environment.get(name) for name in keys) or _has_configuration(environment):
        return None
    region = region or environment.get("AWS_DEFAULT_REGION")
    if region and not _LABEL.fullmatch(region):  # botocore refuses it
        return None
    url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if url:
        return Endpoint(url, region or "us-east-1", virtual_hosted=False)
    if region is None or not _AWS_REGION.fullmatch(region):
        return None
    # A wildcard certificate covers one label, so a bucket with dots in its name is a part of the path.
    host = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
    if "." in bucket:
        return Endpoint(f"https://{host}", region, virtual_hosted=False)
    return Endpoint(f"https://{bucket}.{host}", region, virtual_hosted=True)


def endpoint_of_request(url: str, authorization: str, bucket: str, key: str) -> Endpoint | None:
    """Return the endpoint of a request that botocore has signed for `key`, None if obstore cannot make the like.

    `authorization` is the header of Signature Version 4:
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html.
    """
    scope = re.match(r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]+/([^/]+)/s3/aws4_request,", authorization)
    if scope is None:  # e.g. S3 Express, and access points of several regions
        return None
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.path == f"/{bucket}/{key}":
        return Endpoint(base, scope[1], virtual_hosted=False)
    if parts.path == f"/{key}" and parts.netloc.startswith(f"{bucket}."):
        return Endpoint(base, scope[1], virtual_hosted=True)
    return None


def open_store(
    bucket: str, endpoint: Endpoint, credentials: Callable[[], S3Credential], options: S3Options
) -> S3Store | None:
    """Open the bucket, None where obstore would not do as botocore does. Does no I/O but reads the extra CA."""
    if any(name.startswith("AWS_") and name not in _RESOLVED_BY_BOTO for name in os.environ):
        return None
    # obstore reads these variables by rules of its own; loopback in particular is never to be proxied.
    if any(value and name.lower() in _PROXIES for name, value in os.environ.items()):
        return None
    # obstore panics at some addresses that are none; S3 Express (``--x-s3``) is signed in another way.
    if not _BUCKET.fullmatch(bucket) or bucket.endswith("--x-s3") or not _ADDRESS.fullmatch(endpoint.url):
        return None
    try:
        return S3Store(
            bucket,
            config={
                "aws_endpoint_url_s3": endpoint.url.rstrip("/"),  # before a variable of that name
                "region": endpoint.region,
                "virtual_hosted_style_request": endpoint.virtual_hosted,
            },
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=options.connect_timeout_s),
                "read_timeout": timedelta(seconds=options.read_timeout_s),
                # The whole of a request, 30 s by default: silence is what is limited, not a slow network.
                "timeout": timedelta(days=1),
                "user_agent": "tabfleet",
                **({"root_certificate": options.extra_authorities()} if options.extra_ca_file else {}),
            },
            # A server that is silent is not asked again: boto3 is going to do that.
            retry_config={
                "max_retries": _ATTEMPTS - 1,
                "retry_timeout": timedelta(seconds=min(options.connect_timeout_s, options.read_timeout_s)),
            },
            credential_provider=credentials,
        )
    except Exception:  # noqa: BLE001 - whatever it does not take, boto3 is to explain
        return None


def credentials_of_environment() -> S3Credential:
    """Return the keys in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."""
    return {
        "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "token": os.environ.get("AWS_SESSION_TOKEN") or None,
        "expires_at": None,
    }


def _has_configuration(environment: Mapping[str, str]) -> bool:
    """Return whether an AWS configuration file says anything, which may be a region, an endpoint or a CA."""
    for variable, usual in _CONFIGURATION_FILES:
        try:
            path = Path(environment.get(variable) or usual).expanduser()
            status = Path(os.path.expandvars(path)).stat()
        except FileNotFoundError:
            continue
        except (OSError, RuntimeError):  # botocore is to explain it
            return True
        is_empty = stat.S_ISREG(status.st_mode) and not status.st_size
        if not (is_empty or stat.S_ISCHR(status.st_mode)):  # /dev/null is how people switch such a file off
            return True
    return False
