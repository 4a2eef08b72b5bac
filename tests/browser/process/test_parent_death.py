"""Nothing outlives its parent: a child killed outright takes driver and browser with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from browser.errors import EngineMissing
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings
from contract.processes import ProcessIdentity
from contract.run_folder import read_processes
from tests.support.waiting import eventually

CHILD = """
import asyncio, sys
from pathlib import Path
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings

async def main():
    process = BrowserProcess(engine=sys.argv[1], headless=True, run_dir=Path(sys.argv[2]), settings=BrowserSettings())
    browser = await process.start()
    await (await browser.new_page()).goto("data:text/html,<p>up")
    print("up", flush=True)
    print(await process.wait_lost(), flush=True)

asyncio.run(main())
"""


class Child:
    """A process that has started a browser."""

    def __init__(self, process: asyncio.subprocess.Process, run_dir: Path) -> None:
        self.process = process
        noted = read_processes(run_dir)
        self.driver, self.browser = noted["driver"], noted["browser"]

    def members(self) -> list[int]:
        """The process ids of the browser's group that are alive."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            pid = int(entry.name)
            try:
                if os.getpgid(pid) == self.browser.pid and ProcessIdentity.of(pid):
                    found.append(pid)
            except ProcessLookupError:
                continue
        return found


@pytest.fixture
async def child(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        getattr(request, "param", "chromium"),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout
    line = b""
    while line != b"up\n":
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line
    child = Child(process, tmp_path)
    yield child
    child.browser.kill_group()
    child.driver.kill()
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_a_killed_child_leaves_nothing(child: Child) -> None:
    assert len(child.members()) > 2
    os.killpg(child.process.pid, signal.SIGKILL)
    await eventually(lambda: not child.driver.is_alive() and not child.members())


@pytest.mark.firefox
@pytest.mark.parametrize("child", ["firefox"], indirect=True)
async def test_a_killed_child_leaves_no_firefox(child: Child) -> None:
    os.kill(child.process.pid, signal.SIGKILL)
    await eventually(lambda: not child.driver.is_alive() and not child.members())


async def test_a_killed_driver_takes_the_browser_with_it(child: Child) -> None:
    # Both lead sessions of their own, so that Ctrl-C in a terminal does not reach them.
    assert os.getpgid(child.driver.pid) != child.process.pid
    assert os.getpgid(child.browser.pid) != child.process.pid
    os.kill(child.driver.pid, signal.SIGKILL)
    await eventually(lambda: not child.members())
    assert child.process.stdout
    lines = (await asyncio.wait_for(child.process.stdout.read(), 10)).splitlines()
    assert lines[-1] == b"driver_lost"


async def test_a_missing_setpriv_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"^setpriv is not on PATH.*install the package util-linux$"):
        await BrowserProcess(
            engine="chromium",
            headless=True,
            run_dir=tmp_path,
            settings=BrowserSettings(browser_executable=Path("/bin/sh")),
        ).start()


def test_a_process_is_not_taken_for_another_with_its_id() -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own
    assert own.is_alive()
    stranger = ProcessIdentity(own.pid, own.start_time - 1)
    assert not stranger.is_alive()
    stranger.kill()
    stranger.kill_group()
