"""What the steps of a check work with: a browser, its page, the capture, and what is seen on the way."""

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser.capture.capture import Capture
from browser.check.events import EventLog
from browser.check.reading import Reading
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
class Plan:
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
class Stage:
    """Filled in by the steps, in their order; what a step needs, an earlier one brought."""

    plan: Plan
    site: Site
    run_dir: Path
    login: LoadedProfile | None = None
    lock: ProfileLock | None = None
    host: BrowserProcess | None = None
    site_page: SitePage | None = None
    page: Tab | None = None
    events: EventLog = field(init=False)
    capture: Capture = field(init=False)
    traffic: Traffic | None = None
    turn: Completion | None = None
    reading: Reading | None = None

    def __post_init__(self) -> None:
        self.events = EventLog(self.site.capture.network)
        self.capture = Capture(self.site, _free_port(), self.plan.engine, self.events.take)

    @property
    def tab(self) -> Tab:
        if self.page is None:
            raise NotStarted("the page is not open")
        return self.page

    @property
    def answer(self) -> Reading:
        if self.reading is None:
            raise NotStarted("nothing was sent")
        return self.reading

    @property
    def model(self) -> Model:
        """The model that is asked: the one wanted, else the first."""
        return next(
            (model for model in self.site.model_choices if model.name == self.plan.model), self.site.model_choices[0]
        )

    async def close(self) -> None:
        """End the browser and let go of the login."""
        if self.reading:
            await self.reading.close()
        if self.host:
            await self.host.close()
        await self.capture.stream_port.stop()
        if self.lock:
            self.lock.release()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: Any = probe.getsockname()[1]
        return int(port)
