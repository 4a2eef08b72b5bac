"""The whole product on one machine: the demo site, two logins, and a fleet of two browsers behind one API."""

import asyncio
import os
import shutil
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.accounts import PASSWORDS
from demo.chat import MODELS
from demo.chromium import find_chromium
from demo.coordinator import Coordinator, run_coordinator
from demo.errors import LoginFailed, NotReady, WrongAnswer
from demo.ports import choose_ports, is_free
from demo.processes import running
from demo.screen import Mark, Screen
from demo.site import DemoSite, serve

SITE_PORT = 8800
START_S = 120.0
POLL_S = 0.2
LOGIN_END_S = 10.0
QUESTION = "Hello! Who is answering?"
_PREFIX = "tf-"


@dataclass(frozen=True)
class Fleet:
    """All of it, running: the site with its ledger, and the coordinator."""

    site: DemoSite
    coordinator: Coordinator

    async def check(self) -> str:
        """Ask one question through the API and return the answer.

        Raises WrongAnswer unless it carries the digest and the token of just that submission.
        """
        answer = await self.coordinator.ask(MODELS[0], QUESTION)
        submissions = [entry for entry in self.site.ledger.entries() if entry.token in answer]
        if len(submissions) != 1 or submissions[0].prompt_sha256 not in answer:
            raise WrongAnswer("the API's answer does not carry the marks of a submission that the site has seen")
        return answer


@asynccontextmanager
async def run_fleet(screen: Screen) -> AsyncIterator[Fleet]:
    """Run the fleet while the context lasts, and leave nothing of it behind.

    Raises DemoError where a part does not come up.
    """
    executable = find_chromium()
    with _private_folder() as folder:
        async with serve(port=SITE_PORT if is_free(SITE_PORT) else 0) as site:
            screen.step("Demo site", f"{site.url}, a chat page with a login", "done")
            await _log_in(screen, site, folder, executable)
            environment = {
                "LOCAL_PROFILE_DIR": str(folder / "profiles"),
                "CHAT_SITE": "demo",
                "SITE_URL": site.url,
                "BROWSER_ENGINE": "chromium",
                "BROWSER_EXECUTABLE": executable,
            }
            screen.step("Coordinator", "starting")
            async with run_coordinator(folder, choose_ports(len(PASSWORDS)), environment) as coordinator:
                await _wait_ready(screen, coordinator)
                yield Fleet(site, coordinator)


async def _log_in(screen: Screen, site: DemoSite, folder: Path, executable: str) -> None:
    names = " and ".join(PASSWORDS)
    screen.step("Logins", f"{names}, in {Path(executable).name}")
    profiles = folder / "profiles"
    profiles.mkdir(mode=0o700)
    arguments = (site.url, str(profiles), executable)
    async with running("demo.login", *arguments, end_s=LOGIN_END_S, output=PIPE) as process:
        output, _ = await process.communicate()
    if process.returncode:
        raise LoginFailed((output.decode(errors="replace").splitlines() or ["the login ended without a word"])[-1])
    screen.step("Logins", f"{names}, saved as profiles", "done")


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Give a folder (0700) that is also where everything started here keeps temporary files."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_parent()))
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        _remove(folder)


def _short_parent() -> str:
    """Return the usual folder for temporary files, or /tmp where its path is too long.

    Chromium makes a socket in a folder of its own under TMPDIR, and a socket's path has 107 bytes at most
    (unix(7)): 44 go to Chromium, 38 to the coordinator's folders.
    """
    usual = tempfile.gettempdir()
    return usual if len(f"{usual}/{_PREFIX}12345678") <= 107 - 44 - 38 else "/tmp"  # noqa: S108 - mkdtemp follows


def _remove(folder: Path) -> None:
    """Remove a folder that a browser which is just dying may still write to."""
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)


async def _wait_ready(screen: Screen, coordinator: Coordinator) -> None:
    deadline = time.monotonic() + START_S
    while not _all_up(children := await _children(screen, coordinator)):
        if time.monotonic() > deadline or (children and all(child["state"] == "FAILED" for child in children)):
            raise NotReady("no browser became ready", coordinator.log_end())
        await asyncio.sleep(POLL_S)


async def _children(screen: Screen, coordinator: Coordinator) -> list[dict[str, Any]]:
    body = await coordinator.ready()
    if body is None:
        return []
    screen.step("Coordinator", coordinator.url, "done")
    children: list[dict[str, Any]] = body["children"]
    for child in children:
        _show(screen, child)
    return children


def _all_up(children: list[dict[str, Any]]) -> bool:
    """Tell whether as many children are ready as are to run, or all those that have not failed."""
    states = [child["state"] for child in children]
    running = len(states) - states.count("FAILED")
    at_most = int(os.environ.get("MAX_CHILDREN") or 0) or running
    return states.count("READY") >= max(1, min(running, at_most))


def _show(screen: Screen, child: dict[str, Any]) -> None:
    state = str(child["state"]).lower()
    text = f"{state}: {child['reason']}" if child["reason"] not in (None, state) else state
    marks: dict[str, Mark] = {"ready": "done", "failed": "failed"}
    screen.step(f"Browser of {child['name']}", text, marks.get(state, "running"))
