"""Nothing goes past a login's own proxy, in a network where each packet is seen: see `__main__.py`."""

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

from tests.browser.way_out.network import NAME_SERVER, SITE, own_network
from tests.browser.way_out.real_proxies import ALL, PASSWORD
from tests.browser.way_out.restless_page import NAME, STUN

pytestmark = [pytest.mark.sites, pytest.mark.timeout(900)]  # four browsers, one after another
Seen = dict[str, Any]


@pytest.fixture(scope="module", params=["chromium", "firefox"])
async def seen(request: pytest.FixtureRequest) -> AsyncIterator[Seen]:
    """What the program has seen with each proxy, and with none."""
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")  # as short as `tmp_path` of tests/browser/conftest.py
    command = [*own_network(), sys.executable, "-m", "tests.browser.way_out", request.param, folder]
    program = await asyncio.create_subprocess_exec(
        *command, *ALL, "none", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()[-4000:]
    yield json.loads(output)
    shutil.rmtree(Path(folder), ignore_errors=True)


def test_the_capture_sees_what_goes_past_a_proxy(seen: Seen) -> None:
    """Else the tests below could not fail."""
    assert {f"tcp {SITE} 443", f"udp {NAME_SERVER} 53", f"udp {STUN} 3478"} <= set(seen["none"])


@pytest.mark.parametrize("proxy", ALL)
def test_no_packet_goes_past_the_proxy(seen: Seen, proxy: str) -> None:
    found = seen[proxy]
    assert found["past_it"] == {}, found["names"]
    assert found["past_it_in_all"] == {}, found["names"]
    assert found["candidates"] == []  # WebRTC tells the page no address
    assert found["peers"] == [SITE]  # from where the proxy, in the world, reaches it


@pytest.mark.parametrize("proxy", ALL)
def test_no_packet_goes_anywhere_while_the_proxy_is_dead(seen: Seen, proxy: str) -> None:
    found = seen[proxy]
    assert found["past_it_when_killed"] == {}
    assert found["away"] == "the login's proxy refuses connections; does it run?"
    assert found["refused"] == "proxy_unreachable"


@pytest.mark.parametrize("proxy", ALL)
def test_the_page_is_served_through_the_proxy_and_again_once_it_is_back(seen: Seen, proxy: str) -> None:
    found = seen[proxy]
    assert (found["answer"], found["answer_again"]) == ("HELLO", "AGAIN")
    assert f"{NAME}:443" in found["asked_for"]


@pytest.mark.parametrize("proxy", ALL)
def test_the_proxys_password_is_with_the_child_alone(seen: Seen, proxy: str) -> None:
    assert seen[proxy]["exposed"] == []
    assert PASSWORD not in seen[proxy]["log"]


@pytest.mark.parametrize("proxy", ALL)
def test_the_page_does_not_reach_other_ports_of_its_machine(seen: Seen, proxy: str) -> None:
    assert "own_proxy_loopback_refused" in seen[proxy]["log"]
    assert not [host for host in seen[proxy]["asked_for"] if host.startswith("127.")]
