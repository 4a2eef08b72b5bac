"""The S3 server that the tests of profiles share; each test has a prefix of its own in it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from tests.coordinator.profiles.support.bucket import Bucket
from tests.support.s3 import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.s3 import S3Server

_NUMBERS = itertools.count()
IDENTITIES = {
    "everywhere": ["Read", "List"],
    "keepssessions": ["Read:profiles", "List:profiles", "Write:profiles/*/sessions/*"],
    "cannotlist": ["Read:profiles"],
    "cannotread": ["List:profiles"],
    "cannotreadkeys": ["List:profiles", "Read:profiles/*/active/*"],
}


@pytest.fixture(scope="package")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), IDENTITIES) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A prefix of its own in the real bucket, with this process's AWS chain set to read it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AUTH_", "PROFILE_"))]:
        monkeypatch.delenv(name)
    for name, value in s3.credentials().items():
        monkeypatch.setenv(name, value)
    return Bucket(s3, f"fleet-{next(_NUMBERS)}")
