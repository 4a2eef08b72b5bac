"""Logins of every kind outlive what happens to a fleet: no login is lost, and no deleted cookie comes back."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from openai import OpenAIError

from browser.site.load import SITES_DIR
from demo.accounts import CARRIED_BY, LoginKind
from tests.e2e.fleet import (
    MODEL,
    Fleet,
    Site,
    alive,
    command_line,
    demo_site,
    descendants,
    eventually,
    fetch,
    fleet,
    log_in_as,
    new_login,
)

USERS: dict[str, LoginKind] = {f"user{number}": kind for number, kind in enumerate(CARRIED_BY, 1)}
CHECK = 'check = { url = "/api/me", expired_status = [401] }\n'
SEED = 14


class Events:
    """What happens to a fleet's children, by a seeded choice."""

    def __init__(self, running: Fleet, site: Site, profiles: Path, seed: int) -> None:
        self._running = running
        self._site = site
        self._profiles = profiles
        self._random = random.Random(seed)
        self.seen: list[str] = []

    def happen(self) -> None:
        """Let one event happen to one child while all are asked, and wait until all are ready again."""
        # Each event once before any a second time: a short run has all of them.
        events: tuple[Callable[[str], None], ...] = (
            self.kill_child,
            self.kill_browser,
            self.restart,
            self.reload,
            self.replace_profile,
        )
        event = events[len(self.seen) % len(events)]
        user = self._random.choice(sorted(USERS))
        self.seen.append(f"{event.__name__} {user} ({USERS[user]})")
        with ThreadPoolExecutor(len(USERS)) as pool:
            asked = [pool.submit(self._ask, number) for number in range(len(USERS))]
            time.sleep(self._random.uniform(0, 0.6))  # the moment is part of what is chosen
            event(user)
            _wait_all(asked)
        self._running.wait_for(timeout_s=120, **dict.fromkeys(USERS, "READY"))

    def _ask(self, number: int) -> None:
        prompt = f"event {len(self.seen)} question {number} [[tokens={self._random.choice([5, 50])}]]"
        client = self._running.client(max_retries=0)
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])

    def kill_child(self, user: str) -> None:
        """SIGKILL."""
        self._kill(user, self._running.child_pid(user))

    def kill_browser(self, user: str) -> None:
        """SIGKILL."""
        below = descendants(self._running.child_pid(user))
        browsers = [
            pid
            for pid in below
            if (words := command_line(pid)) and "chrom" in words[0] and not any("--type=" in word for word in words)
        ]
        assert browsers, [command_line(pid) for pid in below]
        self._kill(user, *browsers)

    def _kill(self, user: str, *pids: int) -> None:
        before = self._running.children()[user]["restarts"]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: self._running.children()[user]["restarts"] > before, timeout_s=120, what=self.seen[-1])

    def restart(self, user: str) -> None:
        """By an operator."""
        before = self._running.child_pid(user)
        self._post(f"/admin/children/{user}/restart")
        eventually(lambda: not alive([before]), timeout_s=120, what=self.seen[-1])

    def reload(self, _: str) -> None:
        """With nothing changed."""
        self._post("/admin/reload")

    def replace_profile(self, user: str) -> None:
        """By a new login of the same kind, and wait until it is in use."""
        before = {session["id"] for session in self._site.sessions()["open"] if session["account"] == user}
        state = new_login(self._site, user, USERS[user])
        (self._profiles / f"{user}.json").write_text(json.dumps(state))
        self._post("/admin/reload")
        eventually(
            lambda: self._site.used_since(user, before), timeout_s=120, what=f"{self.seen[-1]}: the new login's use"
        )

    def _post(self, path: str) -> None:
        status, body = fetch(self._running.url + path, headers={"authorization": "Bearer test-key"}, method="POST")
        assert status in (200, 202), body


def _wait_all(asked: list[Future[None]]) -> None:
    """Wait for all answers; what a child that was killed had in hand may fail."""
    for future in asked:
        error = future.exception()
        assert error is None or isinstance(error, OpenAIError), error


def run_events(tmp_path: Path, empty_tmp: Path, count: int) -> None:
    site_file = tmp_path / "kinds.toml"
    with demo_site("--refresh-ttl-s", "86400") as site:
        text = (SITES_DIR / "demo.toml").read_text()
        # A token that a script keeps goes with the page's own requests only.
        assert CHECK in text
        site_file.write_text(text.replace(CHECK, "").replace('/chat"', '/any/chat"', 1))
        profiles = log_in_as(site, tmp_path / "active", USERS)
        environment = {"CHAT_SITE": str(site_file), "TMPDIR": str(empty_tmp), "BACKOFF_MAX_S": "0.5"}
        with fleet(site, profiles, tmp_path / "fleet", **environment) as running:
            running.wait_for(timeout_s=180, **dict.fromkeys(USERS, "READY"))
            events = Events(running, site, profiles, SEED)
            for _ in range(count):
                events.happen()
            log = running.log.read_text()
            found = site.sessions()
        assert "login_expired" not in log, events.seen
        assert (found["reused"], found["resurrected"]) == (0, 0), events.seen
        asked = {entry["account"] for entry in site.ledger(outcome="done")}
        assert asked == set(USERS), events.seen


def test_logins_of_every_kind_outlive_some_events(tmp_path: Path, empty_tmp: Path) -> None:
    run_events(tmp_path, empty_tmp, 10)


@pytest.mark.long
def test_logins_of_every_kind_outlive_two_hundred_events(tmp_path: Path, empty_tmp: Path) -> None:
    run_events(tmp_path, empty_tmp, 200)
