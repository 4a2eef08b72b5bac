"""A site file that changes while the fleet runs, over fake children: who gets it, when, and what is said."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.child_api import MOST_SITE_FILE_BYTES
from coordinator.supervision.canary import Canary
from coordinator.supervision.events import ChildMoved, PageChanged, PageRecovered
from coordinator.supervision.lifecycle import State
from coordinator.supervision.site_file import SiteFile
from coordinator.supervision.site_reload import SiteReload
from tests.coordinator.fleet import Fleet, prepared_fleet

OLD, NEW = 'name = "old"\n', 'name = "new"\n'
NAMES = ("a", "b", "c")


@dataclass
class Watched:
    fleet: Fleet
    site: SiteFile
    canary: Canary
    reload: SiteReload

    async def change(self, text: str) -> None:
        """Save another text, and have it looked at as often as it takes to be tried."""
        self.site.path.write_text(text)
        await self.reload.look()
        await self.reload.look()

    def texts(self, name: str) -> list[str]:
        """The site files that this child was started with."""
        return [note["text"] for note in self.fleet.notes(name, "sites")]

    def tried(self) -> list[tuple[str, str]]:
        """The checks, by child and text."""
        return [(name, note["text"]) for name in NAMES for note in self.fleet.notes(name, "checks")]


@contextlib.asynccontextmanager
async def watched(
    tmp_path: Path, plans: dict[str, dict[str, Any]] | None = None, **changes: Any
) -> AsyncIterator[Watched]:
    """A fleet of three with a site file, all READY; `plans` are how children behave from the start."""
    async with prepared_fleet(tmp_path, default_site=str(tmp_path / "mine.toml"), **changes) as fleet:
        site = SiteFile(tmp_path / "mine.toml", OLD)
        site.path.write_text(OLD)
        for name, behaviour in (plans or {}).items():
            fleet.plan(name, **behaviour)
        fleet.supervisor.use_site(site.site, str(site.path), site.text)
        await fleet.start([fleet.profile(name) for name in NAMES])
        for name in NAMES:
            await fleet.until(name, State.READY)
        canary = Canary(site, fleet.supervisor, interval_s=1, emit=fleet.events.append)
        yield Watched(fleet, site, canary, SiteReload(canary, fleet.supervisor, child_limit_s=60.0))


def restarts(fleet: Fleet) -> list[str]:
    return [
        event.child for event in fleet.events if isinstance(event, ChildMoved) and event.new.state is State.DRAINING
    ]


async def test_a_new_file_that_passes_is_given_to_one_child_after_another(tmp_path: Path) -> None:
    async with watched(tmp_path) as running:
        fleet, seen = running.fleet, len(running.fleet.events)
        await running.change(NEW)
        assert running.tried() == [("a", NEW)]
        for name in NAMES:
            assert running.texts(name) == [OLD, NEW]
            assert fleet.notes(name, "sites")[-1]["shown"] == str(running.site.path)
            assert fleet.is_in(name, State.READY)
        away: set[str] = set()
        for event in fleet.events[seen:]:
            if isinstance(event, ChildMoved):
                away = away - {event.child} if event.new.state is State.READY else away | {event.child}
                assert len(away) <= 1, event
        assert restarts(fleet) == list(NAMES)
        assert running.reload.status().public()["new_file"] is None
        assert running.reload.warnings() == []


async def test_a_new_file_that_fails_is_refused_and_nobody_gets_it(tmp_path: Path) -> None:
    fails = {name: {"check_changed_by": "new"} for name in NAMES}
    async with watched(tmp_path, fails) as running:
        await running.change(NEW)
        assert running.tried() == [("a", NEW), ("b", NEW)], "confirmed on another login"
        why = "refused: step 'input' fails on b; look at mine.toml, line 3 (input.selector): '#gone'"
        assert running.reload.warnings() == [f"The new mine.toml is not in use: {why}."]
        assert running.reload.status().public()["new_file"] == why
        assert restarts(running.fleet) == []
        # Whoever starts meanwhile gets the old one, which is not on the disk any more.
        await running.fleet.behave("c", signal=9)
        await running.fleet.until_start("c", 2)
        assert running.texts("c") == [OLD, OLD]
        await running.reload.look()
        assert len(running.tried()) == 2, "not again, until the operator asks for it or changes it"
        running.reload.try_again()
        await running.reload.look()
        await running.reload.look()
        assert len(running.tried()) == 4
        await running.change(OLD)
        assert running.reload.warnings() == []


async def test_a_file_that_is_being_written_is_not_tried(tmp_path: Path) -> None:
    async with watched(tmp_path) as running:
        for length in range(3, len(NEW)):
            running.site.path.write_text(NEW[:length])
            await running.reload.look()
        assert running.tried() == []
        running.site.path.write_text(OLD + "#" * MOST_SITE_FILE_BYTES)
        await running.reload.look()
        assert running.reload.note == "it is larger than 1048576 bytes"
        running.site.path.unlink()
        await running.reload.look()
        assert running.reload.note == "mine.toml cannot be read: No such file or directory"
        assert restarts(running.fleet) == []


async def test_a_file_with_which_the_first_child_does_not_become_ready_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path, crash_loop_after=1) as running:
        running.fleet.plan("a", exit_code=70)  # from its next start on, whatever its file

        use = running.fleet.supervisor.use_site

        def use_site(site: str, file: str, text: str) -> None:
            use(site, file, text)
            if text == OLD:
                (tmp_path / "a.json").unlink()

        monkeypatch.setattr(running.fleet.supervisor, "use_site", use_site)
        await running.change(NEW)
        assert running.reload.note is not None
        assert running.reload.note.startswith("refused: a did not become ready with it")
        await running.fleet.until("a", State.READY)
        assert running.texts("a") == [OLD, NEW, OLD]
        assert running.texts("b") == running.texts("c") == [OLD]
        assert running.site.text == OLD


async def test_a_new_file_waits_for_an_idle_login(tmp_path: Path) -> None:
    busy = {name: {"check": "given_up"} for name in NAMES}
    async with watched(tmp_path, busy) as running:
        await running.change(NEW)
        assert running.reload.note == "waits for an idle login to be tried on"
        await running.fleet.behave("b", check="passed")
        for _ in NAMES:
            await running.reload.look()
        assert running.site.text == NEW


async def test_where_nobody_serves_there_is_nothing_to_lose(tmp_path: Path) -> None:
    async with watched(tmp_path, crash_loop_after=1) as running:
        await running.fleet.behave("a", exit_code=70)
        await running.fleet.until("a", State.RESTING)
        for name in ("b", "c"):
            await running.fleet.behave(name, unready="login_expired")
            await running.fleet.until(name, State.FAILED)
        await running.change(NEW)
        for name in NAMES:
            await running.fleet.until(name, State.READY)
            assert running.texts(name) == [OLD, NEW]


async def test_the_page_of_broken_children_is_checked_only_where_none_serves(tmp_path: Path) -> None:
    async with watched(tmp_path) as running:
        supervisor = running.fleet.supervisor
        await running.fleet.behave("a", unready="page_broken")
        await running.fleet.until("a", State.UNHEALTHY)
        assert supervisor.checkable() == ["b", "c"]
        for name in ("b", "c"):
            await running.fleet.behave(name, unready="browser_lost")
            await running.fleet.until(name, State.UNHEALTHY)
        assert supervisor.checkable() == ["a"]


async def test_a_page_that_changed_is_told_and_a_better_file_ends_it(tmp_path: Path) -> None:
    fails = {name: {"check_changed_by": "old"} for name in NAMES}
    async with watched(tmp_path, fails) as running:
        assert await running.canary.look()
        changed = [event for event in running.fleet.events if isinstance(event, PageChanged)]
        assert [(event.child, event.line, event.selector) for event in changed] == [("b", 3, "#gone")]
        (warning,) = running.canary.warnings()
        assert warning.startswith(
            "The page of mine is not what its site file says: its step 'input' fails; look at mine"
        )
        assert warning.endswith("mine.toml, line 3 (input.selector): '#gone'.")
        await running.change(NEW)
        assert isinstance(running.fleet.events[-1], PageRecovered)
        assert running.canary.warnings() == []
