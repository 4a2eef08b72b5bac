"""Logins of every kind outlive what happens to a fleet: none is lost, in plain on disk, or partly resurrected."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from openai import OpenAIError

from browser.site.load import SITES_DIR
from demo.accounts import CARRIED_BY, LoginKind
from tests.e2e.fleet import MODEL, Site, alive, demo_site, eventually, fetch, log_in_as, new_login
from tests.e2e.lasting import RESTART_S, LastingFleet, SessionStore, lasting_fleet, secrets_of
from tests.support.size import size

pytestmark = pytest.mark.slow

USERS: dict[str, LoginKind] = {f"user{number}": kind for number, kind in enumerate(CARRIED_BY, 1)}
CHECK = 'check = { url = "/api/me", expired_status = [401] }\n'
SEED = 14
ROUND = 6
EVENTS = size(ROUND, 200)


class Events:
    """What happens to a fleet, by a seeded choice."""

    def __init__(self, fleet: LastingFleet, site: Site, profiles: Path, seed: int) -> None:
        self._fleet = fleet
        self._site = site
        self._profiles = profiles
        self._random = random.Random(seed)
        self._left: list[Callable[[str], None]] = []
        self.seen: list[str] = []

    def happen(self) -> None:
        """Let one event happen to one ready child, or to the coordinator, while all are asked; some may be starting."""
        if not self._left:  # each once before any a second time: a short run has all of them
            self._left = [
                self._fleet.kill_child,
                self._fleet.kill_browser,
                self._fleet.kill_coordinator,
                self.restart,
                self.reload,
                self.replace_profile,
            ]
            self._random.shuffle(self._left)
        event, user = self._left.pop(), self._random.choice(sorted(USERS))
        self.seen.append(f"{event.__name__} {user} ({USERS[user]})")
        prompts = [
            f"event {len(self.seen)} question {number} [[tokens={self._random.choice([5, 50])}]]"
            for number in range(len(USERS))
        ]
        moment_s = self._random.uniform(0, 0.6)
        self._fleet.running.wait_for(RESTART_S, **{user: "READY"})
        with ThreadPoolExecutor(len(USERS)) as pool:
            asked = [pool.submit(self._ask, prompt) for prompt in prompts]
            time.sleep(moment_s)
            event(user)
            _wait_all(asked)

    def all_ready(self) -> None:
        """Wait until no login is missing."""
        self._fleet.running.wait_for(RESTART_S, **dict.fromkeys(USERS, "READY"))

    def _ask(self, prompt: str) -> None:
        client = self._fleet.running.client(max_retries=0)
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])

    def restart(self, user: str) -> None:
        """By an operator."""
        before = self._fleet.running.child_pid(user)
        self._post(f"/admin/children/{user}/restart")
        eventually(lambda: not alive([before]), timeout_s=RESTART_S, what=self.seen[-1])

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
            lambda: self._site.used_since(user, before),
            timeout_s=RESTART_S,
            what=f"{self.seen[-1]}: the new login's use",
        )

    def _post(self, path: str) -> None:
        url = self._fleet.running.url + path
        status, body = fetch(url, headers={"authorization": "Bearer test-key"}, method="POST")
        assert status in (200, 202), body


def _wait_all(asked: list[Future[None]]) -> None:
    """Wait for all answers; what a child that was killed had in hand may fail."""
    for future in asked:
        error = future.exception()
        assert error is None or isinstance(error, OpenAIError), error


@pytest.mark.timeout(size(1200, 14400))  # six browsers start again with each coordinator
def test_logins_of_every_kind_outlive_random_events(tmp_path: Path, empty_tmp: Path) -> None:
    site_file = tmp_path / "kinds.toml"
    store = SessionStore(tmp_path / "store")
    with demo_site("--refresh-ttl-s", "86400") as site:
        text = (SITES_DIR / "demo.toml").read_text()
        # A token that a script keeps goes with the page's own requests only.
        assert CHECK in text
        site_file.write_text(text.replace(CHECK, "").replace('/chat"', '/any/chat"', 1))
        profiles = log_in_as(site, tmp_path / "active", USERS)
        environment = {
            "CHAT_SITE": str(site_file),
            "TMPDIR": str(empty_tmp),
            "BACKOFF_MAX_S": "0.5",
            "START_TIMEOUT_S": str(RESTART_S),
        }
        with lasting_fleet(site, profiles, tmp_path / "fleet", **environment, **store.environment) as lasting:
            events = Events(lasting, site, profiles, SEED)
            events.all_ready()
            secrets: set[str] = set()
            for number in range(1, EVENTS + 1):
                events.happen()
                if number % ROUND == 0:
                    events.all_ready()
                secrets |= store.secrets() | secrets_of([json.loads(path.read_text()) for path in profiles.iterdir()])
                assert store.in_plain(secrets, empty_tmp) == [], events.seen
            events.all_ready()
            found = site.sessions()
            log = lasting.log()
        assert not [text for text in ("login_expired", "Traceback") if text in log], events.seen
        assert not [secret for secret in secrets if secret in log]
        assert (found["reused"], found["resurrected"]) == (0, 0), events.seen
        # Each login that was ever given is open, also those that a newer profile has replaced.
        given = len(USERS) + sum(one.startswith("replace_profile") for one in events.seen)
        assert len(found["open"]) == given, events.seen
        # A token of each was looked for on the disk, and of the one that changes more than one; the look finds them.
        assert len(secrets) > given
        assert sorted(store.in_plain(secrets, profiles)) == sorted(profiles.iterdir())
        asked = {entry["account"] for entry in site.ledger(outcome="done")}
        assert asked == set(USERS), events.seen
