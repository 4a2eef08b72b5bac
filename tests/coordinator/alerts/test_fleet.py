"""Each kind of alert and its end, caused by real processes that are fake children, and told to a real receiver."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.alerts.alert import WORDS, AlertKind
from coordinator.alerts.alerts import Alerts, Thresholds
from coordinator.alerts.conditions import Key
from coordinator.alerts.receiver import Receiver
from coordinator.alerts.signature import read_secrets
from coordinator.alerts.state_file import StateFile
from coordinator.proxy.pool import Pool
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.events import PageChanged, PageRecovered
from coordinator.supervision.lifecycle import State
from coordinator.supervision.supervisor import Supervisor
from tests.coordinator.alerts.test_delivery import Counted
from tests.coordinator.fleet import Fleet, prepared_fleet
from tests.support.waiting import eventually
from tests.support.webhooks import WebhookServer, hangs, webhook_server, write_secret

QUICK = Thresholds(away_after_s=0.2, page_broken_s=0.2, steady_s=0.3, look_every_s=0.05)
DAY_S = 86_400.0
DEMO = SiteStatus("demo", "demo.toml", ok=None, checked_at=None, failures=0, found=None, new_file=None)


@dataclass
class Watched:
    """The supervised fleet of a test, as `Alerts` looks at the coordinator's."""

    supervisor: Supervisor
    pool: Pool
    sites: list[SiteStatus]

    @property
    def ready(self) -> bool:
        return self.supervisor.ready

    def hydrated_at(self) -> float | None:
        return 1.0

    def rejected(self) -> frozenset[str]:
        return frozenset()

    def site_checks(self) -> list[SiteStatus]:
        return self.sites


@dataclass
class Told:
    fleet: Fleet
    server: WebhookServer
    alerts: Alerts
    sites: list[SiteStatus]

    async def until(
        self, kind: AlertKind, about: str | None = None, recovered_from: AlertKind | None = None
    ) -> dict[str, Any]:
        """Wait until this was told, and return its data."""
        wanted = (kind, about, recovered_from)
        await eventually(lambda: wanted in self.server.told(), what=self.server.told)
        data: dict[str, Any] = self.server.taken[self.server.told().index(wanted)].body["data"]
        return data

    def about(self, name: str | None) -> list[str]:
        """What was told of this child or site, in order."""
        return [kind for kind, about, _ in self.server.told() if about == name]


@contextlib.asynccontextmanager
async def told(
    tmp_path: Path, *names: str, state_file: StateFile | None = None, cell: str | None = None, **policy: Any
) -> AsyncIterator[Told]:
    """Ready children, and a receiver that is told of them."""
    with webhook_server() as server:
        receiver = Receiver(server.url, read_secrets(write_secret(tmp_path)))
        alerts = Alerts(receiver, Counted(), thresholds=QUICK, state_file=state_file, cell=cell)
        async with prepared_fleet(tmp_path, hooks=[alerts.fleet_event], **policy) as fleet:
            sites: list[SiteStatus] = []
            alerts.watch(Watched(fleet.supervisor, fleet.pool, sites))
            alerts.start()
            await fleet.start([fleet.profile(name) for name in names])
            try:
                await eventually(lambda: all(child.state == "READY" for child in fleet.supervisor.snapshot()))
                yield Told(fleet, server, alerts, sites)
            finally:
                await alerts.close()
    assert server.wrong == []


async def test_each_condition_of_a_child_is_told_and_its_end_too(tmp_path: Path) -> None:
    names = ("ada", "bob", "cyd", "dan", "eve")
    async with told(tmp_path, *names, crash_loop_after=2, crash_loop_retry_s=0.2) as t:
        fleet = t.fleet

        # A lost login is over when another profile is ready.
        await fleet.behave("ada", unready="login_expired", detail="canary-detail")
        assert (await t.until(AlertKind.LOGIN_LOST, "ada"))["reason"] == "login_expired"
        await fleet.supervisor.reconcile([fleet.profile(name, version=2 if name == "ada" else 1) for name in names])
        ended = await t.until(AlertKind.RECOVERED, "ada", AlertKind.LOGIN_LOST)
        assert ended["lasted_s"] >= 0

        # A quota is over when the child has rested and is ready again.
        await fleet.behave("bob", unready="quota", rest_s=0.1)
        assert (await t.until(AlertKind.QUOTA, "bob"))["reason"] == "quota"
        await t.until(AlertKind.RECOVERED, "bob", AlertKind.QUOTA)

        # A crash loop is over when the child has been ready for a while.
        fleet.plan("cyd", exit_code=1)
        await fleet.behave("cyd", exit_code=1)
        assert (await t.until(AlertKind.CRASH_LOOP, "cyd"))["reason"] == "crash_loop"
        fleet.plan("cyd")
        await t.until(AlertKind.RECOVERED, "cyd", AlertKind.CRASH_LOOP)

        # A page that is not as described may come back as it is.
        await fleet.behave("dan", unready="page_broken")
        assert (await t.until(AlertKind.PAGE_CHANGED, "dan"))["reason"] == "page_broken"
        await fleet.behave("dan", unready=None)
        await t.until(AlertKind.RECOVERED, "dan", AlertKind.PAGE_CHANGED)

        # A login that expires soon is told ahead, and is over when it is renewed.
        await fleet.behave("eve", login_expires_at=time.time() + 2 * DAY_S)
        warned = await t.until(AlertKind.LOGIN_EXPIRES, "eve")
        assert warned["days_left"] == pytest.approx(2, abs=0.01)
        assert warned["expires_at"].endswith("Z")
        await fleet.behave("eve", login_expires_at=time.time() + 30 * DAY_S)
        await t.until(AlertKind.RECOVERED, "eve", AlertKind.LOGIN_EXPIRES)

        kinds = {
            "ada": "login_lost",
            "bob": "quota",
            "cyd": "crash_loop",
            "dan": "page_changed",
            "eve": "login_expires",
        }
        for name, kind in kinds.items():
            assert t.about(name) == [kind, "recovered"]
        assert "canary" not in "".join(one.raw.decode() for one in t.server.taken)
        assert all(one.body["data"]["message"] == WORDS[one.body["type"]] for one in t.server.taken)


async def test_a_fleet_without_a_ready_child_is_told_when_that_lasts(tmp_path: Path) -> None:
    async with told(tmp_path, "ada", "bob") as t:
        await t.fleet.behave("ada", unready="browser_lost")
        await t.fleet.behave("bob", unready="browser_lost")
        assert (await t.until(AlertKind.ALL_AWAY))["children"] == {"UNHEALTHY": 2}
        await t.fleet.behave("ada", unready=None)
        await t.until(AlertKind.RECOVERED, None, AlertKind.ALL_AWAY)
        assert t.about(None) == ["all_away", "recovered"]


async def test_a_page_that_stays_another_at_each_start_is_told(tmp_path: Path) -> None:
    async with told(tmp_path, "ada") as t:
        t.fleet.plan("ada", unready="page_broken")
        t.fleet.supervisor.restart("ada")
        await t.until(AlertKind.PAGE_CHANGED, "ada")


async def test_what_is_gone_is_over(tmp_path: Path) -> None:
    async with told(tmp_path, "ada", "bob") as t:
        await t.fleet.behave("ada", unready="login_expired")
        await t.until(AlertKind.LOGIN_LOST, "ada")
        await t.fleet.supervisor.reconcile([t.fleet.profile("bob")])
        assert (await t.until(AlertKind.RECOVERED, "ada", AlertKind.LOGIN_LOST))["reason"] == "profile_gone"


async def test_a_check_of_a_page_is_told_with_file_line_and_selector(tmp_path: Path) -> None:
    async with told(tmp_path, "ada") as t:
        where = "demo.toml, line 12,\n ready: nothing matches #prompt " + "x" * 1000
        t.sites.append(DEMO)
        for _ in range(3):
            t.alerts.page_changed("demo", where, child="ada")
        told_of = await t.until(AlertKind.PAGE_CHANGED, "ada")
        assert told_of["site"] == "demo"
        assert told_of["where"].startswith("demo.toml, line 12, ready: nothing matches #prompt x")
        assert len(told_of["where"]) == 500
        # The child whose login was tried is ready all the time: only the check may say that it is over.
        await t.fleet.behave("ada", unready="browser_lost")
        await t.fleet.until("ada", t.fleet.status("ada").state.UNHEALTHY)
        await t.fleet.behave("ada", unready=None)
        await t.fleet.until("ada", t.fleet.status("ada").state.READY)
        t.alerts.page_as_described("demo")
        await t.until(AlertKind.RECOVERED, "demo", AlertKind.PAGE_CHANGED)
        assert [kind for kind, _, _ in t.server.told()].count("page_changed") == 1


async def test_what_the_canary_finds_is_told_and_its_end_too(tmp_path: Path) -> None:
    async with told(tmp_path, "ada") as t:
        t.sites.append(DEMO)
        changed = PageChanged("ada", 0, "demo", "demo.toml", 7, "input.selector", "#gone", "input", "nothing matches")
        t.alerts.fleet_event(changed)
        told_of = await t.until(AlertKind.PAGE_CHANGED, "ada")
        assert (told_of["site"], told_of["where"]) == ("demo", "demo.toml, line 7, input.selector: #gone")
        t.alerts.fleet_event(PageRecovered("ada", 0, "demo", "demo.toml"))
        await t.until(AlertKind.RECOVERED, "demo", AlertKind.PAGE_CHANGED)


async def test_a_changed_page_is_over_when_a_later_check_passes_or_no_login_has_its_site(tmp_path: Path) -> None:
    async with told(tmp_path, "ada") as t:
        t.sites[:] = [DEMO, replace(DEMO, site="gone")]
        for site in ("demo", "gone"):
            t.alerts.page_changed(site, f"{site}.toml")
        t.sites[:] = [replace(DEMO, ok=True, checked_at=time.time())]  # by a coordinator that did not see it begin
        await t.until(AlertKind.RECOVERED, "demo", AlertKind.PAGE_CHANGED)
        assert (await t.until(AlertKind.RECOVERED, "gone", AlertKind.PAGE_CHANGED))["reason"] == "profile_gone"


async def test_what_was_told_before_a_restart_is_not_told_again_nor_over_before_its_child_is_ready(
    tmp_path: Path,
) -> None:
    file = StateFile(tmp_path / "alerts.json")
    file.write((), {Key(AlertKind.LOGIN_EXPIRES, "ada"): 1.7e9, Key(AlertKind.LOGIN_LOST, "bob"): 1.7e9})
    plan = {"start_s": 0.3, "login_expires_at": time.time() + DAY_S}
    (tmp_path / "ada.json").write_text(json.dumps(plan))
    async with told(tmp_path, "ada", "bob", state_file=StateFile(tmp_path / "alerts.json")) as t:
        assert (await t.until(AlertKind.RECOVERED, "bob", AlertKind.LOGIN_LOST))["lasted_s"] > 1e6
        await t.fleet.behave("ada", login_expires_at=time.time() + 30 * DAY_S)
        await t.until(AlertKind.RECOVERED, "ada", AlertKind.LOGIN_EXPIRES)
        assert (t.about("ada"), t.about("bob")) == (["recovered"], ["recovered"])


async def test_a_place_that_is_lost_keeps_no_alert_from_being_sent(tmp_path: Path) -> None:
    place = tmp_path / "volume"
    place.mkdir()
    async with told(tmp_path, "ada", state_file=StateFile(place / "alerts.json")) as t:
        (place / "alerts.json").unlink()
        place.rmdir()
        await t.fleet.behave("ada", unready="quota", rest_s=0.1)
        await t.until(AlertKind.RECOVERED, "ada", AlertKind.QUOTA)


async def test_an_orderly_end_is_no_news(tmp_path: Path) -> None:
    async with told(tmp_path, "ada", "bob") as t:
        await t.fleet.supervisor.drain_and_stop()
        t.alerts.look()
        t.alerts._clock = lambda: math.inf  # whatever has to last has lasted
        t.alerts.look()
        assert t.alerts.queued() == {}
        assert t.server.received == []


async def test_a_receiver_that_hangs_or_is_away_does_not_touch_supervision(tmp_path: Path) -> None:
    async with told(tmp_path, "ada", "bob") as t:
        t.server.answers.append(hangs)
        for name in ("ada", "bob"):
            await t.fleet.behave(name, unready="quota", rest_s=0.0)
        for name in ("ada", "bob"):
            await t.fleet.until_start(name, 2)
        assert t.server.taken == []
        t.server.released.set()
        await t.until(AlertKind.RECOVERED, "bob", AlertKind.QUOTA)


async def test_a_cell_names_itself_in_what_it_tells(tmp_path: Path) -> None:
    async with told(tmp_path, "ada", cell="west") as t:
        await t.fleet.behave("ada", unready="login_expired")
        assert (await t.until(AlertKind.LOGIN_LOST, "ada"))["cell"] == "west"
        assert (await t.until(AlertKind.ALL_AWAY))["cell"] == "west"


async def test_a_cell_without_any_login_is_not_away(tmp_path: Path) -> None:
    receiver = Receiver("http://127.0.0.1:9", read_secrets(write_secret(tmp_path)))
    now = [0.0]
    alerts = Alerts(receiver, Counted(), thresholds=QUICK, clock=lambda: now[0])
    async with prepared_fleet(tmp_path) as fleet:
        alerts.watch(Watched(fleet.supervisor, fleet.pool, []))
        for _ in range(3):
            alerts.look()
            now[0] += 1000.0
        assert not alerts.queued()
        fleet.plan("ada", never_ready=True)
        await fleet.start([fleet.profile("ada")])
        for _ in range(3):
            alerts.look()
            now[0] += 1000.0
        assert alerts.queued() == {AlertKind.ALL_AWAY: 1}


async def test_of_a_login_that_another_cell_has_that_one_tells(tmp_path: Path) -> None:
    receiver = Receiver("http://127.0.0.1:9", read_secrets(write_secret(tmp_path)))
    now = [0.0]
    alerts = Alerts(receiver, Counted(), thresholds=QUICK, clock=lambda: now[0])

    def look() -> Counter[AlertKind]:
        for _ in range(3):
            alerts.look()
            now[0] += 1000.0
        return alerts.queued()

    async with prepared_fleet(tmp_path, hooks=[alerts.fleet_event], needs_claims=True) as fleet:
        alerts.watch(Watched(fleet.supervisor, fleet.pool, []))
        fleet.plan("ada", unready="login_expired")
        await fleet.start([fleet.profile("ada")])
        ada = fleet.supervisor.child("ada")
        ada.held_by("east")
        assert not look(), "nothing of it is this cell's"
        ada.grant(None)
        await fleet.until("ada", State.FAILED)
        assert look() == {AlertKind.LOGIN_LOST: 1, AlertKind.ALL_AWAY: 1}
        await eventually(lambda: ada.clean)
        ada.lose_claim()
        ada.held_by("east")
        assert look() == {AlertKind.LOGIN_LOST: 1, AlertKind.ALL_AWAY: 1, AlertKind.RECOVERED: 2}
        assert not alerts._conditions.holding()
