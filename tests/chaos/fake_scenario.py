"""Chaos with fake children: real processes without browsers, with every fault that they implement."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.clients import ClientRequest
from tests.chaos.profile_sources import Source
from tests.chaos.scenario import BEHAVIOURS, Fault, Scenario, ScenarioConfig
from tests.chaos.verification import Submission
from tests.coordinator.fake_answer import Behaviour
from tests.support.json_lines import json_lines

PER_REQUEST: tuple[dict[str, Any], ...] = (
    {"stall_after": 0, "keeps_limits": True},
    {"stall_after": 3, "keeps_limits": True},
    {"stall_after": 3, "keeps_limits": True, "keep_alive_s": 0.2},
    {"die_after": 3, "token_s": 0.05, "keep_alive_s": 0.02},
    {"break_after": 0},
    {"break_after": 2},
    {"fail_after": 0},
    {"fail_after": 3},
    {"site_error": "site_error"},
    {"site_error": "page_broken"},
    {"drop": "after"},
    {"drop": "before"},
    {"die_after": 0},
    {"die_after": 3},
    {"error_status": 500},
    {"error_status": 503},
)
FAULT_SHARE = 0.2  # of the requests whose client waits
SHORT_LIMITS = {  # timeouts of a short run
    "QUEUE_TIMEOUT_S": "2",
    "FIRST_TOKEN_TIMEOUT_S": "1",
    "STREAM_IDLE_TIMEOUT_S": "1",
    "UNHEALTHY_TIMEOUT_S": "1",
    "BACKOFF_MAX_S": "0.5",
}
SILENT_STALL = {"stall_after": 1}  # only the coordinator's own timeout ends it


def storage_state(login: str) -> dict[str, Any]:
    """Return a storage state as Playwright saves it; another `login` makes another version."""
    cookie = {"name": "sid", "value": login, "domain": "127.0.0.1", "path": "/", "expires": -1}
    return {"cookies": [{**cookie, "httpOnly": True, "secure": False, "sameSite": "Lax"}], "origins": []}


def fake_request(
    number: int, rng: random.Random, behaviours: Mapping[str, int] = BEHAVIOURS, *, silent_stalls: bool = False
) -> ClientRequest:
    """Return a random request to a fake child, by a client of one of these behaviours, with their weights."""
    behaviour = rng.choices(list(behaviours), list(behaviours.values()))[0]
    fake: dict[str, Any] = {"tokens": rng.randrange(20), "token_s": rng.choice((0, 0, 0.002, 0.01))}
    stream = rng.random() < 0.5
    if behaviour == "never_read":
        fake, stream = {"tokens": 400, "piece_bytes": 1 << 16}, True
    elif behaviour == "leave":
        fake = {"tokens": 50, "token_s": 0.02}
    elif rng.random() < FAULT_SHARE:
        fake |= SILENT_STALL if stream and silent_stalls and rng.random() < 0.01 else rng.choice(PER_REQUEST)
    return ClientRequest(f"{number} {rng.random()}", "fake", stream, behaviour, {"fake": fake})


def submissions_in(evidence: Path) -> list[Submission]:
    """Return what fake children with this folder were given."""
    entries = [entry for path in evidence.glob("*.ledger") for entry in json_lines(path)]
    return [Submission(entry["digest"], entry["token"], _answer(entry)) for entry in entries if "digest" in entry]


class FakeScenario(Scenario):
    """Fake children named c0, c1, ..."""

    def __init__(self, folder: Path, source: Source, *, children: int, short: bool) -> None:
        self._evidence = folder / "evidence"
        self._evidence.mkdir()
        self._short = short
        browser = folder / "browser"
        browser.write_text("#!/bin/sh\n")
        browser.chmod(0o755)
        config = ScenarioConfig(
            command=("-m", "tests.coordinator.run_with_fakes", str(self._evidence)),
            environment={
                **source.environment,
                "BROWSER_EXECUTABLE": str(browser),
                "START_TIMEOUT_S": "15",
                **(SHORT_LIMITS if short else {}),
            },
            folder=folder,
            source=source,
            names=tuple(f"c{number}" for number in range(children)),
        )
        super().__init__(config)

    async def prepare(self) -> None:
        """Write the profiles. Every third child starts a "browser" that outlives it, as real ones may."""
        for number, name in enumerate(self.config.names):
            await self.put_profile(name)
            if number % 3 == 0:
                (self._evidence / f"{name}.json").write_text('{"orphan": true}')

    async def put_profile(self, name: str) -> None:
        await self.config.source.put(name, storage_state(f"{name} {secrets.token_hex(8)}"))

    def request(self, number: int, rng: random.Random) -> ClientRequest:
        return fake_request(number, rng, silent_stalls=not self._short)

    async def submissions(self) -> list[Submission]:
        return submissions_in(self._evidence)

    def faults(self) -> Mapping[Fault, int]:
        slow: dict[Fault, int] = {} if self._short else {self.hang: 1, self.ignore_term: 1}
        return slow | {
            self.kill: 12,
            self.stop_and_continue: 10,
            self.refuse_for_a_while: 8,
            self.cut_for_a_while: 8,
            self.page_broken: 6,
            self.not_confirm: 4,
            self.login_expired: 6,
            self.quota: 6,
            self.exit: 6,
            self.change_profile: 4,
            self.remove_and_add: 3,
            self.source_fails: 3,
            self.restart: 4,
            self.drain: 3,
        }

    async def refuse_for_a_while(self, name: str, rng: random.Random) -> None:
        """Let the child answer with an error status for a while."""
        await self._for_a_while(name, rng, "error_status", rng.choice((500, 502, 503)))

    async def cut_for_a_while(self, name: str, rng: random.Random) -> None:
        """Let the child drop connections for a while."""
        await self._for_a_while(name, rng, "drop", rng.choice(("before", "after")))

    async def page_broken(self, name: str, rng: random.Random) -> None:
        """Let the child report a broken page or browser for a while."""
        await self._for_a_while(name, rng, "unready", rng.choice(("page_broken", "browser_lost")))

    async def not_confirm(self, name: str, rng: random.Random) -> None:
        """Let the child fail to confirm cancels for a while."""
        await self._for_a_while(name, rng, "cancel_status", 503)

    async def _for_a_while(self, name: str, rng: random.Random, key: str, value: Any) -> None:
        await self.behave(name, **{key: value})
        await asyncio.sleep(rng.uniform(0.2, 1.5))
        await self.behave(name, **{key: getattr(Behaviour(), key)})

    async def login_expired(self, name: str, rng: random.Random) -> None:
        """Let the child report that its login has expired."""
        await self.behave(name, unready="login_expired")

    async def quota(self, name: str, rng: random.Random) -> None:
        """Let the child report a message limit."""
        await self.behave(name, unready="quota", rest_s=rng.choice((0.5, 2.0, 600.0)))

    async def exit(self, name: str, rng: random.Random) -> None:
        """Let the child exit with a random code."""
        await self.behave(name, exit_code=rng.choice((0, 1, 2, 70, 71, 73)))

    async def hang(self, name: str, rng: random.Random) -> None:
        """Let the child stop responding."""
        await self.behave(name, hang=True)

    async def ignore_term(self, name: str, rng: random.Random) -> None:
        """Restart the child while it ignores SIGTERM."""
        await self.behave(name, ignore_term=True)
        await self.restart(name, rng)

    async def behave(self, name: str, **change: Any) -> None:
        """Change the behaviour of a child; ignore one that does not run, or exits instead of answering."""
        port = self.fleet.child_ports.start + self.config.names.index(name)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=1)
            async with self.fleet.http.post(f"http://127.0.0.1:{port}/fake", json=change, timeout=timeout) as answer:
                await answer.read()

    async def clear_faults(self) -> None:
        await super().clear_faults()
        default = {**asdict(Behaviour()), "orphan": False}
        for name in self.config.names:
            await self.behave(name, **default)


def _answer(entry: dict[str, Any]) -> str:
    return " ".join((entry["digest"], entry["token"], *(f"t{index}" for index in range(entry["tokens"]))))
