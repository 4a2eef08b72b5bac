"""Three sites in one coordinator, each behind a proxy of its own, in a network where each packet is seen."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.way_out.network import own_network
from tests.browser.way_out.real_proxies import PASSWORD
from tests.sites.three_proxies import PROXIES
from tests.support import DIES_WITH_PARENT

# Three browsers and two apps start. tests/browser/way_out shows the same of one child in each run of `make test-sites`.
pytestmark = [pytest.mark.sites, pytest.mark.long, pytest.mark.timeout(900)]
Seen = dict[str, Any]
THIRD_PARTIES = {"chainlit": ("cdn.jsdelivr.net:443", "fonts.googleapis.com:443")}
"""What the apps' own pages ask for elsewhere. A browser asks for nothing of its own."""


@pytest.fixture(scope="module", params=["chromium", "firefox"])
async def seen(request: pytest.FixtureRequest) -> AsyncIterator[Seen]:
    """What the program has seen."""
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    command = [*DIES_WITH_PARENT, *own_network(), sys.executable, "-m", "tests.sites.three_proxies"]
    program = await asyncio.create_subprocess_exec(
        *(*command, request.param, folder), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()[-6000:]
    yield json.loads(output)
    shutil.rmtree(Path(folder), ignore_errors=True)


def test_the_capture_sees_what_goes_past_the_proxies(seen: Seen) -> None:
    """Else the tests below could not fail."""
    assert seen["direct"] == dict.fromkeys(PROXIES, True)


def test_each_model_is_answered_by_its_own_site(seen: Seen) -> None:
    assert seen["answered"] == {name: name for name in PROXIES}


@pytest.mark.parametrize("name", PROXIES)
def test_each_proxy_has_the_traffic_of_its_login_and_no_others(seen: Seen, name: str) -> None:
    assert set(seen["asked_for"][name]) == {seen["sites"][name], *THIRD_PARTIES.get(name, ())}


def test_no_packet_goes_past_the_proxies(seen: Seen) -> None:
    assert seen["past"] == {}, seen["names"]


@pytest.mark.parametrize("name", PROXIES)
def test_with_one_proxy_dead_its_login_says_so_and_the_others_go_on(seen: Seen, name: str) -> None:
    killed = seen["killed"][name]
    assert killed["times"] == 1
    assert killed["detail"] == "the login's proxy refuses connections; does it run?"
    assert killed["refused"] == "none_ready"
    assert killed["others"] == {other: other for other in PROXIES if other != name}
    assert killed["past"] == {}, seen["names"]


@pytest.mark.parametrize("name", PROXIES)
def test_once_the_proxy_is_back_its_login_serves_again_by_itself(seen: Seen, name: str) -> None:
    killed = seen["killed"][name]
    assert killed["again"] == {name: name for name in PROXIES}
    assert killed["restarts"] == dict.fromkeys(PROXIES, 0)


def test_the_proxies_passwords_are_not_in_the_log(seen: Seen) -> None:
    assert PASSWORD not in seen["log"]
