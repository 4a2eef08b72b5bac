"""A child as a process serves it: how it ends, and what it closes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp

from api_utils.request_queue import RequestQueue
from api_utils.server import serve
from api_utils.settings import ChildSettings
from api_utils.state import ChildState
from contract.child_environment import RUN_DIR
from contract.exit_codes import ExitCode
from contract.keys import FollowedKeys
from contract.listener import listen
from tests.api.scripted_page import ScriptedPage

ROOT = Path(__file__).resolve().parents[2]


async def served_until(page: ScriptedPage, event: Callable[[asyncio.Event], None]) -> ExitCode:
    """Serve the page, make the event happen once it is live, and return how it ended; it is given what stops it."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/live"
    state = ChildState(page, RequestQueue(page), ChildSettings(), FollowedKeys(None), "demo", "chromium")
    starting = asyncio.create_task(page.start())
    stop = asyncio.Event()
    running = asyncio.create_task(serve(state, listener, starting, stop))
    await _live(url)
    event(stop)
    return await running


async def _live(url: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200


async def test_it_ends_when_told_to_and_the_page_is_closed() -> None:
    page = ScriptedPage()
    assert await served_until(page, asyncio.Event.set) is ExitCode.STOPPED
    assert page.closes == 1


async def test_a_lost_browser_ends_it_with_its_reason_and_is_not_waited_for() -> None:
    page = ScriptedPage()
    assert await served_until(page, lambda _: page.lost.set()) is ExitCode.BROWSER_LOST
    assert page.closes == 0


def test_surroundings_that_are_damaged_keep_a_child_from_starting(tmp_path: Path) -> None:
    """It would open the page without its proxy, or with another locale than the one that the site knows."""
    (tmp_path / "surroundings.json").write_text('{"proxy": "http://user:secret@proxy.example:1", "locale": 7}')
    command = ["launch_camoufox.py", "--site", "demo", "--active-auth-json", "ada.json"]
    done = subprocess.run(
        [sys.executable, *command, "--server-port", "1", "--stream-port", "1"],
        cwd=ROOT,
        env={**os.environ, RUN_DIR: str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "launch_camoufox.py: surroundings.json of the run folder is damaged at locale\n"


def test_a_login_whose_proxy_cannot_be_read_opens_no_page(tmp_path: Path) -> None:
    """It would go out without it; and nothing of it is told, which may be a password."""
    (tmp_path / "proxy").write_text("hunter2@proxy.test")
    command = [sys.executable, "launch_camoufox.py", "--site", "demo", "--active-auth-json", str(tmp_path / "a.json")]
    command += ["--server-port", "1", "--stream-port", "2"]
    for surroundings, arguments, says in (
        ('{"proxy": "socks4://hunter2@proxy.test"}', (), "the login's proxy takes http://HOST:PORT"),
        ('{"proxy": ["hunter2"]}', (), "surroundings.json of the run folder is damaged at proxy"),
        ("{}", ("--proxy-file", str(tmp_path / "proxy")), f"--proxy-file: {tmp_path / 'proxy'} takes http://HOST:PORT"),
    ):
        (tmp_path / "surroundings.json").write_text(surroundings)
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={**os.environ, "TABFLEET_RUN_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == ExitCode.USAGE
        assert done.stderr.startswith(f"launch_camoufox.py: {says}")
        assert "hunter2" not in done.stderr + done.stdout
        assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "launch_camoufox.py",
            "--site",
            "demo",
            "--active-auth-json",
            str(tmp_path / "ada.json"),
        ]
        done = subprocess.run(
            [*command, "--server-port", str(port), "--stream-port", "1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == ExitCode.PORT_IN_USE
    problem = f"--server-port {port} cannot be used: Address already in use; choose another"
    assert done.stderr == f"launch_camoufox.py: {problem}\n"
