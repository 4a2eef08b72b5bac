"""The etcd that the tests of a file share; each test has a prefix of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.etcd import Etcd, etcd_server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with etcd_server(tmp_path_factory.mktemp("etcd")) as running:
        yield running
