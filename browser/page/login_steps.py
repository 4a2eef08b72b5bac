"""A login without a person: the site file's `login.steps`, with the secrets of the profile, and how often.

Secrets go nowhere but into the page's fields. While they may be seen there, no picture is taken of the page.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog
from playwright.async_api import Error

from browser.errors import BrowserError, LoginRefused, PageBroken
from browser.page.locate import locate
from browser.page.tab import PageSnapshot, Tab
from browser.timeouts import within
from contract.files import write_private
from contract.run_folder import LOGINS

log = structlog.get_logger("browser")

SHOWS_BY_ITSELF_WITHIN_S = 1.0
"""Some pages show their login form for a moment, before they have looked for the session that they have."""
HOUR_S = 3600.0
FAILURES = 2
"""So many logins in a row without success end it: accounts are locked after three to ten wrong passwords."""
AGAIN_AFTER_S = 60.0
"""How long after one without success the next is tried: the site may have been ill for a moment."""
CLEAR_TIMEOUT_S = 2.0


class LoginLog:
    """When the steps were done, and how many in a row without success: kept in the run folder over restarts.

    It is of one profile, by the digest of its file: a new one begins anew.
    """

    def __init__(self, run_dir: Path, source_sha256: str, max_per_hour: int) -> None:
        self._path = run_dir / LOGINS
        self._source = source_sha256
        self._max_per_hour = max_per_hour
        self._done: list[float] = []
        self._failures = 0
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            kept = json.loads(self._path.read_bytes())
            if kept["source_sha256"] == source_sha256:
                self._done = [float(at) for at in kept["done_at"]]
                # Where the login had counted as expired, somebody has started the child once more: one more try.
                self._failures = min(int(kept["failures"]), FAILURES - 1)

    def begin(self) -> None:
        """Take down that the steps are about to be done.

        Raises LoginRefused after too many without success, PageBroken if it is too often, or too soon after one.
        """
        now = time.time()
        if self._failures >= FAILURES:
            raise self._refused()
        self._done = [at for at in self._done if at > now - HOUR_S]
        if len(self._done) >= self._max_per_hour:
            raise PageBroken(
                f"the login was done {len(self._done)} times within an hour, and is not done again for now "
                "(site file: login.max_per_hour)"
            )
        if self._failures and self._done and now - self._done[-1] < AGAIN_AFTER_S:
            raise PageBroken(
                f"the page was still logged out after login.steps; they are tried again after {AGAIN_AFTER_S:g} s"
            )
        self._done.append(now)
        self._write()

    def succeed(self) -> None:
        """Take down that the page is logged in."""
        self._failures = 0
        self._write()

    def fail(self) -> BrowserError:
        """Take down that it still is logged out, and return what is to be raised."""
        self._failures += 1
        self._write()
        if self._failures >= FAILURES:
            return self._refused()
        return PageBroken(f"the page is still logged out after login.steps; tried again after {AGAIN_AFTER_S:g} s")

    def _refused(self) -> LoginRefused:
        return LoginRefused(
            f"the page is still logged out after login.steps, {self._failures} times in a row: the profile's secrets "
            "or the steps are wrong; they are not tried again before the profile changes or the child is started anew"
        )

    def _write(self) -> None:
        kept = {"source_sha256": self._source, "done_at": self._done, "failures": self._failures}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except OSError as error:
            problem = f"the run folder cannot be written to: {error.strerror}"
            raise PageBroken(f"{problem}; no login is tried that is not counted") from None


class StepLogin:
    """Logs a page in by the site file's steps. `may_show_secrets` is held while a picture of it would show them."""

    def __init__(self, secrets: Mapping[str, str], limit: LoginLog | None = None) -> None:
        """Without a limit a person sees to it how often."""
        self.may_show_secrets = asyncio.Lock()
        self._secrets = secrets
        self._limit = limit

    async def run(self, tab: Tab) -> None:
        """Log the page in, which shows that it is logged out, unless it turns out to be logged in.

        Raises LoginRefused where the site does not take it, once and for all; PageBroken where the page does not do
        the steps, or where they are to be tried again later.
        """
        if await tab.wait_until(_is_in, SHOWS_BY_ITSELF_WITHIN_S):
            return
        if self._limit:
            self._limit.begin()
        async with self.may_show_secrets:
            try:
                await self._log_in(tab)
            except BaseException:
                await self._clear(tab)
                raise
        log.info("logged_in_by_steps")

    async def _log_in(self, tab: Tab) -> None:
        await tab.run(tab.site.login.steps, secrets=self._secrets)
        if not await tab.wait_until(_is_in, tab.site.readiness.timeout_s):
            if await tab.wait_for_login(SHOWS_BY_ITSELF_WITHIN_S) != "out":
                raise PageBroken("after login.steps the page shows no marker of being logged in (site file: login)")
            raise self._limit.fail() if self._limit else LoginRefused("the page is still logged out after login.steps")
        if self._limit:
            self._limit.succeed()

    async def _clear(self, tab: Tab) -> None:
        """Empty the fields that secrets went into, or else the page: pictures of it are taken from here on."""
        for step in tab.site.login.steps:
            if step.fill and step.secrets:
                field = locate(tab.page, step.fill)
                try:
                    if await within(CLEAR_TIMEOUT_S, field.count(), "login-look"):
                        await within(CLEAR_TIMEOUT_S, field.fill("", timeout=CLEAR_TIMEOUT_S * 1000), "login-clear")
                except (Error, TimeoutError):
                    with suppress(Error, TimeoutError):
                        await within(CLEAR_TIMEOUT_S, tab.page.goto("about:blank"), "login-leave")
                    return


def _is_in(seen: PageSnapshot) -> bool:
    return seen.usable
