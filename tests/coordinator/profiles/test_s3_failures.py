"""Whatever is wrong with S3, the operator gets an exit code and one line that says where, why and what to do."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.coordinator.profiles.support.bucket import Bucket
from tests.coordinator.profiles.support.program import failure, run
from tests.coordinator.profiles.support.relay import FORWARD, error_answer, relay
from tests.coordinator.profiles.support.states import login
from tests.support.s3 import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the role"
NETWORK = "check AWS_ENDPOINT_URL_S3, the region and the network"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fleet(bucket: Bucket) -> Bucket:
    """A bucket that is in order: two profiles and a key."""
    bucket.put(ann=login("ann"), bob=login("bob"))
    bucket.put_keys(b"first-key\n")
    return bucket


def hydrate(environment: dict[str, str]) -> tuple[int, str]:
    return failure(run(["hydrate"], environment))


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What S3 refuses: exit code 4, or 3 if there is nothing


def test_wrong_bucket(fleet: Bucket, cache: Path) -> None:
    environment = fleet.environment(cache, "everywhere", AUTH_PROFILE_S3_BUCKET="nobodys")
    assert hydrate(environment) == (
        4,
        (
            f"s3://nobodys/{fleet.prefix}/active/ cannot be listed: the bucket does not exist (NoSuchBucket);"
            " check AUTH_PROFILE_S3_BUCKET, the region and the endpoint"
        ),
    )


def test_bucket_name_that_cannot_be(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AUTH_PROFILE_S3_BUCKET="not a bucket")) == (
        4,
        (
            f"s3://not a bucket/{fleet.prefix}/active/ cannot be listed: S3 takes no such bucket name;"
            " check AUTH_PROFILE_S3_BUCKET"
        ),
    )


def test_wrong_prefix(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AUTH_PROFILE_S3_PREFIX="elsewhere")) == (
        3,
        "S3 backend configured but no auth profiles downloaded from s3://profiles/elsewhere/active/",
    )


def test_wrong_key_id(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AWS_ACCESS_KEY_ID="AKNOBODY")) == (
        4,
        f"{fleet.uri} cannot be listed: the access key id is unknown (InvalidAccessKeyId); {CREDENTIALS}",
    )


def test_wrong_secret(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AWS_SECRET_ACCESS_KEY="wrong")) == (
        4,
        f"{fleet.uri} cannot be listed: the secret access key is wrong (SignatureDoesNotMatch); {CREDENTIALS}",
    )


def test_no_permission_to_list(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, "cannotlist")) == (
        4,
        (
            f"{fleet.uri} cannot be listed: the credentials are not allowed to (AccessDenied);"
            " allow s3:ListBucket on arn:aws:s3:::profiles, and check the bucket's name"
        ),
    )


def test_no_permission_to_read(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    assert hydrate(bucket.environment(cache, "cannotread")) == (
        4,
        (
            f"{bucket.uri}: no profile can be read: the credentials are not allowed to (AccessDenied);"
            " allow s3:GetObject on it (and kms:Decrypt, if a KMS key encrypts it)"
        ),
    )


def test_no_permission_on_the_key_file_alone(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, "cannotreadkeys")) == (
        4,
        (
            f"s3://profiles/{fleet.prefix}/key.txt cannot be read: the credentials are not allowed to (AccessDenied);"
            " allow s3:GetObject on it (and kms:Decrypt, if a KMS key encrypts it)"
        ),
    )


def test_one_profile_that_may_not_be_read_is_left_out(fleet: Bucket, cache: Path) -> None:
    denied = error_answer(403, "AccessDenied")
    with relay(fleet.server.url, lambda line: denied if "bob.json" in line else FORWARD) as meddling:
        done = run(["check", "--json"], fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
    assert done.returncode == 1
    assert '"bob.json", "cookies": {}, "expires_at": null, "reason": "cannot be read: the credentials' in done.stdout


def test_archived_profile_is_left_out_with_the_cure(fleet: Bucket, cache: Path) -> None:
    archived = error_answer(403, "InvalidObjectState")
    with relay(fleet.server.url, lambda line: archived if "bob.json" in line else FORWARD) as meddling:
        done = run(["check", "--json"], fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
    assert done.returncode == 1
    assert (
        '"reason": "cannot be read: it is archived (InvalidObjectState);'
        ' restore it to a storage class that can be read at once"' in done.stdout
    )


def test_expired_session_token(fleet: Bucket, cache: Path) -> None:
    with relay(fleet.server.url, lambda _line: error_answer(400, "ExpiredToken")) as meddling:
        more = {"AWS_ENDPOINT_URL_S3": meddling.url, "AWS_SESSION_TOKEN": "planted-session-token"}
        result = hydrate(fleet.environment(cache, **more))
    assert result == (
        4,
        f"{fleet.uri} cannot be listed: the session token has expired (ExpiredToken); renew the credentials",
    )


def test_error_that_nobody_knows_is_named_by_its_code_only(fleet: Bucket, cache: Path) -> None:
    with relay(fleet.server.url, lambda _line: error_answer(409, "SomethingNew")) as meddling:
        result = hydrate(fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
    assert result == (
        4,
        (
            f"{fleet.uri} cannot be listed: S3 refuses (SomethingNew);"
            " look up the code in the documentation of your storage"
        ),
    )


def test_no_credentials_at_all(fleet: Bucket, cache: Path) -> None:
    environment = fleet.environment(cache)
    del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    assert hydrate(environment) == (
        4,
        (
            f"{fleet.uri} cannot be listed: there are no AWS credentials;"
            " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role"
        ),
    )


def test_half_of_the_credentials(fleet: Bucket, cache: Path) -> None:
    environment = fleet.environment(cache)
    del environment["AWS_SECRET_ACCESS_KEY"]
    code, line = hydrate(environment)
    assert (code, line) == (4, f"{fleet.uri} cannot be listed: the AWS credentials are incomplete; {CREDENTIALS}")


def test_unknown_aws_profile(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AWS_PROFILE="nobody")) == (
        4,
        (
            f"{fleet.uri} cannot be listed: AWS_PROFILE names a profile that the AWS configuration lacks;"
            " check AWS_PROFILE"
        ),
    )


def test_endpoint_that_is_no_address(fleet: Bucket, cache: Path) -> None:
    assert hydrate(fleet.environment(cache, AWS_ENDPOINT_URL_S3="not an address")) == (
        4,
        f"{fleet.uri} cannot be listed: the endpoint is not an address; check AWS_ENDPOINT_URL_S3",
    )


def test_server_that_does_not_speak_s3(fleet: Bucket, cache: Path) -> None:
    page = b"<html>Welcome</html>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page)
    with relay(fleet.server.url, lambda _line: answer) as meddling:
        result = hydrate(fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
        host = meddling.url.removeprefix("http://")
    assert result == (4, f"{fleet.uri} cannot be listed: {host} does not speak S3; check AWS_ENDPOINT_URL_S3")


# S3 that does not answer, or fails: exit code 5


def test_endpoint_where_nobody_listens(fleet: Bucket, cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        host = f"127.0.0.1:{unused.getsockname()[1]}"
    environment = fleet.environment(cache, AWS_ENDPOINT_URL_S3=f"http://someone:hidden@{host}")
    code, line = hydrate(environment)
    assert (code, line) == (5, f"{fleet.uri} cannot be listed: {host} does not answer; {NETWORK}")


def test_endpoint_that_accepts_and_never_speaks(fleet: Bucket, cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        more = {"AWS_ENDPOINT_URL_S3": f"http://{host}", "AUTH_PROFILE_S3_READ_TIMEOUT_S": "0.5"}
        began = time.monotonic()
        result = hydrate(fleet.environment(cache, **more))
    assert time.monotonic() - began < 20, "three attempts of half a second, and the pauses of the SDK"
    assert result == (
        5,
        (
            f"{fleet.uri} cannot be listed: {host} takes the connection but says nothing for 0.5 seconds"
            f" (AUTH_PROFILE_S3_READ_TIMEOUT_S); {NETWORK}"
        ),
    )


@pytest.fixture
def full_listener() -> Iterator[int]:
    """The port of a socket whose queue is full: further connections get no answer at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


def test_endpoint_that_never_completes_a_connection(fleet: Bucket, cache: Path, full_listener: int) -> None:
    more = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{full_listener}",
        "AUTH_PROFILE_S3_CONNECT_TIMEOUT_S": "0.5",
    }
    began = time.monotonic()
    result = hydrate(fleet.environment(cache, **more))
    assert time.monotonic() - began < 20
    assert result == (5, f"{fleet.uri} cannot be listed: 127.0.0.1:{full_listener} does not answer; {NETWORK}")


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (503, "SlowDown", "throttles requests (SlowDown)"),
        (500, "InternalError", "fails (InternalError)"),
    ],
)
def test_server_in_trouble(fleet: Bucket, cache: Path, status: int, code: str, cause: str) -> None:
    with relay(fleet.server.url, lambda _line: error_answer(status, code)) as meddling:
        result = hydrate(fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
        host = meddling.url.removeprefix("http://")
    assert result == (5, f"{fleet.uri} cannot be listed: {host} {cause}; try again later")
    assert meddling.count("by obstore") == 3
    assert meddling.count("by boto3") == 3, "the SDK's standard number of attempts"


def test_trouble_that_passes_is_not_noticed(fleet: Bucket, cache: Path) -> None:
    answers = [error_answer(503, "SlowDown")]
    with relay(fleet.server.url, lambda _line: answers.pop() if answers else FORWARD) as meddling:
        done = run(["hydrate"], fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
    assert done.returncode == 0


def test_throttled_reading_is_tried_again(fleet: Bucket, cache: Path) -> None:
    answers = [error_answer(503, "SlowDown"), error_answer(500, "InternalError")]

    def meddle(line: str) -> bytes | None:
        return answers.pop() if "bob.json" in line and answers else FORWARD

    with relay(fleet.server.url, meddle) as meddling:
        done = run(["hydrate"], fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url))
    assert (done.returncode, answers) == (0, [])
    assert inside(cache / "current" / "active") == ["ann.json", "bob.json"]


def test_server_killed_in_the_middle_of_a_download_leaves_the_old_set(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as server:
        bucket = Bucket(server, "fleet")
        bucket.put(ann=login("ann"))
        assert run(["hydrate"], bucket.environment(cache)).returncode == 0
        bucket.put(**{f"user{number:03}": login(f"user{number}") for number in range(100)})
        reads = 0

        def kill_at_the_fiftieth(line: str) -> None:
            nonlocal reads
            reads += "active/user" in line
            if reads == 50:
                server.kill()

        with relay(server.url, kill_at_the_fiftieth) as meddling:
            more = {"AWS_ENDPOINT_URL_S3": meddling.url, "AWS_MAX_ATTEMPTS": "1"}
            code, line = hydrate(bucket.environment(cache, **more))
        assert code == 5
        assert line.startswith("s3://profiles/fleet/active/user")
        assert line.endswith("try again later")
    assert inside(cache / "current" / "active") == ["ann.json"]
    assert len(inside(cache / "sets")) == 1, "what was fetched is gone"


def test_program_killed_in_the_middle_of_a_download_leaves_the_old_set(fleet: Bucket, cache: Path) -> None:
    import signal
    import subprocess

    from tests.coordinator.profiles.support.program import COMMAND, ROOT

    assert run(["hydrate"], fleet.environment(cache)).returncode == 0
    fleet.put(**{f"user{number:03}": login(f"user{number}") for number in range(50)})
    running: list[subprocess.Popen[bytes]] = []

    def kill_at_the_end(line: str) -> None:
        if "user049" in line:
            running[0].send_signal(signal.SIGKILL)

    with relay(fleet.server.url, kill_at_the_end) as meddling:
        environment = fleet.environment(cache, AWS_ENDPOINT_URL_S3=meddling.url)
        running.append(subprocess.Popen([*COMMAND, "hydrate"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL))
        assert running[0].wait(30) == -signal.SIGKILL
    assert inside(cache / "current" / "active") == ["ann.json", "bob.json"]
    assert len(inside(cache / "sets")) == 2, "the half of a set that the kill has left"
    assert run(["hydrate"], fleet.environment(cache)).returncode == 0
    assert len(inside(cache / "current" / "active")) == 52
    assert len(inside(cache / "sets")) == 1
