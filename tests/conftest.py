"""How the tests are spread over the workers of pytest-xdist: `make test` runs them with `--dist loadfile`.

A file goes to one worker whole, for its tests share browsers and fleets; so do the files of one group.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.size import size

TESTS = Path(__file__).parent

# A deadline of wall time for one example fails on a busy machine; pytest's own limit holds for what hangs.
settings.register_profile("tabfleet", deadline=None, max_examples=size(40, 100))
settings.load_profile("tabfleet")

# `xdist_group` would be the mark for this, but pytest-xdist 3.8 finds none with pytest 9.2: it writes the group into
# `item._nodeid`, which is not read any more.
GROUPS = {
    # The ports that the demo uses if they are free are there once on a machine.
    "demo-ports": ("tests/demo/test_fleet.py", "tests/e2e/test_demo.py"),
    # They share an S3 server, which takes seconds to start.
    "s3": (
        "tests/coordinator/profiles/test_cli.py",
        "tests/coordinator/profiles/test_disk.py",
        "tests/coordinator/profiles/test_keys.py",
        "tests/coordinator/profiles/test_s3.py",
        "tests/coordinator/profiles/test_s3_chain.py",
        "tests/coordinator/profiles/test_s3_client.py",
        "tests/coordinator/profiles/test_s3_failures.py",
        "tests/coordinator/profiles/test_s3_fleet_file.py",
        "tests/coordinator/profiles/test_stale.py",
        "tests/coordinator/profiles/test_tls.py",
        "tests/coordinator/sessions/test_mirror.py",
    ),
    # They share a fleet, whose start takes longer than most of them.
    "shared-fleet": (
        "tests/e2e/test_anthropic_client.py",
        "tests/e2e/test_completions.py",
        "tests/e2e/test_load.py",
        "tests/e2e/test_openai_client.py",
        "tests/e2e/test_repeats.py",
        "tests/e2e/test_responses_client.py",
        "tests/e2e/test_screenshot.py",
    ),
}
# Each app is started once for all of its tests, which have its name among their parameters.
APPS = ("chainlit", "gradio", "nicegui", "panel", "shiny", "streamlit")
# The folders with the longest files begin first: one that began last would keep all workers but its own waiting.
LONGEST_FIRST = ("chaos", "e2e", "sites", "browser", "demo", "coordinator", "cells")


class ByFile(LoadFileScheduling):
    """Give each worker whole files, and whole groups of files."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the name of what the test must stay together with."""
        file, _, test = nodeid.partition("::")
        if file.startswith("tests/sites/"):
            return next((app for app in APPS if app in test), file)
        return next((name for name, files in GROUPS.items() if file in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Use our scheduler. Raises UsageError if a file of a group is not there."""
    gone = [file for files in GROUPS.values() for file in files if not (TESTS.parent / file).is_file()]
    if gone:
        raise pytest.UsageError(f"tests/conftest.py: GROUPS names what is not there: {', '.join(gone)}")
    config.option.loadscopereorder = False  # by number of tests, which says little here
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by LONGEST_FIRST in a worker of pytest-xdist; without workers the usual order does."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
