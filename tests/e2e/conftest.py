"""Fixtures: one site and one fleet shared by the tests that leave them unchanged.

They end with the tests of this folder: what goes on beside others costs them time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, Site, demo_site, fleet, log_in_by_request


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """Run the shared demo site."""
    with demo_site() as running:
        yield running


@pytest.fixture
def empty_tmp() -> Iterator[Path]:
    """Yield an empty folder for TMPDIR, with a short path as operators have it."""
    with tempfile.TemporaryDirectory(prefix="e2e-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def profiles(site: Site, tmp_path: Path) -> Path:
    """Save new logins for this test: a login that the shared fleet uses is locked."""
    return log_in_by_request(site, tmp_path / "active")


@pytest.fixture(scope="package")
def shared_fleet(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run the shared fleet."""
    folder = tmp_path_factory.mktemp("shared")
    with fleet(site, log_in_by_request(site, folder / "active"), folder / "fleet") as running:
        running.wait_for(ada="READY", grace="READY")
        yield running


@pytest.fixture
def two(shared_fleet: Fleet) -> Fleet:
    """Return the shared fleet with two READY children, ada and grace."""
    shared_fleet.wait_for(ada="READY", grace="READY")
    return shared_fleet
