"""The sites of the logins that there are now: each is checked, and its file followed, apart from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import structlog

from contract.site_check import SiteCheck
from coordinator.errors import SiteMissing
from coordinator.site_files import site_name, site_path
from coordinator.supervision.canary import Canary, SiteStatus
from coordinator.supervision.events import ChildStatus, FleetEvent
from coordinator.supervision.launcher import Profile
from coordinator.supervision.site_file import SiteFile
from coordinator.supervision.site_reload import SiteReload
from coordinator.supervision.supervisor import Supervisor

log = structlog.get_logger(__name__)


class ChildrenOfSite:
    """What a canary and a reload see of the supervisor: the children of one site."""

    def __init__(self, supervisor: Supervisor, site: str) -> None:
        """`site` is the site's name."""
        self._supervisor, self._site = supervisor, site

    def snapshot(self) -> tuple[ChildStatus, ...]:
        """Return the site's children as they are now."""
        # Without a fleet file a child names no site, for there is only one.
        return tuple(child for child in self._supervisor.snapshot() if child.site in (None, self._site))

    def checkable(self) -> list[str]:
        """Return the names of those on whose page a check may run now."""
        return self._supervisor.checkable({child.name for child in self.snapshot()})

    async def check_site(self, name: str, file: str, text: str) -> SiteCheck:
        """Check a site file of this name and text on a child's page; whatever goes wrong is an outcome."""
        return await self._supervisor.check_site(name, file, text)

    def restart(self, name: str) -> None:
        """Replace a child's process after its running answer. Raises UnknownChild, ActionRefused."""
        self._supervisor.restart(name)

    def use_site(self, site: str, file: str, text: str) -> None:
        """Have children of this site that start from now on use this site file. Raises LaunchError."""
        self._supervisor.use_site(site, file, text)


class _WatchedSite:
    """One site: what checks it and what follows its file, and their tasks."""

    def __init__(self, file: SiteFile, canary: Canary, reload: SiteReload) -> None:
        self.file, self.reload = file, reload
        self._canary = canary
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        """Begin to check and to follow."""
        self._tasks = (self._task(self._canary.run(), "check"), self._task(self.reload.run(), "reload"))

    def _task(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"{what} site {self.file.site}")
        task.add_done_callback(_log_failure)
        return task

    def stop(self) -> None:
        """End both."""
        for task in self._tasks:
            task.cancel()


class FleetSites:
    """Has one canary and one reload for each site of the logins that there are; a reload of the fleet changes them."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        default_site: str | None,
        interval_s: float,
        emit: Callable[[FleetEvent], None],
    ) -> None:
        """`default_site` is CHAT_SITE, `interval_s` the longest time between two checks of a site, 0 for no checks."""
        self._supervisor, self._default_site = supervisor, default_site
        self._interval_s, self._emit = interval_s, emit
        policy = supervisor.policy
        replaced_s = policy.drain_timeout_s + policy.term_grace_s + policy.reap_timeout_s
        self._child_limit_s: Final = replaced_s + policy.start_timeout_s
        self._sites: dict[str, _WatchedSite] = {}
        self._runs = False

    async def read(self, profiles: Iterable[Profile]) -> list[SiteFile]:
        """Return the files of these profiles' sites; one that is in use stays as it is. Raises SiteMissing."""
        sites = {profile.login.site or self._default_site for profile in profiles}
        return [await self._read(site) for site in sorted(filter(None, sites))]

    async def _read(self, site: str) -> SiteFile:
        known = self._sites.get(site_name(site))
        if known is not None and known.file.path == site_path(site):
            return known.file
        file = SiteFile(site_path(site))
        try:
            file.text = await asyncio.to_thread(file.read)
        except (OSError, UnicodeDecodeError):
            raise SiteMissing(f"The site file {file.path} cannot be read any more.") from None
        return file

    def add(self, files: Iterable[SiteFile]) -> None:
        """Have children that start from now on use these files, and watch those that are new. Raises LaunchError.

        Call it before the profiles are given to the supervisor, so that their children start with our copies.
        """
        for file in files:
            known = self._sites.get(file.site)
            if known is not None and known.file is file:
                continue
            self._supervisor.use_site(file.site, str(file.path), file.text)
            if known is not None:  # a file of the same name in another folder
                known.stop()
            children = ChildrenOfSite(self._supervisor, file.site)
            canary = Canary(file, children, interval_s=self._interval_s, emit=self._emit)
            reload = SiteReload(canary, children, child_limit_s=self._child_limit_s)
            self._sites[file.site] = _WatchedSite(file, canary, reload)
            if self._runs:
                self._sites[file.site].start()

    def keep_only(self, files: Iterable[SiteFile]) -> None:
        """Forget the sites that no profile has any more."""
        for gone in self._sites.keys() - {file.site for file in files}:
            self._sites.pop(gone).stop()
            self._supervisor.forget_site(gone)

    async def run(self) -> None:
        """Check and follow all sites, those too that come later, until cancelled."""
        self._runs = True
        for site in self._sites.values():
            site.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._runs = False
            for site in self._sites.values():
                site.stop()

    def try_again(self) -> None:
        """Have site files tried that were refused, as an operator's reload asks for."""
        for site in self._sites.values():
            site.reload.try_again()

    def status(self) -> list[SiteStatus]:
        """Return what is known of each site's page."""
        return [site.reload.status() for _, site in sorted(self._sites.items())]

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        return [line for _, site in sorted(self._sites.items()) for line in site.reload.warnings()]


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log what ended a task by an error of the program itself: the fleet goes on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("site_task_failed", task=task.get_name(), exc_info=error)
