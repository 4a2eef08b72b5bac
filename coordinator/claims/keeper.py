"""The claims of this cell: claimed, renewed, given up, and ended before the store gives them to another.

The fence. The store keeps a claim for the lease's whole time after it has *received* a renewal. The cell counts from
when it *sent* the renewal, and less than that time, by a clock that counts suspension (`contract.claim_deadline`,
`holds_for_s`). So a browser has ended before another cell can claim its login, whatever is cut or stopped. Two look at
the deadline, so that one of them may be stopped: each child, and this keeper.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import structlog

from contract.claim_deadline import LOOK_INTERVAL_S, ClaimDeadlineFile, boottime
from coordinator.claims.share import Waits, fair_shares, preferred
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import (
    CellTaken,
    ClaimStore,
    ClaimStoreError,
    LeaseGone,
    SettingsDiffer,
    StoreNew,
    StoreRefused,
    View,
)
from coordinator.supervision.child import Child
from coordinator.supervision.claim_note import ClaimNote
from coordinator.supervision.lifecycle import LIVE, State

log = structlog.get_logger(__name__)

END_S: Final = 0.1
"""What the end of a browser takes: it is killed, and so is what it has started."""
LONGEST_LOOK_S: Final = 1.0
"""How often the store is looked at, at least: ten times in the lease's time where that is more often."""
RENEWALS: Final = 5
"""How often the lease is renewed in its time; a call to the store is to take no longer than the time between two."""
WAIT_FOR_SHARES: Final = 1.5
"""In times of the lease: how long a login is left to the cells that have less than their share."""
NOTE: Final = "note"
"""The kind of what stands in the store about a login besides its claim: `ClaimNote`."""

_AT_ONCE: Final = 8  # calls to the store


def holds_for_s(ttl_s: float) -> float:
    """Return for how many seconds after it was sent a renewal can be relied on, where the store keeps it for `ttl_s`.

    The clocks of cell and store may differ in speed by 2 %, and to look at the deadline and end browsers takes time.
    """
    return 0.95 * ttl_s - LOOK_INTERVAL_S - END_S


class Claimants(Protocol):
    """The children, as far as claims go: `Supervisor`."""

    def claimants(self) -> dict[str, Child]:
        """Return all children by name, those on their way out too."""


class Handover(Protocol):
    """What else goes with a login from one cell to the next: its session."""

    async def unusable(self) -> str | None:
        """Return why nothing can be kept here now, None if it can: without that no login may start here."""

    async def take(self, login: str, claim: int) -> bool:
        """Fetch what the last holder has left; return False if that cannot be done now, and then it must not start.

        `claim` is the number of the claim.
        """

    async def leave(self, login: str) -> bool:
        """Store what the next holder needs; return whether it is stored. The login's browser has ended."""

    def forget(self, login: str) -> None:
        """The login is not this cell's any more."""


class Trouble(StrEnum):
    """What keeps a cell from claiming, as `/ready` names it. A closed set."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    STORE_NEW = "store_new"
    CELL_TAKEN = "cell_taken"
    SETTINGS_DIFFER = "settings_differ"
    SESSIONS_UNUSABLE = "sessions_unusable"


@dataclass
class ClaimsStatus:
    """How this cell's claims stand, as `/ready`, metrics and logs show them."""

    held: int = 0
    cells: tuple[str, ...] = ()
    trouble: str | None = None
    """What keeps it from claiming: a line for people that names no address."""
    reason: Trouble | None = None
    """The same in one word."""
    lost: int = 0
    """How many claims ended without having been given back."""

    @property
    def store_reached(self) -> bool:
        """Whether nothing of the store keeps the cell from claiming."""
        return self.trouble is None or self.reason is Trouble.SESSIONS_UNUSABLE

    def public(self) -> dict[str, object]:
        """Return what `/ready` shows: no address of the store."""
        return {
            "held": self.held,
            "cells": list(self.cells),
            "lost": self.lost,
            "store_reached": self.store_reached,
            "reason": self.reason,
        }


class ClaimKeeper:
    """Keeps the claims of one cell. Make it inside a running loop; `run` is its life."""

    def __init__(  # noqa: PLR0913 - what it is given is what it may use
        self,
        store: ClaimStore,
        children: Claimants,
        *,
        cell: str,
        shared: SharedSettings,
        room: int,
        deadline_file: ClaimDeadlineFile,
        handover: Handover,
        clock: Callable[[], float] = boottime,
        holds_s: float | None = None,
    ) -> None:
        """`room` is how many logins may run here. Children are told of the file with the deadline.

        `shared` is what other cells must have as well; it has the time of the lease.

        `holds_s` is for a test that shows what happens where claims are relied on for too long.
        """
        self._store, self._children, self._handover = store, children, handover
        self._cell, self._shared, self._room = cell, shared, room
        self._ttl_s = ttl_s = shared.ttl_s
        self._file = deadline_file
        self._look_s = min(LONGEST_LOOK_S, ttl_s / 10)
        self._clock, self._holds_s = clock, holds_for_s(ttl_s) if holds_s is None else holds_s
        self._deadline = 0.0
        self._held: set[str] = set()
        """The logins whose claims are ours, also while what runs of them is on its way out."""
        self._notes: dict[str, ClaimNote | None] = {}
        """What was last read or written of each."""
        self._taken: set[str] = set()
        """Those whose sessions are here as the last holder left them, or newer."""
        self._waits = Waits()
        self._unwanted: set[str] = set()
        """Those that no other of the present cells has claimed: they are not given up again before there are others."""
        self._cells: Mapping[str, int] = {}
        self._not_before: dict[str, float] = {}
        """Until when a login is not claimed again that could not be had, or whose handover failed."""
        self._wake = asyncio.Event()
        self._draining = False
        self._unusable: str | None = None
        """Why sessions cannot be kept here. Then it claims nothing, and what runs goes on."""
        self._left = False
        """Whether it has told the others to share all logins without it."""
        self.status = ClaimsStatus()

    # Its life

    async def run(self) -> None:
        """Register, claim and renew, for ever; begin anew after each loss of the lease. Raises OSError for the file."""
        try:
            while True:
                await self._register()
                lost = await self._until_lost()
                log.warning("claims_lost", reason=str(lost))
                # Not before: what is left of a browser would have the login without a claim.
                await self._until_clean()
                await self._try(self._store.revoke())
        finally:
            self._fence()
            self._file.close()

    async def _until_lost(self) -> LeaseGone:
        """Guard, renew and tend until the lease is over, and fence; return how that showed.

        Raises what else goes wrong.
        """
        work = (self._guard(), self._renew(), self._tend())
        tasks = [asyncio.create_task(some, name="claims") for some in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before all else: a line of the log may wait for its reader, and a task for its end.
            self._fence()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [end for end in ends if isinstance(end, Exception)]
        for error in errors:
            if not isinstance(error, LeaseGone):
                raise error
        return next(error for error in errors if isinstance(error, LeaseGone))

    async def _register(self) -> None:
        """Have a lease. Wait for the store, and for the end of what has the cell's name there, or other settings.

        Wait also until sessions can be kept here: the others would leave logins to this cell, which can start none.
        """
        self._left = False
        while True:
            self._unusable = await self._handover.unusable()
            if self._unusable is not None:
                self._tell_unusable(self._unusable)
                await asyncio.sleep(self._look_s)
                continue
            sent = self._clock()
            try:
                await self._store.register(self._cell, self._shared, self._room)
            except ClaimStoreError as error:  # a lease that was gone at once too
                self._in_trouble(error)
            else:
                self._reached()
                self._extend(sent)
                return
            await asyncio.sleep(self._look_s)

    async def _renew(self) -> None:
        """Renew the lease RENEWALS times in its time. Raises LeaseGone when it is over."""
        while True:
            await asyncio.sleep(self._ttl_s / RENEWALS)
            sent = self._clock()
            # After the deadline the guard ends what runs, whatever the answer that has come at last.
            if await self._answers(self._store.renew()) and self._clock() < self._deadline:
                self._extend(sent)

    def _extend(self, sent: float) -> None:
        self._deadline = max(self._deadline, sent + self._holds_s)
        self._file.extend(self._deadline)

    async def _guard(self) -> None:
        """Raise LeaseGone as soon as the deadline is over, whatever the store is doing."""
        while self._clock() < self._deadline:  # noqa: ASYNC110 - the time passes by itself, in suspension too
            await asyncio.sleep(LOOK_INTERVAL_S)
        raise LeaseGone("no renewal was answered in time")

    def _fence(self) -> None:
        """End every browser of a claimed login now."""
        self._file.end()
        self._deadline = 0.0
        children = self._children.claimants()
        self.status.lost += len(self._held)
        fenced = [children[login] for login in self._held if login in children]
        # All of them first, for what follows from each is logged.
        for child in fenced:
            child.fence()
        for child in fenced:
            child.lose_claim()
        for login in tuple(self._held):
            self._forget(login)
        self.status.held, self.status.cells = 0, ()

    async def _until_clean(self) -> None:
        while any(not child.clean for child in self._children.claimants().values()):  # noqa: ASYNC110 - of many events
            await asyncio.sleep(LOOK_INTERVAL_S)

    # Claiming and giving up

    def wake(self) -> None:
        """Look again soon: a child has become clean, or profiles have changed."""
        self._wake.set()

    async def _tend(self) -> None:
        """Claim, grant, give up and release, now and then and when woken. Raises LeaseGone."""
        while True:
            self._wake.clear()
            await self._answers(self._look())
            try:
                await asyncio.wait_for(self._wake.wait(), self._look_s)
            except TimeoutError:
                continue

    async def _look(self) -> None:
        self._unusable = await self._handover.unusable()
        view = await self._store.view()
        if self._clock() >= self._deadline:
            raise LeaseGone("the deadline is over")
        if not self._draining and not self._left and self._cell not in view.cells:
            raise LeaseGone("the cell is not registered any more")
        children = self._children.claimants()
        self._drop_lost(view, children)
        # Claims whose answers were lost, and that nothing was started for: they are released, and claimed anew.
        self._held |= view.own
        await self._release_clean(children)
        await self._write_notes(children)
        await self._join_or_leave(view)
        if not self._draining:
            if view.cells != self._cells:
                self._cells = view.cells
                self._unwanted.clear()
            names = [name for name, child in children.items() if not child.profile_gone]
            shares = fair_shares(view.cells, len(names))
            if not self._left:
                await self._claim(view, children, names, shares.get(self._cell, 0))
            self._give_up(view, children, names, shares)
        for name, child in children.items():
            if not child.claimed and name not in self._held:
                holder = view.holders.get(name)
                child.held_by(None if holder == self._cell else holder)  # which has released it since
        self.status.held, self.status.cells = len(self._held), tuple(sorted(view.cells))

    async def _join_or_leave(self, view: View) -> None:
        """Have the others share all logins without this cell while it can start none, and at its end."""
        leaves = self._draining or self._unusable is not None
        if leaves and self._cell in view.cells:
            self._left = True
            await self._store.leave()
        elif self._left and not leaves:
            await self._store.rejoin()
            self._left = False

    def _drop_lost(self, view: View, children: dict[str, Child]) -> None:
        """End what runs without a claim: somebody has deleted it. (One whose release was not answered has ended.)"""
        for login in [login for login in self._held if login not in view.own]:
            self._forget(login)
            child = children.get(login)
            if child is not None and not (child.clean and not child.claimed):
                log.warning("claim_lost", child=login, holder=view.holders.get(login))
                self.status.lost += 1
                child.lose_claim()

    def _forget(self, login: str) -> None:
        self._held.discard(login)
        self._taken.discard(login)
        self._handover.forget(login)
        self._notes.pop(login, None)

    async def _release_clean(self, children: dict[str, Child]) -> None:
        """Give back the claims of children that are not to run here any more, once nothing of them is left."""
        done = []
        for login in self._held:
            child = children.get(login)
            if child is not None and self._draining and child.clean:
                child.claimed = False
            if child is None or (child.clean and not child.claimed):
                done.append(self._release(login, child))
        await self._few_at_once(done)

    async def _release(self, login: str, child: Child | None) -> None:
        if login in self._taken:
            await self._write_note(login, child)
            if not await self._handover.leave(login):
                log.warning("session_not_handed_over", child=login)
                if child is not None and not child.profile_gone and not self._draining:
                    # Whoever had it next would open an older session, and might end the login by that.
                    self._not_before[login] = self._clock() + WAIT_FOR_SHARES * self._ttl_s
                    child.grant(child.note())
                    return
        await self._store.release(login)
        self._forget(login)
        log.info("claim_released", child=login)

    async def _write_notes(self, children: dict[str, Child]) -> None:
        for login in tuple(self._held):
            if login in children:
                await self._write_note(login, children[login])

    async def _write_note(self, login: str, child: Child | None) -> None:
        if child is None or not child.has_note:
            return
        note = child.note()
        if note != self._notes.get(login):
            await self._store.write(NOTE, login, note.to_bytes() if note else None)
            self._notes[login] = note

    async def _claim(self, view: View, children: dict[str, Child], names: Sequence[str], share: int) -> None:
        """Claim what is free, up to this cell's share, and beyond it what nobody else has wanted for a while.

        `names` are the children that have a profile, here and in `_give_up`.
        """
        now = self._clock()
        free = {name for name in names if name not in view.holders}
        self._waits.see(free, now)
        unwanted = self._waits.longer_than(WAIT_FOR_SHARES * self._ttl_s, now)
        active = sum(1 for login in self._held if login in children and _is_active(children[login]))
        self._not_before = {login: at for login, at in self._not_before.items() if at > now}
        wanted: list[str] = []
        for login in preferred(self._cell, free - self._not_before.keys()):
            within_share = len(self._held) + len(wanted) < share
            if active + len(wanted) < self._room and (within_share or login in unwanted):
                wanted.append(login)
                if not within_share:
                    self._unwanted.add(login)
        await self._few_at_once([self._claim_one(login, children[login]) for login in wanted])

    async def _claim_one(self, login: str, child: Child) -> None:
        """Claim a login and let it start. What is claimed and not granted is released by the next look."""
        fingerprint = child.profile.fingerprint
        number = await self._store.claim(login, fingerprint or None) if child.clean else None
        if number is None:
            self._not_before[login] = self._clock() + self._ttl_s
            return
        self._held.add(login)
        data = await self._store.read(NOTE, login)
        note = ClaimNote.from_bytes(data) if data else None
        if not await self._handover.take(login, number):
            self._not_before[login] = self._clock() + self._ttl_s
            return
        self._taken.add(login)
        self._notes[login] = note
        if self._clock() < self._deadline and child.profile.fingerprint == fingerprint and not self._draining:
            log.info("claimed", child=login)
            child.grant(note)

    def _give_up(self, view: View, children: dict[str, Child], names: Sequence[str], shares: Mapping[str, int]) -> None:
        """Let others have what is more than this cell's share: at once what does not run, the others one by one.

        While sessions cannot be kept here, what runs stays: whoever had it next would open an older session.
        """
        kept = [login for login in self._held if login in children and children[login].claimed]
        movable = [login for login in kept if login not in self._not_before and login not in self._unwanted]
        have = Counter(view.holders.values())
        missing = sum(max(0, share - have[cell]) for cell, share in shares.items() if cell != self._cell)
        on_the_way = len(self._held) - len(kept) + sum(1 for name in names if name not in view.holders)
        surplus = min(len(kept) - shares.get(self._cell, 0), missing - on_the_way)
        if surplus <= 0:
            return
        order = preferred(self._cell, movable)[::-1]
        not_running = [login for login in order if children[login].can_start]
        for login in not_running[:surplus]:
            children[login].give_up()
        idle = [login for login in order if children[login].phase.state in LIVE and _is_idle(children[login])]
        if len(not_running) < surplus and len(kept) == len(self._held) and idle and self._unusable is None:
            log.info("claim_given_up", child=idle[0])
            children[idle[0]].give_up()
        if not_running:
            self._wake.set()

    # The end

    def begin_drain(self) -> None:
        """Claim no more, and give each claim back as soon as its child is clean. Does not wait for that."""
        self._draining = True
        self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Hand over what is left and end the lease. Where something still runs, the lease ends by itself, in its time.

        It takes `timeout_s` seconds at most. Nothing is started any more; to be called before `run` is cancelled.
        """
        children = self._children.claimants()
        if all(child.clean for child in children.values()):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._try(self._hand_over_all(children))
        await self._store.close()

    async def _hand_over_all(self, children: dict[str, Child]) -> None:
        await self._few_at_once([self._release(login, children.get(login)) for login in self._held])
        await self._store.revoke()

    async def _few_at_once(self, calls: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Make these calls to the store, _AT_ONCE at a time; raise the first error once all have ended."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(call: Coroutine[Any, Any, None]) -> None:
            try:
                async with gate:
                    await call
            finally:
                call.close()  # where it was cancelled before its turn

        ends = await asyncio.gather(*map(one, calls), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _answers(self, call: Coroutine[Any, Any, None]) -> bool:
        """Make a call to the store; note, and return, whether it answers. Raises LeaseGone."""
        try:
            await call
        except LeaseGone:
            raise
        except ClaimStoreError as error:
            self._in_trouble(error)
            return False
        self._reached()
        return True

    async def _try(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except ClaimStoreError as error:
            log.warning("claims_not_told", message=str(error))

    def _in_trouble(self, error: ClaimStoreError) -> None:
        match error:
            case CellTaken():
                reason = Trouble.CELL_TAKEN
                text = f"The store of claims has a cell {self._cell} already: give each coordinator a CELL of its own."
            case StoreNew():
                reason = Trouble.STORE_NEW
                text = f"The store of claims was empty; in {self._ttl_s} s no earlier claim can be relied on any more."
            case SettingsDiffer():
                reason, text = Trouble.SETTINGS_DIFFER, str(error)
            case StoreRefused():
                reason = Trouble.REFUSED
                text = "The store of claims refuses this coordinator; the log has the reason."
            case _:
                reason = Trouble.UNREACHABLE
                text = f"The store of claims cannot be reached; after {self._ttl_s} s what runs here ends."
        if text != self.status.trouble:
            log.warning("claim_store_trouble", reason=reason, message=str(error))
        self.status.trouble, self.status.reason = text, reason

    def _reached(self) -> None:
        if not self.status.store_reached:
            log.info("claim_store_reached")
        self.status.trouble = self.status.reason = None
        if self._unusable is not None:
            self._tell_unusable(self._unusable)

    def _tell_unusable(self, why: str) -> None:
        self.status.trouble = f"This cell claims nothing: SESSION_DIR cannot be used: {why}."
        self.status.reason = Trouble.SESSIONS_UNUSABLE


def _is_active(child: Child) -> bool:
    """Return whether the child needs a place to run in, now or soon."""
    return child.phase.state not in (State.RESTING, State.FAILED, State.STOPPED)


def _is_idle(child: Child) -> bool:
    return child.run is None or not child.run.backend.in_flight
