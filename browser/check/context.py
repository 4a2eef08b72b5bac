"""What the steps of a check work with: a browser, its page, the capture, and what is seen on the way."""

from __future__ import annotations

import json
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from playwright.async_api import Error

from browser.capture.capture import Capture
from browser.capture.stream_port import StreamPort
from browser.check.answer_task import AnswerTask
from browser.check.event_log import EventLog
from browser.check.traffic import Traffic
from browser.errors import NotStarted
from browser.page.completion import Completion
from browser.page.login_steps import StepLogin
from browser.page.profile import LoadedProfile
from browser.page.profile_lock import ProfileLock
from browser.page.site_page import SitePage
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.process.own_proxy import OwnProxy, own_proxy_of
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Model, Site
from contract.files import write_private
from contract.proxies import Proxy

SCREENSHOT_TIMEOUT_S = 10.0
PROMPT = "Reply with one short sentence: what is a quay?"
SHORTEST_SECRET = 4
"""A secret with fewer characters is in every text by chance."""


@dataclass(frozen=True)
class CheckPlan:
    """What is to be checked, and how; `profile` is the login file, None for a site without a login."""

    site: str
    profile: Path | None
    engine: EngineName
    headless: bool
    settings: BrowserSettings
    prompt: str
    stop_prompt: str
    model: str | None
    sends: bool
    proxy: Proxy | None = None


@dataclass
class CheckContext:
    """Filled in by the steps, in their order; what a step needs, an earlier one brought."""

    plan: CheckPlan
    site: Site
    run_dir: Path
    login: LoadedProfile | None = None
    step_login: StepLogin | None = None
    lock: ProfileLock | None = None
    host: BrowserProcess | None = None
    site_page: SitePage | None = None
    page: Tab | None = None
    log: EventLog = field(default_factory=EventLog)
    own_proxy: OwnProxy | None = field(init=False)
    port: int = field(init=False)
    stream_port: StreamPort = field(init=False)
    capture: Capture = field(init=False)
    traffic: Traffic | None = None
    completion: Completion | None = None
    answer_task: AnswerTask | None = None

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.stream_port = StreamPort(self.port)
        self.capture = Capture(self.site, self.port, self.plan.engine, self.log)
        self.stream_port.add(self.capture.receiver)
        self.own_proxy = own_proxy_of(self.plan.proxy, self.site.url, self.plan.settings)

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

    async def save(self, folder: Path | None) -> tuple[Path, list[str]]:
        """Write a screenshot, the events and the requests, as far as there are any, for their owner only.

        Without a folder they go to a new one. Returns the folder and the names of the files. Raises OSError.
        """
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="tabfleet-check-"))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files: dict[str, bytes] = {"events.jsonl": self.log.as_jsonl()}
        if self.traffic:
            files["requests.jsonl"] = self.traffic.as_jsonl()
        if self.page:
            with suppress(Error, TimeoutError):  # a page that crashed or hangs has no picture
                files["screenshot.png"] = await self.page.screenshot(SCREENSHOT_TIMEOUT_S)
        kept = {name: data for name, data in files.items() if data}
        for name, data in kept.items():
            write_private(folder / name, self._without_secrets(data))  # they may hold what the page shows
        return folder, sorted(kept)

    def _without_secrets(self, data: bytes) -> bytes:
        """Put {secret:NAME} in place of the secrets, as a page that logs in by an address would show them."""
        for name, secret in (self.login.secrets if self.login else {}).items():
            forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
            for form in forms if len(secret) >= SHORTEST_SECRET else ():
                data = data.replace(form.encode(), f"{{secret:{name}}}".encode())
        return data

    async def close(self) -> None:
        """End the browser and let go of the login."""
        if self.answer_task:
            await self.answer_task.close()
        if self.host:
            await self.host.close()
        await self.stream_port.stop()
        if self.lock:
            self.lock.release()
