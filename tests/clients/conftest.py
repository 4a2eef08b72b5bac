"""Fixtures: the fleets, and one process for each client; and the table of what was measured."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.clients.catalogue import CLIENTS, SCENARIOS
from tests.clients.process import ClientProcess, client_process
from tests.e2e.fleet import Fleet, Site, demo_site, fleet, log_in_by_request

MEASURED = pytest.StashKey[dict[tuple[str, str], str]]()


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Run the demo site."""
    with demo_site() as running:
        yield running


@pytest.fixture(scope="session")
def serving(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a fleet with two READY children."""
    folder = tmp_path_factory.mktemp("serving")
    with fleet(site, log_in_by_request(site, folder / "active"), folder / "fleet") as running:
        running.wait_for(ada="READY", grace="READY")
        yield running


@pytest.fixture(scope="session")
def crowded(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a fleet with one READY child and no queue: a second request at a time is refused with 429."""
    folder = tmp_path_factory.mktemp("crowded")
    profiles = log_in_by_request(site, folder / "active", users=("ada",))
    # The first answer stalls for as long as a client, or LiteLLM's proxy, takes to start.
    with fleet(site, profiles, folder / "fleet", MAX_QUEUE="0", FIRST_TOKEN_TIMEOUT_S="600") as running:
        running.wait_for(ada="READY")
        yield running


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientProcess]:
    """Run the process of the client whose name is the parameter; pytest keeps its rows together."""
    with client_process(request.param, tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> dict[tuple[str, str], str]:
    """Return the table of what was measured, by client and scenario."""
    return request.config.stash.setdefault(MEASURED, {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have the table say which rows failed, where it does not already by the number of submissions."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and "measured" in item.fixturenames:
        key = (str(item.callspec.params["client"]), item.originalname.removeprefix("test_"))
        measured = item.config.stash.setdefault(MEASURED, {})
        if measured.get(key, "yes") == "yes":
            measured[key] = "failed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, as docs/clients.md has it."""
    measured = config.stash.get(MEASURED, {})
    if not measured:
        return
    terminalreporter.section("clients")
    terminalreporter.write_line(f"| client | {' | '.join(SCENARIOS)} |")
    terminalreporter.write_line("|---" * (len(SCENARIOS) + 1) + "|")
    for name, client in CLIENTS.items():
        if any(row == name for row, _ in measured):
            cells = ("none" if cell in client.lacks else measured.get((name, cell), "not run") for cell in SCENARIOS)
            terminalreporter.write_line(f"| {client.title} | {' | '.join(cells)} |")
