"""Run the whole product on one machine: the demo site, two logins, and two browsers behind one API."""

from __future__ import annotations

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
from demo.processes import run_module
from demo.progress import Progress, Status
from demo.site import DemoSite, serve

SITE_PORT = 8800
START_S = 120.0
POLL_S = 0.2
LOGIN_END_S = 10.0
REMOVE_S = 5.0
QUESTION = "Hello! Who is answering?"
STATUS: dict[str, Status] = {"ready": "done", "failed": "failed"}
_PREFIX = "tf-"


@dataclass(frozen=True)
class Fleet:
    """The running demo: the site with its ledger, and the coordinator."""

    site: DemoSite
    coordinator: Coordinator

    async def check(self) -> str:
        """Send one prompt through the API and return the answer.

        Raise WrongAnswer unless it contains the digest and the token of exactly one submission.
        """
        answer = await self.coordinator.ask(MODELS[0], QUESTION)
        submissions = [entry for entry in self.site.ledger.entries() if entry.token in answer]
        if len(submissions) != 1 or submissions[0].prompt_sha256 not in answer:
            raise WrongAnswer("the API's answer does not contain the digest and token of a submission to the site")
        return answer


@asynccontextmanager
async def run_fleet(progress: Progress) -> AsyncIterator[Fleet]:
    """Run the demo while the context lasts; stop its processes and remove its files at the end.

    Raise DemoError if a part does not start.
    """
    executable = find_chromium()
    with _private_folder() as folder:
        async with serve(port=SITE_PORT if is_free(SITE_PORT) else 0) as site:
            progress.step("Demo site", f"{site.url}, a chat page with a login", "done")
            await _log_in(progress, site, folder, executable)
            environment = {
                "LOCAL_PROFILE_DIR": str(folder / "profiles"),
                "CHAT_SITE": "demo",
                "SITE_URL": site.url,
                "BROWSER_ENGINE": "chromium",
                "BROWSER_EXECUTABLE": executable,
            }
            progress.step("Coordinator", "starting")
            async with run_coordinator(folder, choose_ports(len(PASSWORDS)), environment) as coordinator:
                await _wait_ready(progress, coordinator)
                yield Fleet(site, coordinator)


async def _log_in(progress: Progress, site: DemoSite, folder: Path, executable: str) -> None:
    names = " and ".join(PASSWORDS)
    progress.step("Logins", f"{names}, in {Path(executable).name}")
    profiles = folder / "profiles"
    profiles.mkdir(mode=0o700)
    arguments = (site.url, str(profiles), executable)
    async with run_module("demo.login", *arguments, end_s=LOGIN_END_S, output=PIPE) as process:
        output, _ = await process.communicate()
    if process.returncode:
        lines = output.decode(errors="replace").splitlines()
        raise LoginFailed(lines[-1] if lines else "the login process exited without an error message")
    progress.step("Logins", f"{names}, saved as profiles", "done")


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a new folder (0700); it is TMPDIR, also of child processes, until the context ends."""
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
        # A browser that is being killed may still write to it, so one pass may not be enough.
        deadline = time.monotonic() + REMOVE_S
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)


def _short_parent() -> str:
    """Return the default folder for temporary files, or /tmp if its path is too long.

    Chromium binds a socket under TMPDIR. A socket path has at most 107 bytes (unix(7)); Chromium's part takes 44 of
    them, the coordinator's folders 38.
    """
    usual = tempfile.gettempdir()
    return usual if len(f"{usual}/{_PREFIX}12345678") <= 107 - 44 - 38 else "/tmp"  # noqa: S108 - mkdtemp follows


async def _wait_ready(progress: Progress, coordinator: Coordinator) -> None:
    deadline = time.monotonic() + START_S
    while True:
        children: list[dict[str, Any]] = []
        if body := await coordinator.ready():
            progress.step("Coordinator", coordinator.url, "done")
            children = body["children"]
        for child in children:
            state = str(child["state"]).lower()
            text = f"{state}: {child['reason']}" if child["reason"] not in (None, state) else state
            progress.step(f"Browser of {child['name']}", text, STATUS.get(state, "running"))
        if _all_up(children):
            return
        if time.monotonic() > deadline or (children and all(child["state"] == "FAILED" for child in children)):
            raise NotReady("no browser became ready", coordinator.log_end())
        await asyncio.sleep(POLL_S)


def _all_up(children: list[dict[str, Any]]) -> bool:
    """Return whether MAX_CHILDREN children are READY, or all that have not failed."""
    states = [child["state"] for child in children]
    running = len(states) - states.count("FAILED")
    at_most = int(os.environ.get("MAX_CHILDREN") or 0) or running
    return states.count("READY") >= max(1, min(running, at_most))
