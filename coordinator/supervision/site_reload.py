"""A site file that changes on the disk: tried on one idle login, and only then given to the children, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from contract.child_api import MOST_SITE_FILE_BYTES
from contract.errors import TabfleetError
from contract.site_check import CheckOutcome
from coordinator.errors import ActionRefused, UnknownChild
from coordinator.supervision.canary import Canary, SiteStatus
from coordinator.supervision.events import ChildStatus
from coordinator.supervision.lifecycle import Reason, State

log = structlog.get_logger(__name__)

LOOK_S: Final = 2.0
"""How often the file is read; it is tried once two reads in a row gave the same, for an editor may still be writing."""
AWAY_AGAIN_S: Final = 30.0
_POLL_S: Final = 0.1
_WITH_PAGE: Final = frozenset({State.STARTING, State.READY, State.UNHEALTHY})
_DEAD: Final = frozenset({State.FAILED, State.STOPPED})
_NOT_THE_FILES_FAULT: Final = frozenset({Reason.QUOTA, Reason.SITE_UNREACHABLE})
_UNDECIDED: Final = frozenset({CheckOutcome.UNREACHABLE, CheckOutcome.REFUSED})


def _is_dead(child: ChildStatus) -> bool:
    """Whether a child has no process, and will have none soon."""
    return child.state in _DEAD or (child.state is State.RESTING and child.reason is Reason.CRASH_LOOP)


class ReloadedFleet(Protocol):
    """What is done with the children of a site whose file has changed."""

    def snapshot(self) -> tuple[ChildStatus, ...]:
        """Return all children as they are now."""

    def restart(self, name: str) -> None:
        """Replace a child's process after its running answer. Raises UnknownChild, ActionRefused."""

    def use_site(self, site: str, file: str, text: str) -> None:
        """Have children that start from now on use this site file. Raises LaunchError."""


class SiteReload:
    """Follows one site file. Another text is refused with a reason, or replaces the one in use."""

    def __init__(
        self,
        canary: Canary,
        fleet: ReloadedFleet,
        *,
        child_limit_s: float,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`child_limit_s` is how long a child may take to be replaced, its running answer included."""
        self._canary, self._fleet = canary, fleet
        self._child_limit_s, self._sleep = child_limit_s, sleep
        self._seen: str | None = None
        self._refused: str | None = None
        self.note: str | None = None
        """What has become of another text than the one in use."""

    def try_again(self) -> None:
        """Have a text tried that was refused, as an operator's reload asks for."""
        self._refused = None

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await self._sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Read the file, and try it if it is another one, and has been so for two looks."""
        site = self._canary.site
        try:
            text = await asyncio.to_thread(site.read)
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self._tell(f"{site.name} cannot be read: {problem}")
            self._seen = None
            return
        if len(text.encode()) > MOST_SITE_FILE_BYTES:
            self._tell(f"it is larger than {MOST_SITE_FILE_BYTES} bytes")
        elif text == site.text:
            self._seen = self._refused = self.note = None
        elif text == self._refused:
            pass
        elif text != self._seen:
            self._seen = text
        else:
            await self._try(text)

    async def _try(self, text: str) -> None:
        canary = self._canary
        async with canary.exclusive:
            if self._takes_untried(text):
                return
            name, found = await canary.checked(text)
            if found is None:
                self._tell("waits for an idle login to be tried on")
            elif found.outcome in _UNDECIDED:
                self._tell("cannot be tried while the site is away or takes no prompts")
            elif found.outcome is CheckOutcome.PASSED:
                if await self._replace(text):
                    canary.take(name, found)
            elif found.outcome is CheckOutcome.INVALID:
                self._refuse(text, found.message.removeprefix("site file "))
            else:
                self._refuse(text, f"step {found.step!r} fails on {name}; look at {found.place}")
        if found is not None and found.outcome in _UNDECIDED:
            await self._sleep(AWAY_AGAIN_S)

    def _takes_untried(self, text: str) -> bool:
        """Take a text where nobody serves, or will by itself: there is no login to try it on, and nothing to lose."""
        children = self._fleet.snapshot()
        if not children or not all(_is_dead(child) for child in children):
            return False
        if self._use(text):
            log.warning("site_file_taken_untried", site=self._canary.site.site, file=self._canary.site.name)
            self._revive(children)
        return True

    def _revive(self, children: tuple[ChildStatus, ...]) -> None:
        """Start those that have no process, and perhaps for want of a site file that fits."""
        for child in children:
            if child.state is not State.STOPPED and _is_dead(child):
                self._restart(child.name)

    def _tell(self, note: str) -> None:
        if note != self.note:
            log.warning("site_file_not_taken", site=self._canary.site.site, file=self._canary.site.name, why=note)
        self.note = note

    def _refuse(self, text: str, why: str) -> None:
        self._refused, self._seen = text, None
        self._tell(f"refused: {why}")

    def _use(self, text: str) -> bool:
        """Have children that start from now on use this text; False if they cannot be given it."""
        site = self._canary.site
        try:
            self._fleet.use_site(site.site, str(site.path), text)
        except TabfleetError as error:
            self._refuse(text, "it cannot be written for the children; the log has the reason")
            log.error("site_file_not_written", site=site.site, message=str(error))  # noqa: TRY400 - a line for people
            return False
        site.text = text
        self._seen = self._refused = self.note = None
        return True

    async def _replace(self, text: str) -> bool:
        """Give the text to all children that have a process, one after another; take it back if the first one fails.

        A child that starts meanwhile for another reason has it already.
        """
        site = self._canary.site
        before = site.text
        if not self._use(text):
            return False
        log.info("site_file_taken", site=site.site, file=site.name)
        one_is_ready = False
        for child in [child for child in self._fleet.snapshot() if child.state in _WITH_PAGE]:
            now = self._status(child.name)
            if now is None or now.generation != child.generation or now.state not in _WITH_PAGE:
                continue
            if not self._restart(child.name):
                continue
            failed = await self._until_ready(child)
            if self._status(child.name) is None:  # its profile was taken away: it says nothing of the file
                continue
            one_is_ready = one_is_ready or failed is None
            if failed is not None and failed not in _NOT_THE_FILES_FAULT and not one_is_ready:
                if self._use(before):
                    self._refuse(text, f"{child.name} did not become ready with it: {failed}")
                    self._restart(child.name)
                return False
        self._revive(self._fleet.snapshot())
        return True

    def _restart(self, name: str) -> bool:
        """Replace a child's process; False if it is leaving or gone, or all end."""
        try:
            self._fleet.restart(name)
        except (ActionRefused, UnknownChild):
            return False
        return True

    async def _until_ready(self, before: ChildStatus) -> str | None:
        """Wait until a child is READY in a later start; return the reason if it is not to be."""
        left_s, now = self._child_limit_s, self._status(before.name)
        while left_s > 0 and now is not None:
            if now.generation > before.generation and now.state is State.READY:
                return None
            if now.state in (State.FAILED, State.RESTING, State.STOPPED):
                return now.reason or now.state
            await self._sleep(_POLL_S)
            left_s -= _POLL_S
            now = self._status(before.name)
        return None if now is None else now.reason or now.state

    def _status(self, name: str) -> ChildStatus | None:
        return next((child for child in self._fleet.snapshot() if child.name == name), None)

    def status(self) -> SiteStatus:
        """Return what is known of the site."""
        canary = self._canary
        return SiteStatus(
            canary.site.site, canary.site.name, canary.ok, canary.checked_at, canary.failures, canary.found, self.note
        )

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        name = self._canary.site.name
        return [*self._canary.warnings(), *([f"The new {name} is not in use: {self.note}."] if self.note else [])]
