"""How the tests are spread over the workers of pytest-xdist: `make test` runs them with `--dist loadgroup`.

A file goes to one worker whole, for its tests share browsers and fleets. Tests with
`@pytest.mark.xdist_group("name")` go to one worker, whatever file they are in: they need something that the machine
has once, and their mark says what.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

TESTS = Path(__file__).parent

# A deadline of wall time for one example fails on a busy machine; pytest's own limit holds for what hangs.
settings.register_profile("tabfleet", deadline=None)
settings.load_profile("tabfleet")

# The folders with the longest files begin first: one that began last would keep all workers but its own waiting.
LONGEST_FIRST = ("chaos", "e2e", "sites", "browser", "demo", "coordinator")


class ByFile(LoadGroupScheduling):
    """Give each worker whole files, and whole groups of marked tests."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the group, or the file of a test that is in none."""
        scope = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False  # by number of tests, which says little here
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in a worker of pytest-xdist; elsewhere the usual order does
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
