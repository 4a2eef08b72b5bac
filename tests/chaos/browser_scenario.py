"""Chaos with Chromium: browsers logged in to the demo site, which keeps the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from contract.processes import ProcessIdentity, all_processes, read_stat
from coordinator.local import processes
from tests.chaos import proc
from tests.chaos.clients import ClientRequest
from tests.chaos.profile_sources import Source
from tests.chaos.scenario import BEHAVIOURS, Fault, Scenario, ScenarioConfig
from tests.chaos.verification import Submission
from tests.e2e.fleet import MODEL, Site, chromium, demo_site

DIRECTIVES = ("break_off", "error=middle", "error=server", "stall=first", "stall=middle", "unicode", "split", "code")
NOT_TAKEN = ("quota", "expired")
"""Errors that sites/demo.toml maps to a quota or an ended session."""
SITE_FAULTS = (
    *("stall_first", "stall_middle", "break_off", "http_500", "hang_page", "crash_page"),
    *("rotate_sessions", "quota", "refuse"),
)


def kill(pid: int | None) -> None:
    """Kill the process, if there is one and it is still running."""
    process = ProcessIdentity.of(pid) if pid else None
    if process is not None:
        process.kill()


class BrowserScenario(Scenario):
    """Children named user1, user2, ..., like the accounts of the demo site."""

    def __init__(self, folder: Path, source: Source, site: Site, *, children: int, logins_per_browser: int) -> None:
        environment = {
            **source.environment,
            "BROWSER_EXECUTABLE": chromium(),
            "SITE_URL": site.url,
            "LOGIN_CHECK_S": "2",
            "FIRST_TOKEN_TIMEOUT_S": "4",
            "STREAM_IDLE_TIMEOUT_S": "3",
            "PROBE_INTERVAL_S": "0.5",
            "UNHEALTHY_TIMEOUT_S": "6",
            "QUEUE_TIMEOUT_S": "15",
            "LOGINS_PER_BROWSER": str(logins_per_browser),
        }
        names = tuple(f"user{number + 1}" for number in range(children))
        super().__init__(ScenarioConfig(("-m", "coordinator.main"), environment, folder, source, names))
        self._site = site

    async def put_profile(self, name: str) -> None:
        await self.config.source.put(name, await logged_in(self._site, name))

    def request(self, number: int, rng: random.Random) -> ClientRequest:
        behaviour = rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))[0]
        if behaviour == "leave":
            directives = "tokens=200 delay_ms=10"
        elif behaviour == "never_read":
            directives = "tokens=200 delay_ms=1"
        elif rng.random() < 0.15:
            directives = f"tokens=10 {rng.choice(DIRECTIVES)}"
        else:
            directives = f"tokens={rng.randrange(1, 30)} delay_ms={rng.choice((0, 1, 5))}"
        prompt = f"[[{directives}]] {number} {rng.random()}"
        return ClientRequest(prompt, MODEL, rng.random() < 0.5, behaviour, receive_bytes=1 << 20)

    async def submissions(self) -> list[Submission]:
        entries = await asyncio.to_thread(self._site.ledger)
        # A prompt that the site itself says it did not take goes on to another login, which is no second submission.
        taken = (entry for entry in entries if entry["error"] not in NOT_TAKEN)
        return [Submission(entry["prompt_sha256"], entry["token"], entry["answer"]) for entry in taken]

    def faults(self) -> Mapping[Fault, int]:
        return {
            self.kill: 3,
            self.kill_driver: 3,
            self.kill_browser: 4,
            self.stop_and_continue: 3,
            self.stop_browser: 3,
            self.stop_driver: 2,
            self.site_fault: 10,
            self.login_expires: 3,
            self.change_profile: 2,
            self.remove_and_add: 1,
            self.source_fails: 2,
            self.restart: 2,
            self.drain: 1,
        }

    async def _driver(self, name: str) -> int | None:
        child = await self.fleet.pid_of(name)
        below = processes.descendants(child) if child else ()
        return next((pid for pid in below if "run-driver" in proc.command_line(pid)), None)

    async def browser(self, name: str) -> int | None:
        """Return the pid of the child's browser, None if there is none."""
        driver = await self._driver(name)
        return next((p.pid for p in all_processes() if driver and p.parent == driver), None)

    async def kill_driver(self, name: str, rng: random.Random) -> None:
        """Kill the child's Playwright driver."""
        kill(await self._driver(name))

    async def kill_browser(self, name: str, rng: random.Random) -> None:
        """Kill the child's browser process."""
        kill(await self.browser(name))

    async def stop_browser(self, name: str, rng: random.Random) -> None:
        """Send SIGSTOP to the browser's process group for a while."""
        pid = await self.browser(name)
        group = read_stat(pid) if pid else None
        if group is not None and group.group == group.pid:
            await self.stop_for(rng.choice((1.0, 4.0, 30.0)), group.pid, group=True)

    async def stop_driver(self, name: str, rng: random.Random) -> None:
        """Send SIGSTOP to the driver for a while."""
        if pid := await self._driver(name):
            await self.stop_for(rng.choice((1.0, 4.0, 30.0)), pid)

    async def site_fault(self, name: str, rng: random.Random) -> None:
        """Activate a random fault of the demo site for the child's account."""
        kind = rng.choice(SITE_FAULTS)
        await asyncio.to_thread(self._site.fault, kind, account=name, count=rng.randrange(1, 4), ms=5000)

    async def login_expires(self, name: str, rng: random.Random) -> None:
        """End the session of the child's account at the site."""
        await asyncio.to_thread(self._site.fault, "expire_session", account=name)

    async def repair(self, name: str, reason: str | None) -> None:
        if reason != "login_expired":
            await super().repair(name, reason)
            return
        async with self._reloading:
            await self.put_profile(name)
            await self.fleet.post("/admin/reload")

    async def clear_faults(self) -> None:
        await super().clear_faults()
        headers = {"x-demo-control": self._site.token}
        async with aiohttp.ClientSession() as http, http.delete(f"{self._site.url}/control/faults", headers=headers):
            pass


async def logged_in(site: Site, user: str) -> dict[str, Any]:
    """Log a user in by the site's form, and return the storage state that a browser would have."""
    form = {"username": user, "password": user.replace("user", "demo")}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.post(f"{site.url}/login", data=form, allow_redirects=False) as answer,
    ):
        (cookie,) = answer.cookies.values()
    entry = {"name": cookie.key, "value": cookie.value, "domain": "127.0.0.1", "path": "/", "expires": 4e9}
    return {"cookies": [{**entry, "httpOnly": True, "secure": False, "sameSite": "Lax"}], "origins": []}


@contextlib.asynccontextmanager
async def browser_scenario(
    folder: Path, source: Source, *, children: int, logins_per_browser: int = 1
) -> AsyncIterator[BrowserScenario]:
    """Run the demo site while the context lasts, with a profile for each child."""
    stack = contextlib.ExitStack()
    site = await asyncio.to_thread(stack.enter_context, demo_site())
    with stack:
        scenario = BrowserScenario(folder, source, site, children=children, logins_per_browser=logins_per_browser)
        for name in scenario.config.names:
            await scenario.put_profile(name)
        yield scenario
