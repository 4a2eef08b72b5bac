"""The short cut past the SDK: exactly the SDK's signatures, and the SDK itself whenever anything is unusual."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles import S3Connection, S3Place, verdicts
from coordinator.profiles.s3_bucket import Fetched, S3Bucket
from coordinator.profiles.s3_direct import AddressSigner, is_proxied
from tests.coordinator.profiles_support.program import failure, run
from tests.coordinator.profiles_support.relay import FORWARD, HANG_UP, Relay, error_answer, relay
from tests.coordinator.profiles_support.states import cookie, login, state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.coordinator.profiles_support.bucket import Bucket

USERS = tuple(f"user {number}" for number in range(5))
SECRET = "secret-of-the-signer"
ONE = S3Connection(connections=1)
KEYS = (
    "active/ann.json",
    "p/active/with space.json",
    "p/active/J\xf6rg+(2)~@=,.json",
    "p/active/\u65e5\u672c.json",
    "p/active/percent%20.json",
    "key.txt",
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# Signatures


@pytest.fixture(params=["virtual host", "path", "own endpoint", "session token"])
def sdk(request: pytest.FixtureRequest) -> S3Client:
    """A client of the SDK in each way of writing addresses; it makes no request."""
    styles = {"virtual host": "virtual", "path": "path"}
    client: S3Client = boto3.session.Session().client(
        "s3",
        region_name="eu-central-1",
        endpoint_url="http://127.0.0.1:9000" if request.param == "own endpoint" else None,
        aws_access_key_id="AKSIGNER",
        aws_secret_access_key=SECRET,
        aws_session_token="a/token+with=signs" if request.param == "session token" else None,
        config=Config(signature_version="s3v4", s3={"addressing_style": styles.get(request.param, "auto")}),  # type: ignore[arg-type]
    )
    return client


def presign(client: S3Client, key: str) -> str:
    return client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": key}, ExpiresIn=600)


def test_derived_addresses_are_those_of_the_sdk(sdk: S3Client) -> None:
    for template in KEYS:
        signer = AddressSigner(presign(sdk, template), template, SECRET)
        for key in KEYS:
            derived, signed = _in_one_second(sdk, template, key)
            assert derived == signed
        assert signer.host in presign(sdk, template)


def _in_one_second(sdk: S3Client, template: str, key: str) -> tuple[str, str]:
    """What is derived from an address, and what the SDK makes, both of the same second."""
    while True:
        first, second = presign(sdk, template), presign(sdk, key)
        if _time(first) == _time(second):
            signer = AddressSigner(first, template, SECRET)
            return _parts(f"{signer.scheme}://{signer.host}{signer.target(key)}"), _parts(second)


def _time(address: str) -> str:
    found = re.search(r"X-Amz-Date=(\w+)", address)
    assert found
    return found[1]


def _parts(address: str) -> str:
    before, _, query = address.partition("?")
    return f"{before}?{'&'.join(sorted(query.split('&')))}"


def test_wrong_secret_is_noticed_before_it_is_used(sdk: S3Client) -> None:
    with pytest.raises(ValueError, match="the SDK signs in another way"):
        AddressSigner(presign(sdk, KEYS[0]), KEYS[0], "rotated")


def test_address_of_another_key_is_noticed(sdk: S3Client) -> None:
    with pytest.raises(ValueError, match="the address does not end in the key"):
        AddressSigner(presign(sdk, KEYS[0]), KEYS[1], SECRET)


# When it is taken


def directly(lines: list[str]) -> int:
    return sum("X-Amz-Signature=" in line for line in lines)


def hydrate(
    bucket: Bucket, cache: Path, meddle: Callable[[str], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Hydrate through a relay; returns the requests for profiles."""
    with relay(bucket.server.url, meddle) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        result = bucket.provider(cache).hydrate()
    assert result.discovery is not None
    assert result.discovery.rejected == ()
    assert len(result.discovery.accepted) == 5
    return [line for line in meddling.requests if ".json" in line]


@pytest.fixture
def five(bucket: Bucket) -> Bucket:
    bucket.put(**{name: login(name.replace(" ", "")) for name in USERS})
    return bucket


def test_usual_answers_are_read_directly(five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directly(hydrate(five, cache, lambda _line: FORWARD, monkeypatch)) == 5


@pytest.mark.parametrize(
    "answer",
    [
        error_answer(403, "AccessDenied"),
        error_answer(503, "SlowDown"),
        HANG_UP,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"not HTTP at all\r\n\r\n",
    ],
    ids=["denied", "throttled", "hung up", "chunked", "cut off", "sent elsewhere", "no HTTP"],
)
def test_whatever_is_unusual_is_left_to_the_sdk(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    lines = hydrate(five, cache, lambda line: answer if "X-Amz-Signature=" in line else FORWARD, monkeypatch)
    assert 1 <= directly(lines) <= 5
    assert len(lines) - directly(lines) == 5


# Connections


def read_directly(
    bucket: Bucket,
    names: Iterable[str],
    monkeypatch: pytest.MonkeyPatch,
    meddle: Callable[[str], bytes | None] = lambda _line: FORWARD,
    connection: S3Connection = ONE,
) -> tuple[dict[str, bytes], list[str], Relay]:
    """What is read past the SDK by one connection at a time, what is left to the SDK, and what the server saw."""
    found: dict[str, bytes] = {}
    with relay(bucket.server.url, meddle) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        keys = [f"{bucket.prefix}/active/{name}.json" for name in names]
        reader = S3Bucket(S3Place("profiles", bucket.prefix), connection)
        left = reader.read_many(keys, lambda key, answer: found.update({key.rpartition("/")[2]: answer.data}))
    return found, left, meddling


def test_connection_serves_many_requests(five: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    found, left, meddling = read_directly(five, USERS, monkeypatch)
    assert found == {f"{name}.json": login(name.replace(" ", "")) for name in USERS}
    assert (left, len(meddling.requests), meddling.connections) == ([], 5, 1)


def test_connection_that_the_server_closes_after_some_answers_is_replaced(
    five: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def hang_up_at_every_third(line: str) -> bytes | None:
        lines.append(line)
        return HANG_UP if len(lines) % 3 == 0 else FORWARD

    found, left, meddling = read_directly(five, USERS, monkeypatch, hang_up_at_every_third)
    assert (len(found), left) == (5, [])
    assert (len(meddling.requests), meddling.connections) == (7, 3)


def test_connection_that_the_server_announces_to_close_is_replaced(
    five: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    found, left, meddling = read_directly(five, USERS, monkeypatch, lambda _line: answer)
    assert (set(found.values()), left, meddling.connections) == ({b"{}"}, [], 5)


@pytest.mark.parametrize("said", [b" ", b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{"], ids=["head", "body"])
def test_server_that_falls_silent_is_left_to_the_sdk(
    five: Bucket, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    found, left, _ = read_directly(five, USERS, monkeypatch, lambda _line: said, replace(ONE, read_timeout_s=0.2))
    assert (found, len(left)) == ({}, 5)


def test_no_more_is_read_than_a_profile_may_have(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=login("ann"), huge=b"x" * (MAX_PROFILE_BYTES + 2))
    found, left, _ = read_directly(bucket, ("huge", "ann"), monkeypatch)
    assert (len(found["huge.json"]), found["ann.json"], left) == (MAX_PROFILE_BYTES + 1, login("ann"), [])


def test_first_failure_to_keep_an_object_ends_it(five: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_key: str, _answer: Fetched) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    keys = [f"{five.prefix}/active/{name}.json" for name in USERS]
    with pytest.raises(OSError, match="No space left"):
        S3Bucket(S3Place("profiles", five.prefix), S3Connection()).read_many(keys, full)


# Proxies


def test_loopback_is_never_proxied(five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert directly(hydrate(five, cache, lambda _line: FORWARD, monkeypatch)) == 5


def test_other_hosts_are_reached_through_the_proxy_by_the_sdk(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with relay(five.server.url) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.nowhere.invalid")
        result = five.provider(cache).hydrate()
    assert result.discovery is not None
    assert len(result.discovery.accepted) == 5
    lines = [line for line in proxy.requests if ".json" in line]
    assert (len(lines), directly(lines)) == (5, 0)
    assert all(line.startswith("GET http://s3.nowhere.invalid/profiles/") for line in lines)


@pytest.mark.parametrize(
    ("address", "proxied"),
    [
        ("https://s3.eu-central-1.amazonaws.com/x", True),
        ("https://s3.inside.example/x", False),
        ("https://127.0.0.1:9000/x", False),
        ("https://[::1]:9000/x", False),
        ("https://localhost:9000/x", False),
    ],
)
def test_proxy_is_for_other_hosts_but_those_in_no_proxy(
    monkeypatch: pytest.MonkeyPatch, address: str, proxied: bool
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", ".inside.example")
    assert is_proxied(address) is proxied


# Roles


ROLE = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>AKROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>%b</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""


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


def _settings(bucket: Bucket, cache: Path) -> dict[str, str]:
    given = bucket.environment(cache)
    return {name: value for name, value in given.items() if name.startswith(("AUTH_", "PROFILE_"))}


@pytest.mark.parametrize(
    ("expiration", "to_be_renewed"), [(b"2001-01-01T00:00:00Z", True), (b"2100-01-01T00:00:00Z", False)]
)
def test_expiry_of_a_role_is_understood(
    role: Bucket, monkeypatch: pytest.MonkeyPatch, expiration: bytes, to_be_renewed: bool
) -> None:
    body = ROLE % expiration
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with relay(role.server.url, lambda _line: answer) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        session = S3Bucket(S3Place("profiles"), S3Connection("eu-central-1"))._direct._session
        credentials = session.get_credentials()
        assert credentials is not None
        if not to_be_renewed:
            assert credentials.access_key == "AKROLE"
            assert not credentials.refresh_needed()  # type: ignore[attr-defined]
        else:
            with pytest.raises(RuntimeError, match="refreshed credentials are still expired"):
                _ = credentials.access_key


def test_role_whose_new_credentials_have_expired_too_is_refused_in_one_line(role: Bucket, cache: Path) -> None:
    body = ROLE % b"2001-01-01T00:00:00Z"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with relay(role.server.url, lambda _line: answer) as sts:
        done = run(["hydrate"], {**os.environ, **_settings(role, cache), "AWS_ENDPOINT_URL_STS": sts.url})
    code, line = failure(done)
    assert code == 4
    assert line.startswith(f"{role.uri} cannot be listed: the AWS SDK failed (RuntimeError)")


# Verdicts kept in the cache


def test_checked_profiles_are_not_checked_again_by_the_next_process(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = five.provider(cache).hydrate()
    monkeypatch.setattr("coordinator.profiles.s3.examine", None)
    assert five.provider(cache).hydrate().discovery == first.discovery


def test_they_are_checked_again_when_the_checks_have_changed(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    five.provider(cache).hydrate()
    monkeypatch.setattr(verdicts, "_digest_of_checks", lambda: "other checks")
    assert verdicts.load(cache / "current") == {}


@pytest.mark.parametrize(
    "notes", [b"", b"[]", b"{}", b'{"checks": 1}', b"\xff", b'{"checks": "%b", "states": {"a": [1]}}']
)
def test_damaged_notes_are_as_none(five: Bucket, cache: Path, notes: bytes) -> None:
    first = five.provider(cache).hydrate()
    content = notes % verdicts._digest_of_checks().encode() if b"%b" in notes else notes
    (cache / "current" / verdicts.VERDICTS).write_bytes(content)
    assert verdicts.load(cache / "current") == {}
    assert five.provider(cache).hydrate().discovery == first.discovery


def test_notes_of_other_checks_are_replaced(five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(verdicts, "_digest_of_checks", lambda: "checks of an earlier version")
        five.provider(cache).hydrate()
    assert verdicts.load(cache / "current") == {}
    five.provider(cache).hydrate()
    assert len(verdicts.load(cache / "current")) == 5
    assert len(list((cache / "sets").iterdir())) == 1


def test_expiry_is_judged_anew_each_time(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=state(cookie(expires=4_000_000_000)), bob=login("bob"))
    bucket.provider(cache).hydrate()
    monkeypatch.setattr("coordinator.profiles.s3.time.time", lambda: 4_000_000_001.0)
    result = bucket.provider(cache).hydrate()
    assert [path.name for path in result.profiles_dir.iterdir()] == ["bob.json"]


def test_notes_hold_no_secret(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.provider(cache).hydrate()
    notes = (cache / "current" / verdicts.VERDICTS).read_text()
    assert "chat.example.com" in notes
    assert "token-of-ann" not in notes
