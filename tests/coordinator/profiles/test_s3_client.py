"""Objects are read by obstore, and by boto3 wherever anything is unusual; neither waits longer than it may."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles import S3Location, S3Options
from coordinator.profiles.errors import S3Refused
from coordinator.profiles.s3_client import S3Client
from tests.coordinator.profiles.support.bucket import Bucket
from tests.coordinator.profiles.support.program import ROOT
from tests.coordinator.profiles.support.relay import FORWARD, HANG_UP, Relay, error_answer, relay
from tests.coordinator.profiles.support.states import login
from tests.support.s3 import BUCKET

USERS = tuple(f"user {number}" for number in range(5))
ONE = S3Options(workers=1)
ODD_NAMES = ("with space", "J\xf6rg+(2)~@=,", "\u65e5\u672c", "percent%20")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def five(bucket: Bucket) -> Bucket:
    bucket.put(**{name: login(name.replace(" ", "")) for name in USERS})
    return bucket


def hydrate(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[str], bytes | None]
) -> tuple[int, int]:
    """Hydrate five profiles through a relay; returns how many requests for them obstore has made, and boto3."""
    with relay(bucket.server.url, meddle) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        result = bucket.provider(cache).hydrate()
    assert result.discovery is not None
    assert result.discovery.rejected == ()
    assert len(result.discovery.accepted) == 5
    lines = [line for line in meddling.requests if ".json" in line]
    return sum("by obstore" in line for line in lines), sum("by boto3" in line for line in lines)


def read(
    bucket: Bucket,
    names: Iterable[str],
    monkeypatch: pytest.MonkeyPatch,
    meddle: Callable[[str], bytes | None] = lambda _line: FORWARD,
    options: S3Options = ONE,
) -> tuple[dict[str, bytes], Relay]:
    """What is read through a relay, one object at a time, and what the server saw."""
    with relay(bucket.server.url, meddle) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        keys = [f"{bucket.prefix}/active/{name}.json" for name in names]
        answers = dict(S3Client(S3Location(BUCKET, bucket.prefix), options).read_many(keys))
    return {key.rpartition("/")[2]: answer.data for key, answer in answers.items() if answer}, meddling


# Who reads


def test_usual_answers_are_read_by_obstore(five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hydrate(five, cache, monkeypatch, lambda _line: FORWARD) == (5, 0)


def test_boto3_is_not_loaded_where_plain_variables_say_all_nor_what_reads_and_checks_where_nothing_is_new(
    five: Bucket, cache: Path
) -> None:
    program = (
        "import sys\n"
        "from coordinator.profiles.__main__ import main\n"
        "main(['hydrate'])\n"
        "print([name for name in sys.argv[1:] if name in sys.modules], file=sys.stderr)\n"
    )
    sdk, only_for_new = ("boto3", "botocore"), ("contract.storage_state.schema",)
    for needless in (sdk, (*sdk, *only_for_new)):  # a cold start, then a warm one
        done = subprocess.run(
            [sys.executable, "-c", program, *needless],
            cwd=ROOT,
            env=five.environment(cache),
            capture_output=True,
            text=True,
            check=True,
        )
        assert str(cache) in done.stdout
        assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [
        (error_answer(403, "AccessDenied"), 5),
        (error_answer(503, "SlowDown"), 3),
        (HANG_UP, 3),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nETag: x\r\nConnection: close\r\n\r\n{}", 1),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", 3),
        (b"not HTTP at all\r\n\r\n", 1),
    ],
    ids=["denied", "throttled", "hung up", "chunked", "cut off", "sent elsewhere", "no HTTP"],
)
def test_whatever_is_unusual_is_read_again_by_boto3(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, attempts: int
) -> None:
    by_obstore, by_boto3 = hydrate(
        five, cache, monkeypatch, lambda line: answer if ".json" in line and "by obstore" in line else FORWARD
    )
    assert by_boto3 == 5
    assert by_obstore >= attempts


def test_objects_are_asked_for_by_their_exact_keys(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(**{name: name.encode() for name in ODD_NAMES})
    found, meddling = read(bucket, ODD_NAMES, monkeypatch)
    assert found == {f"{name}.json": name.encode() for name in ODD_NAMES}
    assert meddling.count("by boto3") == 0


def test_key_that_obstore_does_not_take_is_read_by_boto3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(**{"line\nbreak": b"odd", "ann": b"plain"})
    found, meddling = read(bucket, ("line\nbreak", "ann"), monkeypatch)
    assert found == {"line\nbreak.json": b"odd", "ann.json": b"plain"}
    assert (meddling.count("by boto3"), meddling.count("by obstore")) == (1, 1)


def test_listing_with_a_key_that_obstore_does_not_take(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    five.put_as({"active/line\nbreak.txt": b""})
    assert hydrate(five, cache, monkeypatch, lambda _line: FORWARD) == (5, 0)


def test_document_that_is_no_listing_does_not_pass_for_an_empty_bucket(
    five: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = b"<html><body>Welcome</body></html>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page)
    with relay(five.server.url, lambda _line: answer) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        client = S3Client(S3Location(BUCKET, five.prefix), S3Options())
        with pytest.raises(S3Refused, match="does not speak S3"):
            client.list_folder(f"{five.prefix}/active/")


def find_key_file(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[str], bytes | None] = lambda _line: FORWARD
) -> tuple[bool, list[str]]:
    """Whether the key file is found, and by which requests."""
    with relay(bucket.server.url, meddle) as counting:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
        found = S3Client(S3Location(BUCKET, bucket.prefix), S3Options()).find(f"{bucket.prefix}/key.txt")
    return found is not None, [f"{line.split()[0]} {line.rpartition(' ')[2]}" for line in counting.requests]


def test_key_file_that_is_there_is_found_in_one_request(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_keys(b"first-key\n")
    assert find_key_file(bucket, monkeypatch) == (True, ["HEAD obstore"])


def test_that_there_is_no_key_file_is_read_from_a_listing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_key_file(bucket, monkeypatch) == (False, ["HEAD obstore", "GET obstore"])


def test_key_file_that_may_not_be_read_is_there_all_the_same(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_keys(b"first-key\n")
    for name, value in bucket.server.credentials("cannotreadkeys").items():
        monkeypatch.setenv(name, value)
    assert find_key_file(bucket, monkeypatch) == (True, ["HEAD obstore", "GET obstore"])


@pytest.mark.parametrize("there", [True, False])
def test_policy_that_allows_no_other_listing_than_of_the_key_file(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        bucket.put_keys(b"first-key\n")
    denied = error_answer(403, "AccessDenied")
    nothing = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

    def policy(line: str) -> bytes | None:
        if line.startswith("HEAD"):
            return FORWARD if there else nothing  # as AWS answers where it may not say that nothing is there
        return FORWARD if "key.txt" in line else denied

    found, requests = find_key_file(bucket, monkeypatch, policy)
    assert found is there
    assert requests == (["HEAD obstore"] if there else ["HEAD obstore", "GET obstore", "GET boto3"])


@pytest.mark.parametrize("there", [True, False])
def test_key_file_is_looked_for_by_its_name_alone_if_too_much_lies_beside_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    bucket.put_as({f"key.{letter}": b"" for letter in "uvwxyz"})
    if there:
        bucket.put_keys(b"first-key\n")
    monkeypatch.setattr("coordinator.profiles.s3_client._PAGE", 3)
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    found, requests = find_key_file(bucket, monkeypatch, lambda line: missing if line.startswith("HEAD") else FORWARD)
    assert found is there
    assert requests == ["HEAD obstore", "GET obstore", *([] if there else ["GET boto3"])]


def test_obstore_has_its_turn_again_at_the_next_hydration(
    five: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]
    with relay(
        five.server.url, lambda line: HANG_UP if broken[0] and ".json" in line and "by obstore" in line else FORWARD
    ) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        provider = five.provider(cache)
        provider.hydrate()
        broken[0] = False
        five.put(eve=login("eve"))
        provider.hydrate()
    assert [line.rpartition(" ")[2] for line in meddling.requests if "eve.json" in line] == ["obstore"]


def test_panic_in_obstore_is_a_failure_like_any_other(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    class AnyText:
        def fullmatch(self, _text: str) -> bool:
            return True

    monkeypatch.setattr("coordinator.profiles.s3_store._ADDRESS", AnyText())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    with pytest.raises(S3Refused, match="the endpoint is not an address"):
        S3Client(S3Location(BUCKET, bucket.prefix), S3Options()).list_folder(f"{bucket.prefix}/active/")


# Connections


def test_connection_serves_many_requests(five: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    found, meddling = read(five, USERS, monkeypatch)
    assert found == {f"{name}.json": login(name.replace(" ", "")) for name in USERS}
    assert len(meddling.requests) == 5
    # Two where the machine is busy: hyper, below obstore, gives a connection back a moment after the end of its answer,
    # and opens another for a request that comes in between.
    assert meddling.connections in (1, 2)


def test_connection_that_the_server_closes_after_some_answers_is_replaced(
    five: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def hang_up_at_every_third(line: str) -> bytes | None:
        lines.append(line)
        return HANG_UP if len(lines) % 3 == 0 else FORWARD

    found, meddling = read(five, USERS, monkeypatch, hang_up_at_every_third)
    assert (len(found), meddling.count("by boto3")) == (5, 0)
    assert (len(meddling.requests), meddling.connections) == (7, 3)


def test_connection_that_the_server_announces_to_close_is_replaced(
    five: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLast-Modified: Sat, 28 Nov 2026 00:00:00 GMT\r\nETag: x\r\n"
        b"Connection: close\r\n\r\n{}"
    )
    found, meddling = read(five, USERS, monkeypatch, lambda _line: answer)
    assert (len(found), set(found.values())) == (5, {b"{}"})
    assert (meddling.connections, meddling.count("by boto3")) == (5, 0)


@pytest.mark.parametrize("said", [b" ", b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{"], ids=["head", "body"])
def test_server_that_falls_silent_is_given_up_in_time(
    five: Bucket, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    began = time.monotonic()
    found, meddling = read(
        five,
        USERS,
        monkeypatch,
        lambda line: said if "by obstore" in line else FORWARD,
        replace(ONE, read_timeout_s=0.5),
    )
    assert time.monotonic() - began < 20
    assert (len(found), meddling.count("by boto3")) == (5, 5)


def test_no_more_is_read_than_a_profile_may_have(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=login("ann"), huge=b"x" * (MAX_PROFILE_BYTES + 2))
    found, meddling = read(bucket, ("huge", "ann"), monkeypatch)
    assert (len(found["huge.json"]), found["ann.json"]) == (MAX_PROFILE_BYTES + 1, login("ann"))
    assert meddling.count("by boto3") == 0


def test_reading_that_is_closed_early_asks_for_no_more(five: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{five.prefix}/active/{name}.json" for name in USERS]
    with relay(five.server.url) as counting:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
        client = S3Client(S3Location(BUCKET, five.prefix), ONE)
        with closing(client.read_many(keys)) as answers:
            assert next(answers)[0] == keys[0]
        client.list_folder("nothing/")  # over the same connection, so that whatever was under way is over
    assert counting.count(".json") <= 3


HANGING = """
import sys, threading
from coordinator.profiles import S3Location, S3Options
from coordinator.profiles.s3_client import S3Client
client = S3Client(S3Location("profiles"), S3Options(read_timeout_s=600.0))
work = {
    "list": lambda: client.list_folder("active/"),
    "read": lambda: list(client.read_many(["active/ann.json", "active/bob.json"])),
}[sys.argv[1]]
threading.Thread(target=work, daemon=True).start()
sys.stdin.read()
"""


@pytest.mark.parametrize("work", ["list", "read"])
@pytest.mark.parametrize("chain", ["obstore", "boto3"])
def test_exit_does_not_wait_for_a_server_that_hangs(bucket: Bucket, work: str, chain: str) -> None:
    asked, released = threading.Event(), threading.Event()

    def hang(_line: str) -> None:
        asked.set()
        released.wait(60)

    with relay(bucket.server.url, hang) as hanging:
        environment = {"PATH": os.environ["PATH"], **bucket.server.credentials(), "AWS_ENDPOINT_URL_S3": hanging.url}
        if chain == "boto3":
            environment["AWS_CA_BUNDLE"] = "/dev/null"
        with subprocess.Popen(
            [sys.executable, "-c", HANGING, work], cwd=ROOT, env=environment, stdin=subprocess.PIPE
        ) as running:
            assert asked.wait(60)
            began = time.monotonic()
            assert running.stdin is not None
            running.stdin.close()
            assert running.wait(60) == 0
            assert time.monotonic() - began < 20
            released.set()
    assert f"by {chain}" in hanging.requests[0]
