"""What the scale tests are given."""

from __future__ import annotations

import warnings

import pytest

from tests.scale.saying import Said
from tests.scale.ways import why_no_namespaces


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Said:
    return Said(request)


@pytest.fixture(scope="session")
def has_namespaces() -> bool:
    reason = why_no_namespaces()
    if reason is not None:
        warnings.warn(
            f"NO NETWORK NAMESPACES HERE ({reason}): cells are cut off by relays in the test's process instead, and"
            " nothing is shown of the kernel's own network.",
            stacklevel=1,
        )
    return reason is None
