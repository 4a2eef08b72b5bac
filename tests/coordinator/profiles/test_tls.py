"""S3 behind a certificate of a private authority, as proxies that look into TLS have."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.coordinator.profiles.support.program import failure, run
from tests.coordinator.profiles.support.relay import Relay, relay
from tests.coordinator.profiles.support.states import login
from tests.support.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.coordinator.profiles.support.bucket import Bucket


@dataclass(frozen=True)
class Behind:
    """The address of the server behind TLS, and the authority to trust."""

    relay: Relay
    authority: Path

    @property
    def url(self) -> str:
        return self.relay.url


@pytest.fixture
def behind(bucket: Bucket, tmp_path: Path) -> Iterator[Behind]:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("127.0.0.1"))
    with relay(bucket.server.url, tls=context) as running:
        yield Behind(running, authority.file)


def test_unknown_authority_is_refused_and_never_passed_over(bucket: Bucket, behind: Behind, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"))
    environment = bucket.environment(tmp_path / "cache", AWS_ENDPOINT_URL_S3=behind.url)
    code, line = failure(run(["hydrate", "--auth-profile-allow-stale"], environment))
    host = behind.url.removeprefix("https://")
    assert (code, line) == (
        4,
        (
            f"{bucket.uri} cannot be listed: the certificate of {host} is not trusted;"
            " name its authority in EXTRA_CA_FILE"
        ),
    )


@pytest.mark.parametrize(("variable", "client"), [("EXTRA_CA_FILE", "obstore"), ("AWS_CA_BUNDLE", "boto3")])
def test_authority_that_is_named_is_trusted(
    bucket: Bucket, behind: Behind, tmp_path: Path, variable: str, client: str
) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    more = {"AWS_ENDPOINT_URL_S3": behind.url, variable: str(behind.authority)}
    done = run(["hydrate"], bucket.environment(tmp_path / "cache", **more))
    assert done.returncode == 0, done.stderr
    assert '"fetched": 2' in done.stderr
    assert {line.rpartition(" ")[2] for line in behind.relay.requests} == {client}


@pytest.mark.parametrize(("variables", "client"), [({}, "obstore"), ({"AWS_SKIP_SIGNATURE": "false"}, "boto3")])
def test_a_file_of_authorities_saved_on_windows_is_read(
    bucket: Bucket, behind: Behind, tmp_path: Path, variables: dict[str, str], client: str
) -> None:
    bucket.put(ann=login("ann"))
    behind.authority.write_bytes(b"\xef\xbb\xbf" + behind.authority.read_bytes().replace(b"\n", b"\r\n"))
    more = {"AWS_ENDPOINT_URL_S3": behind.url, "EXTRA_CA_FILE": str(behind.authority), **variables}
    done = run(["check", "--json"], bucket.environment(tmp_path / "cache", **more))
    assert done.returncode == 0, done.stderr
    assert {line.rpartition(" ")[2] for line in behind.relay.requests} == {client}


def test_boto3_trusts_the_extra_authority_too(bucket: Bucket, behind: Behind, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    # A variable that obstore would read by itself leaves everything to boto3.
    more = {"AWS_ENDPOINT_URL_S3": behind.url, "EXTRA_CA_FILE": str(behind.authority), "AWS_SKIP_SIGNATURE": "false"}
    (tmp_path / "temporary").mkdir()
    done = run(["check", "--json"], bucket.environment(tmp_path / "cache", **more, TMPDIR=str(tmp_path / "temporary")))
    assert done.returncode == 0, done.stderr
    assert {line.rpartition(" ")[2] for line in behind.relay.requests} == {"boto3"}
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "cache").exists()
