"""What the AWS chain resolves to is where obstore goes, with the same keys; else boto3 reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.utils import get_environ_proxies

from coordinator.profiles import S3Location, S3Options
from coordinator.profiles.s3_boto import BotoBucket
from coordinator.profiles.s3_store import (
    Endpoint,
    credentials_of_environment,
    endpoint_from_environment,
    open_store,
)
from tests.coordinator.profiles.support.bucket import Bucket
from tests.coordinator.profiles.support.program import failure, run
from tests.coordinator.profiles.support.relay import Relay, error_answer, relay
from tests.coordinator.profiles.support.states import login
from tests.support.s3 import secret_of

PLAIN = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret"}
EU = {"AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def seen(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The way to the bucket, in which there is one profile."""
    bucket.put(ann=login("ann"))
    with relay(bucket.server.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


def readers(bucket: Bucket, cache: Path, seen: Relay) -> set[str]:
    """Hydrate; returns which of the two clients have made requests of the bucket."""
    result = bucket.provider(cache).hydrate()
    assert [path.name for path in result.profiles_dir.iterdir()] == ["ann.json"]
    return {line.rpartition(" ")[2] for line in seen.requests}


# Endpoints


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a word about AWS or proxies, but for plain keys."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in PLAIN.items():
        monkeypatch.setenv(name, value)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, os.devnull)
    return monkeypatch


@pytest.mark.parametrize("bucket_name", ["profiles", "my.profiles"])
@pytest.mark.parametrize(
    "variables",
    [
        EU,
        {"AWS_DEFAULT_REGION": "us-east-1"},
        {"AWS_DEFAULT_REGION": "ap-southeast-2", "AWS_SESSION_TOKEN": "a/token+with=signs"},
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"},
        {"AWS_ENDPOINT_URL": "https://minio.example.com", **EU},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "https://minio.example.com:9000", **EU},
        {"AWS_ENDPOINT_URL_S3": "", **EU},
    ],
)
def test_plain_variables_are_read_as_botocore_reads_them(
    clean: pytest.MonkeyPatch, variables: dict[str, str], bucket_name: str
) -> None:
    for name, value in variables.items():
        clean.setenv(name, value)
    ours = endpoint_from_environment(bucket_name, None, os.environ)
    assert ours == _endpoint_of_botocore(bucket_name)
    assert ours is not None


def _endpoint_of_botocore(bucket_name: str) -> Endpoint | None:
    return BotoBucket(S3Location(bucket_name), S3Options()).endpoint()


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_PROFILE": "other", **EU},
        {"AWS_CONFIG_FILE": "/etc/hostname", **EU},
        {"AWS_SHARED_CREDENTIALS_FILE": "/etc/hostname", **EU},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true", **EU},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", **EU},
        {"AWS_SECRET_ACCESS_KEY": "", **EU},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_DEFAULT_REGION": "Not A Region"},
        {},
    ],
)
def test_everything_else_is_left_to_botocore(clean: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        clean.setenv(name, value)
    assert endpoint_from_environment("profiles", None, os.environ) is None


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (
            "region=eu-west-1\ns3=\n addressing_style=path\n",
            Endpoint("https://s3.eu-west-1.amazonaws.com", "eu-west-1", virtual_hosted=False),
        ),
        (
            "region=cn-north-1\n",
            Endpoint("https://profiles.s3.cn-north-1.amazonaws.com.cn", "cn-north-1", virtual_hosted=True),
        ),
        (
            "region=eu-west-1\nuse_dualstack_endpoint=true\n",
            Endpoint("https://profiles.s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1", virtual_hosted=True),
        ),
        (
            "region=eu-west-1\nendpoint_url=http://minio.example.com:9000\ns3=\n addressing_style=virtual\n",
            Endpoint("http://profiles.minio.example.com:9000", "eu-west-1", virtual_hosted=True),
        ),
        (
            "region=eu-west-1\nservices=mine\n[services mine]\ns3=\n endpoint_url=https://minio.example.com\n",
            Endpoint("https://minio.example.com", "eu-west-1", virtual_hosted=False),
        ),
        (
            "region=eu-west-1\nendpoint_url=http://127.0.0.1:9\nignore_configured_endpoint_urls=true\n",
            Endpoint("https://profiles.s3.eu-west-1.amazonaws.com", "eu-west-1", virtual_hosted=True),
        ),
    ],
    ids=["path style", "another partition", "dual stack", "virtual host", "service's endpoint", "ignored endpoint"],
)
def test_configuration_file_is_resolved_by_botocore(
    clean: pytest.MonkeyPatch, tmp_path: Path, configuration: str, expected: Endpoint
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{configuration}")
    clean.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert endpoint_from_environment("profiles", None, os.environ) is None
    assert _endpoint_of_botocore("profiles") == expected


def test_own_bucket_and_endpoint_of_an_access_point_are_left_to_boto3(clean: pytest.MonkeyPatch) -> None:
    name = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    clean.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert _endpoint_of_botocore(name) is None


@pytest.mark.parametrize(
    ("bucket_name", "url"),
    [
        ("profiles", "not an address"),
        ("profiles", "http://someone:hidden@127.0.0.1:9000"),
        ("profiles", "http://127.0.0.1:9000/below"),
        ("not a bucket", "http://127.0.0.1:9000"),
        ("Capitals_of_old", "http://127.0.0.1:9000"),
        ("zonal--use1-az4--x-s3", "http://127.0.0.1:9000"),
    ],
)
def test_odd_names_and_addresses_are_left_to_boto3(clean: pytest.MonkeyPatch, bucket_name: str, url: str) -> None:
    clean.setenv("AWS_REGION", "eu-west-1")
    endpoint = Endpoint(url, "eu-west-1", virtual_hosted=False)
    assert open_store(bucket_name, endpoint, credentials_of_environment, S3Options()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_ALLOW_INVALID_CERTIFICATES", "true"),
        ("AWS_PROXY_URL", "http://127.0.0.1:9"),
        ("AWS_CA_BUNDLE", "/etc/hostname"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("all_proxy", "http://127.0.0.1:9"),
    ],
)
def test_variables_that_the_two_read_differently_are_left_to_boto3(
    clean: pytest.MonkeyPatch, name: str, value: str
) -> None:
    clean.setenv(name, value)
    endpoint = Endpoint("http://127.0.0.1:9000", "eu-west-1", virtual_hosted=False)
    assert open_store("profiles", endpoint, credentials_of_environment, S3Options()) is None


def test_variables_have_no_say_over_what_was_resolved(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=login("ann"))
    endpoint = Endpoint(bucket.server.url, "us-east-1", virtual_hosted=False)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_DEFAULT_REGION": "Not A Region",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/etc/hostname",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
    }.items():
        monkeypatch.setenv(name, value)
    store = open_store("profiles", endpoint, credentials_of_environment, S3Options())
    assert store is not None
    assert store.config.get("region") == "us-east-1"
    assert bytes(store.get(f"{bucket.prefix}/active/ann.json").bytes()) == login("ann")


# Keys


def test_keys_and_endpoint_in_files_are_handed_to_obstore(
    bucket: Bucket, cache: Path, seen: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        f"[profile mine]\nregion=us-east-1\naws_access_key_id=AKREADER\naws_secret_access_key={secret_of('reader')}\n"
        f"endpoint_url={seen.url}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert readers(bucket, cache, seen) == {"obstore"}


def test_keys_of_a_container_are_handed_to_obstore(
    bucket: Bucket, cache: Path, seen: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(
        {
            "AccessKeyId": "AKREADER",
            "SecretAccessKey": secret_of("reader"),
            "Token": "",
            "Expiration": "2100-01-01T00:00:00Z",
        }
    )
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with relay(bucket.server.url, lambda _line: answer) as metadata:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/keys")
        assert readers(bucket, cache, seen) == {"obstore"}
    assert metadata.count("/keys") == 1


def test_keys_of_a_web_identity_are_handed_to_obstore(
    bucket: Bucket, cache: Path, seen: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("a.web.token")
    answer = sts_answer("AssumeRoleWithWebIdentity", "AKREADER", secret_of("reader"), "", "2100-01-01T00:00:00Z")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with relay(bucket.server.url, lambda _line: answer) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        assert readers(bucket, cache, seen) == {"obstore"}
    assert sts.count("POST / ") == 1


def test_keys_are_asked_for_again_before_they_expire(role: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = sts_answer("AssumeRole", "AKROLE", "s", "t", "2100-01-01T00:00:00Z")
    with relay(role.server.url, lambda _line: answer) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        given = BotoBucket(S3Location("profiles"), S3Options("eu-central-1"))._credentials()
    assert (given["access_key_id"], given["secret_access_key"], given.get("token")) == ("AKROLE", "s", "t")
    assert given["expires_at"] is not None
    assert 0 < (given["expires_at"] - datetime.now(UTC)).total_seconds() <= 300


# Roles


def sts_answer(action: str, key: str, secret: str, token: str, expiration: str) -> bytes:
    """What STS says to a role that is taken on."""
    body = (
        f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId>"
        f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
        f"<Expiration>{expiration}</Expiration></Credentials></{action}Result></{action}Response>"
    )
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
def role(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An AWS configuration that takes on a role and has no keys of its own."""
    (tmp_path / "config").write_text(
        "[profile r]\nrole_arn=arn:aws:iam::1:role/r\nsource_profile=base\n"
        "[profile base]\naws_access_key_id=AKBASE\naws_secret_access_key=s\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "r")
    return bucket


def test_role_that_cannot_be_taken_on_is_named(role: Bucket, cache: Path) -> None:
    with relay(role.server.url, lambda _line: error_answer(403, "AccessDenied")) as sts:
        done = run(["hydrate"], {**os.environ, **_settings(role, cache), "AWS_ENDPOINT_URL_STS": sts.url})
    code, line = failure(done)
    assert code == 4
    assert line.startswith(
        f"{role.uri} cannot be listed: the role cannot be taken on (AssumeRole: AccessDenied); check AWS_ACCESS_KEY_ID"
    )
    assert sts.count("POST / ") == 1


def test_role_without_a_region_is_named(role: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    nowhere = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"}
    code, line = failure(run(["hydrate"], {**os.environ, **_settings(role, cache), **nowhere}))
    assert (code, line) == (
        4,
        f"{role.uri} cannot be listed: there is no AWS region; set AUTH_PROFILE_S3_REGION or AWS_REGION",
    )


def test_silence_of_another_service_is_not_blamed_on_s3(role: Bucket, cache: Path) -> None:
    nowhere = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"}
    code, line = failure(run(["hydrate"], {**os.environ, **_settings(role, cache), **nowhere}))
    assert code == 5
    assert line.startswith(f"{role.uri} cannot be listed: 127.0.0.1:9 does not answer;")


def test_role_whose_new_credentials_have_expired_too_is_refused_in_one_line(role: Bucket, cache: Path) -> None:
    answer = sts_answer("AssumeRole", "AKROLE", "s", "t", "2001-01-01T00:00:00Z")
    with relay(role.server.url, lambda _line: answer) as sts:
        done = run(["hydrate"], {**os.environ, **_settings(role, cache), "AWS_ENDPOINT_URL_STS": sts.url})
    code, line = failure(done)
    assert code == 4
    assert line.startswith(f"{role.uri} cannot be listed: the AWS SDK failed (RuntimeError)")


def _settings(bucket: Bucket, cache: Path) -> dict[str, str]:
    given = bucket.environment(cache)
    return {name: value for name, value in given.items() if name.startswith(("AUTH_", "PROFILE_"))}


# Proxies


def test_loopback_is_never_proxied(bucket: Bucket, cache: Path, seen: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert readers(bucket, cache, seen) == {"boto3"}


def test_other_hosts_are_reached_through_the_proxy(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"))
    with relay(bucket.server.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.nowhere.invalid")
        assert readers(bucket, cache, proxy) == {"boto3"}
    lines = [line for line in proxy.requests if ".json" in line]
    assert len(lines) == 1
    assert lines[0].startswith("GET http://s3.nowhere.invalid/profiles/")


@pytest.mark.parametrize(
    ("address", "proxied"),
    [
        ("https://s3.eu-central-1.amazonaws.com/x", True),
        ("https://s3.inside.example/x", False),
        ("https://s3.star.example/x", False),
        ("https://10.1.2.3:9000/x", False),
        ("https://11.1.2.3:9000/x", True),
        ("https://127.0.0.1:9000/x", False),
        ("https://[::1]:9000/x", False),
        ("https://localhost:9000/x", False),
        ("http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_botocore_goes_by_the_one_meaning_of_no_proxy(clean: pytest.MonkeyPatch, address: str, proxied: bool) -> None:
    for name in ("http_proxy", "https_proxy"):
        clean.setenv(name, "http://proxy.example:3128")
    clean.setenv("NO_PROXY", ".inside.example, *.star.example, 10.0.0.0/8")
    assert bool(get_environ_proxies(address)) is proxied


def test_an_endpoint_in_a_network_of_no_proxy_is_reached_directly(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("https_proxy", "http://proxy.example:3128")
    clean.setenv("NO_PROXY", "10.0.0.0/8")
    for host, proxied in (("10.1.2.3", False), ("11.1.2.3", True)):
        clean.setenv("AWS_ENDPOINT_URL_S3", f"https://{host}:9000")
        bucket = BotoBucket(S3Location("profiles", ""), S3Options(region="eu-west-1"))
        proxies = bucket._client._endpoint.http_session._proxy_config._proxies  # type: ignore[attr-defined]
        assert bool(proxies) is proxied
