"""When the canary looks, on whose page, and what it tells: properties, with scripted pages under a fake clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from contract.site_check import CheckOutcome, SiteCheck
from coordinator.supervision.canary import AGAIN_S, Canary
from coordinator.supervision.events import FleetEvent, PageChanged, PageRecovered
from coordinator.supervision.site_file import SiteFile

NAMES = ("a", "b", "c")
INTERVAL_S = 600.0
ENDS = 50
OUTCOMES = st.sampled_from(list(CheckOutcome))


class Over(Exception):
    """The script has come to its end."""


@dataclass
class ScriptedFleet:
    """Plays one entry for each time that somebody is sought: who is idle, and what a check then finds."""

    script: list[tuple[frozenset[str], CheckOutcome, str]]
    now_s: float = 0.0
    rand: float = 0.0
    looked: list[tuple[float, str, frozenset[str], CheckOutcome]] = field(default_factory=list)
    sought: list[float] = field(default_factory=list)
    events: list[tuple[int, FleetEvent]] = field(default_factory=list)
    running: int = 0

    def checkable(self) -> list[str]:
        if not self.script:
            raise Over
        self.sought.append(self.now_s)
        idle, self.outcome, self.key = self.script.pop(0)
        self.idle = idle
        return sorted(idle)

    async def check_site(self, name: str, file: str, text: str) -> SiteCheck:
        assert (file, text) == ("demo.toml", "the text")
        assert not self.running, "two checks of one site at a time"
        self.running += 1
        await asyncio.sleep(0)
        self.running -= 1
        self.looked.append((self.now_s, name, self.idle, self.outcome))
        key = self.key if self.outcome is CheckOutcome.CHANGED else None
        return SiteCheck(self.outcome, "why", file=file, step="input", line=3, key=key)

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds
        await asyncio.sleep(0)

    def play(self) -> Canary:
        async def run() -> Canary:
            site = SiteFile(Path("/somewhere/demo.toml"), "the text")
            canary = Canary(
                site,
                self,
                interval_s=INTERVAL_S,
                emit=lambda event: self.events.append((len(self.looked), event)),
                wall=lambda: self.now_s,
                rand=lambda: self.rand,
                sleep=self.sleep,
            )
            try:
                await canary.run()
            except Over:
                return canary
            raise AssertionError("it ends only with the script")

        return asyncio.run(run())


entries = st.tuples(st.frozensets(st.sampled_from(NAMES)), OUTCOMES, st.sampled_from(["input", "send"]))
scripts = st.builds(ScriptedFleet, st.lists(entries, max_size=ENDS), rand=st.floats(0, 1, exclude_max=True))


@given(scripts)
def test_no_login_is_looked_at_twice_in_a_row_where_there_are_others(fleet: ScriptedFleet) -> None:
    fleet.play()
    for (_, before, _, _), (_, name, idle, _) in zip(fleet.looked, fleet.looked[1:], strict=False):
        assert name in idle
        assert name != before or idle == {name}


@given(scripts)
def test_somebody_is_sought_in_time_and_never_in_a_hurry(fleet: ScriptedFleet) -> None:
    fleet.play()
    gaps = [after - before for before, after in zip([0.0, *fleet.sought], fleet.sought, strict=False)]
    assert all(0 < gap <= INTERVAL_S for gap in gaps)
    # One check, its confirmations and what was not to be had belong together; in between the site is left alone.
    assert all(gap <= AGAIN_S or gap >= 0.9 * INTERVAL_S for gap in gaps)


@given(scripts)
def test_a_change_is_told_only_when_it_was_found_twice_in_a_row_and_once(fleet: ScriptedFleet) -> None:
    canary = fleet.play()
    told: PageChanged | None = None
    for count, event in fleet.events:
        found = [outcome for *_, outcome in fleet.looked[:count] if outcome is not CheckOutcome.GIVEN_UP]
        if isinstance(event, PageChanged):
            assert found[-1] in (CheckOutcome.CHANGED, CheckOutcome.INVALID)
            if found[-1] is CheckOutcome.CHANGED:
                assert found[-2] in (CheckOutcome.CHANGED, CheckOutcome.LOGGED_OUT)
            assert told is None or (told.step, told.key) != (event.step, event.key)
            assert (event.site, event.file, event.line) == ("demo", "demo.toml", 3)
            told = event
        else:
            assert isinstance(event, PageRecovered)
            assert told is not None
            assert found[-1] is CheckOutcome.PASSED
            told = None
    assert (canary.found is None) == (told is None)
    assert bool(canary.warnings()) == (told is not None)


@given(st.lists(st.tuples(st.frozensets(st.sampled_from(NAMES)), st.sampled_from(list(CheckOutcome)[3:]), st.just(""))))
def test_a_site_that_is_away_or_a_login_that_ended_is_no_changed_page(
    script: list[tuple[frozenset[str], CheckOutcome, str]],
) -> None:
    fleet = ScriptedFleet(script)
    canary = fleet.play()
    assert (fleet.events, canary.ok, canary.failures) == ([], None, 0)


def test_a_page_that_changed_and_recovered() -> None:
    idle = frozenset(NAMES)
    changed, passed = (idle, CheckOutcome.CHANGED, "input"), (idle, CheckOutcome.PASSED, "")
    fleet = ScriptedFleet([passed, changed, passed, changed, changed, changed, changed, passed])
    canary = fleet.play()
    assert [name for _, name, _, _ in fleet.looked] == list("abcabcab")
    assert [type(event) for _, event in fleet.events] == [PageChanged, PageRecovered]
    assert (canary.ok, canary.failures) == (True, 2)


async def test_without_an_interval_nothing_is_checked() -> None:
    fleet = ScriptedFleet([])
    site = SiteFile(Path("demo.toml"), "the text")
    await Canary(site, fleet, interval_s=0, emit=lambda _: None, sleep=fleet.sleep).run()
    assert fleet.sought == []
