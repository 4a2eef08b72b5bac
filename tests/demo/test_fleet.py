"""`python -m demo` and its parts, without a running fleet (tests/e2e/test_demo.py runs one)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import signal
import socket
import stat
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from demo.chromium import find_chromium
from demo.cli import _curl
from demo.errors import ChromiumMissing, LoginFailed
from demo.fleet import _all_up
from demo.login import save_profiles
from demo.ports import Ports, choose_ports, is_free
from demo.progress import Progress
from demo.site import DemoSite


def names_in(folder: Path) -> list[str]:
    """Return the sorted file names in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_saved_profile_is_private_and_logs_its_user_in(site: DemoSite, tmp_path: Path) -> None:
    await save_profiles(site.url, {"grace": "hopper", "user5": "demo5"}, tmp_path, find_chromium())
    assert names_in(tmp_path) == ["grace.json", "user5.json"]
    for path in (tmp_path / "grace.json", tmp_path / "user5.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (cookie,) = json.loads(path.read_text())["cookies"]
        assert cookie["httpOnly"]
        async with aiohttp.ClientSession(cookies={cookie["name"]: cookie["value"]}) as http:
            me = await (await http.get(f"{site.url}/api/me")).json()
        assert me["account"] == path.stem


async def test_browser_that_does_not_start_is_one_line(site: DemoSite, tmp_path: Path) -> None:
    with pytest.raises(LoginFailed, match=r"logging in at http://127\.0\.0\.1:\d+ with /bin/true failed: .") as raised:
        await save_profiles(site.url, {"ada": "lovelace"}, tmp_path, "/bin/true")
    assert "\n" not in str(raised.value)


def test_missing_browser_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BROWSER_EXECUTABLE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChromiumMissing, match="make setup"):
        find_chromium()
    (tmp_path / "chromium-browser").touch(mode=0o755)
    assert find_chromium() == str(tmp_path / "chromium-browser")
    monkeypatch.setenv("BROWSER_EXECUTABLE", str(tmp_path))
    with pytest.raises(ChromiumMissing, match="BROWSER_EXECUTABLE is"):
        find_chromium()


def test_ports_avoid_those_in_use() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_free(3101):
            taken.bind(("127.0.0.1", 3101))
            taken.listen()
        ports = choose_ports(2)
        assert ports != Ports(2048, 3100, 3200)
        wanted = [ports.coordinator, ports.api, ports.api + 1, ports.stream, ports.stream + 1]
        assert len(set(wanted)) == 5
        assert all(is_free(port) for port in wanted)


@pytest.mark.parametrize(("proxy", "more"), [("", []), ("http://proxy:3128", ["--noproxy", "127.0.0.1"])])
def test_curl_line_is_one_shell_command(monkeypatch: pytest.MonkeyPatch, proxy: str, more: list[str]) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    words = shlex.split(_curl("http://127.0.0.1:2048/v1/chat/completions").replace("\\\n", " "))
    assert words[: 2 + len(more)] == ["curl", "http://127.0.0.1:2048/v1/chat/completions", *more]
    assert json.loads(words[-1])["messages"][0]["role"] == "user"


@pytest.mark.parametrize(
    ("states", "at_most", "up"),
    [
        ([], "", False),
        (["STARTING", "READY"], "", False),
        (["READY", "READY"], "", True),
        (["FAILED", "READY"], "", True),
        (["FAILED", "BACKOFF"], "", False),
        (["FAILED", "FAILED"], "", False),
        (["STANDBY", "READY"], "1", True),
        (["STANDBY", "STARTING"], "1", False),
    ],
)
def test_fleet_is_up_when_all_that_can_be_are_ready(
    monkeypatch: pytest.MonkeyPatch, states: list[str], at_most: str, up: bool
) -> None:
    monkeypatch.setenv("MAX_CHILDREN", at_most)
    assert _all_up([{"state": state} for state in states]) is up


def test_progress_is_one_line_for_each_change_without_a_terminal() -> None:
    written = io.StringIO()
    with Progress(Console(file=written)) as progress:
        progress.step("Browser of ada", "starting")
        progress.step("Browser of ada", "starting")
        progress.step("Browser of ada", "ready [x]", "done")
    assert written.getvalue() == "Browser of ada: starting\nBrowser of ada: ready [x]\n"


def test_progress_shows_all_steps_on_a_terminal() -> None:
    written = io.StringIO()
    with Progress(Console(file=written, force_terminal=True, width=80)) as progress:
        progress.step("Logins", "ada")
        progress.step("Logins", "ada", "done")
        progress.step("Coordinator", "gone", "failed")
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()).splitlines()[-2:]
    assert re.fullmatch(r".  Logins +ada +0\.0 s *", last[0].strip("\r"))
    assert re.search(r"Coordinator +gone", last[1])


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Yield a folder for TMPDIR whose path is short enough for Chromium's socket; pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@asynccontextmanager
async def running_demo(temporary: Path, *arguments: str, **environment: str) -> AsyncIterator[Process]:
    """Run `python -m demo` while the context lasts, with TMPDIR set to the folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo", *arguments,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stdout=PIPE, stderr=STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def read_until(process: Process, text: str) -> None:
    """Read output lines up to one that contains the text."""
    assert process.stdout
    async with asyncio.timeout(30):
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, f"the output ended without {text!r}"


async def test_ctrl_c_while_logging_in_leaves_nothing(temporary: Path) -> None:
    async with running_demo(temporary) as process:
        await read_until(process, "Logins: ada and grace, in ")
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
        assert process.returncode == 0
    assert b"Traceback" not in output
    assert names_in(temporary) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow  # tests/e2e/test_demo.py shows the way up to there, tests/coordinator/test_main.py the refusal
async def test_coordinator_that_refuses_to_start_is_quoted(temporary: Path) -> None:
    async with running_demo(temporary, "--check", PROBE_INTERVAL_S="soon") as process:
        output = (await process.communicate())[0].decode()
        assert process.returncode == 1
    assert "PROBE_INTERVAL_S" in output
    assert re.search(r"^demo: the coordinator ended with code [1-9]", output, re.MULTILINE)
    assert "Traceback" not in output
    assert names_in(temporary) == []
