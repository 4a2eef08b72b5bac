"""Nothing goes past a login's own proxy, in a network where each packet is seen: see `__main__.py`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.browser.way_out.network import NAME_SERVER, SITE, own_network
from tests.browser.way_out.real_proxies import ALL, NO_PROXY, PASSWORD
from tests.browser.way_out.restless_page import CHECK_PROMPT, NAME, STUN

pytestmark = [pytest.mark.sites, pytest.mark.timeout(600)]
Seen = dict[str, Any]

ENGINES = ("chromium", "firefox")
ONE_FOR_EACH = {("chromium", "squid"), ("firefox", "microsocks"), ("chromium", NO_PROXY)}
"""What runs in `make test-sites`: one page with all ways out for each engine. To browsers all proxies look the same."""


def cases(*proxies: str) -> list[Any]:
    pairs = [(engine, proxy) for engine in ENGINES for proxy in proxies]
    return [
        pytest.param(pair, id="-".join(pair), marks=[] if pair in ONE_FOR_EACH else pytest.mark.long) for pair in pairs
    ]


async def run_behind(engine: str, proxy: str) -> Any:
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")  # as short as `tmp_path` of tests/browser/conftest.py
    command = [*own_network(), sys.executable, "-m", "tests.browser.way_out", engine, folder, proxy]
    program = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()[-4000:]
    shutil.rmtree(Path(folder), ignore_errors=True)
    return json.loads(output)


@pytest.fixture(scope="module", params=cases(NO_PROXY))
async def seen_without(request: pytest.FixtureRequest) -> list[str]:
    """The packets that the program has seen without a proxy."""
    packets: list[str] = await run_behind(*request.param)
    return packets


@pytest.fixture(scope="module", params=cases(*ALL))
async def seen(request: pytest.FixtureRequest) -> Seen:
    """What the program has seen with one proxy."""
    found: Seen = await run_behind(*request.param)
    return found


def test_the_capture_sees_what_goes_past_a_proxy(seen_without: list[str]) -> None:
    """Else the tests below could not fail."""
    assert {f"tcp {SITE} 443", f"udp {NAME_SERVER} 53", f"udp {STUN} 3478"} <= set(seen_without)


def test_no_packet_goes_past_the_proxy(seen: Seen) -> None:
    assert seen["past_it"] == {}, seen["names"]
    assert seen["past_it_in_all"] == {}, seen["names"]
    assert seen["candidates"] == []  # WebRTC tells the page no address
    assert seen["peers"] == [SITE]  # from where the proxy, in the world, reaches it


def test_no_packet_goes_anywhere_while_the_proxy_is_dead(seen: Seen) -> None:
    assert seen["past_it_when_killed"] == {}
    assert seen["away"] == "the login's proxy refuses connections; does it run?"
    assert seen["refused"] == "proxy_unreachable"


def test_the_page_is_served_through_the_proxy_and_again_once_it_is_back(seen: Seen) -> None:
    assert (seen["answer"], seen["answer_again"]) == ("HELLO", "AGAIN")
    assert f"{NAME}:443" in seen["asked_for"]


def test_a_check_in_a_tab_beside_the_page_goes_through_the_proxy_too(seen: Seen) -> None:
    """It has no port of its own on the browser's way out: it reads the answer by another way."""
    assert seen["checked"] == "passed"
    assert seen["prompts"] == ["hello", CHECK_PROMPT, "again"]


def test_the_proxys_password_is_with_the_child_alone(seen: Seen) -> None:
    assert seen["exposed"] == []
    assert PASSWORD not in seen["log"]


def test_the_browser_asks_the_proxy_for_nothing_of_its_own(seen: Seen) -> None:
    hosts = {address.rpartition(":")[0] for address in seen["asked_for"]}
    assert {host for host in hosts if not host.endswith(".test")} <= {SITE, STUN}


def test_the_page_does_not_reach_other_ports_of_its_machine(seen: Seen) -> None:
    assert "own_proxy_loopback_refused" in seen["log"]
    assert not [host for host in seen["asked_for"] if host.startswith("127.")]
