"""What the steps of a check work with: a browser, its page, the capture, and what is seen on the way."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from browser.capture.capture import Capture
from browser.check.answer_task import AnswerTask
from browser.check.event_log import EventLog
from browser.check.traffic import Traffic
from browser.errors import NotStarted
from browser.page.completion import Completion
from browser.page.profile import LoadedProfile
from browser.page.profile_lock import ProfileLock
from browser.page.site_page import SitePage
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Model, Site


@dataclass(frozen=True)
class CheckPlan:
    """What is to be checked, and how; `profile` is the login file."""

    site: str
    profile: Path
    engine: EngineName
    headless: bool
    settings: BrowserSettings
    prompt: str
    stop_prompt: str
    model: str | None
    sends: bool


@dataclass
class CheckContext:
    """Filled in by the steps, in their order; what a step needs, an earlier one brought."""

    plan: CheckPlan
    site: Site
    run_dir: Path
    login: LoadedProfile | None = None
    lock: ProfileLock | None = None
    host: BrowserProcess | None = None
    site_page: SitePage | None = None
    page: Tab | None = None
    log: EventLog = field(default_factory=EventLog)
    capture: Capture = field(init=False)
    traffic: Traffic | None = None
    turn: Completion | None = None
    answer_task: AnswerTask | None = None

    def __post_init__(self) -> None:
        self.capture = Capture(self.site, _free_port(), self.plan.engine, self.log)

    @property
    def opened(self) -> SitePage:
        """The site's page in the browser. Raises NotStarted before there is a browser."""
        if self.site_page is None:
            raise NotStarted("there is no browser")
        return self.site_page

    @property
    def tab(self) -> Tab:
        """The tab of the chat page. Raises NotStarted."""
        if self.page is None:
            raise NotStarted("the page is not open")
        return self.page

    @property
    def answer(self) -> AnswerTask:
        """The answer to the prompt that was sent last. Raises NotStarted."""
        if self.answer_task is None:
            raise NotStarted("nothing was sent")
        return self.answer_task

    @property
    def model(self) -> Model:
        """The model that is asked: the one wanted, else the first."""
        return next(
            (model for model in self.site.model_choices if model.name == self.plan.model), self.site.model_choices[0]
        )

    async def close(self) -> None:
        """End the browser and let go of the login."""
        if self.answer_task:
            await self.answer_task.close()
        if self.host:
            await self.host.close()
        await self.capture.stream_port.stop()
        if self.lock:
            self.lock.release()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
