"""The chat apps of these tests as processes: started, logged in to, ended, and started again."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

from playwright.sync_api import sync_playwright

from tests.e2e.fleet import chromium
from tests.support.json_lines import json_lines
from tests.support.ports import NOWHERE, free_range

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).with_name("apps")
TIMEOUT_S = 240.0  # on a busy machine an app imports for minutes
QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "LITERAL_DISABLED": "true",
    "OTEL_SDK_DISABLED": "true",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
    "STREAMLIT_SERVER_HEADLESS": "true",
    "TRACELOOP_TELEMETRY": "false",
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class AppKind:
    """What differs between the apps: how each is logged in to, and what it keeps."""

    answers_when_up: str
    logged_in: str = ""
    """What its page shows after the login; empty where there is no login."""
    login_page: str = "/"
    takes_form: bool = False
    """Whether a POST to /login logs in; else only its page does."""
    forgets_logins: bool = False
    """Whether a restart ends them."""
    lays_out_markdown: bool = False
    """Whether its answers can be read from its page alone, as Markdown."""


KINDS = {
    "chainlit": AppKind("/auth/config", logged_in="#chat-input", login_page="/login", takes_form=True),
    "demo": AppKind("/login", takes_form=True),
    "gradio": AppKind("/config", logged_in="[role=log]", takes_form=True, forgets_logins=True),
    "nicegui": AppKind("/login", logged_in="[data-testid=prompt]", login_page="/login"),
    "panel": AppKind("/login", logged_in=".chat-interface", takes_form=True, lays_out_markdown=True),
    "shiny": AppKind("/"),
    "streamlit": AppKind("/_stcore/health", lays_out_markdown=True),
}
APPS = [name for name in KINDS if name != "demo"]
LOGIN_FORM = {"username": "ada", "password": "lovelace"}


@dataclass
class ChatApp:
    """One of the apps, on a port that stays its own when it is started again."""

    name: str
    folder: Path
    rotates: bool = field(default=False, kw_only=True)
    """Whether the cookie of its login changes with each load of the page: chainlit and gradio."""
    port: int = field(default_factory=lambda: free_range(1))
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    process: subprocess.Popen[bytes] | None = None
    scripts: Path = SCRIPTS
    host: str = "127.0.0.1"
    """Where Chainlit and Gradio listen; 0.0.0.0 for browsers of another network."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def kind(self) -> AppKind:
        return KINDS[self.name]

    def entries(self) -> list[dict[str, Any]]:
        """What the app received and answered, in order."""
        return json_lines(self._ledger)

    @property
    def _ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    def start(self) -> None:
        """Start it, in an environment that is made first if need be, and wait until it answers."""
        command = self._command()
        ours = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
        }  # NiceGUI reads them
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                env={**ours, **QUIET, **self._environment()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait(self._is_up)

    def _command(self) -> list[str | Path]:
        subprocess.run([ROOT / "scripts" / "app-env", self.name], check=True)
        programs, script = ROOT / ".cache" / self.name / "bin", self.scripts / f"{self.name}_app.py"
        match self.name:
            case "chainlit":
                address = ("--host", self.host, "--port", str(self.port))
                return [programs / "chainlit", "run", script, "--headless", *address]
            case "streamlit":
                return [programs / "streamlit", "run", script]
            case _:
                return [programs / "python", script]

    def _environment(self) -> Mapping[str, str]:
        return {
            "APP_HOST": self.host,
            "APP_LEDGER": str(self._ledger),
            "APP_PORT": str(self.port),
            "APP_SECRET": self.secret,
            "CHAINLIT_APP_ROOT": str(self.folder),
            "CHAINLIT_AUTH_SECRET": self.secret,
            "NICEGUI_STORAGE_PATH": str(self.folder / "nicegui"),
            "STREAMLIT_SERVER_PORT": str(self.port),
            **({"APP_ROTATES": "1"} if self.rotates else {}),
        }

    def _is_up(self) -> bool:
        try:
            with urlopen(f"{self.url}{self.kind.answers_when_up}", timeout=5):
                return True
        except OSError as error:
            return getattr(error, "code", None) == 401

    def _wait(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not look():
            assert self.process
            assert self.process.poll() is None, f"{self.name} ended; see {self.folder}"
            assert time.monotonic() < deadline, f"{self.name} does not answer; see {self.folder}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def end_sessions(self) -> None:
        """Make the app forget every login, while it goes on."""
        assert self.process
        self.process.send_signal(signal.SIGUSR1)
        self._wait(lambda: self.entries()[-1:] == [{"sessions": "ended"}])

    def log_in(self) -> dict[str, Any]:
        """Log in by a request where the app's page does so too, else on its page; return a storage_state of its own."""
        if not self.kind.takes_form:
            saved = self.folder / "login.json"
            with ThreadPoolExecutor(1) as thread:  # for Playwright, which takes no thread that has a loop
                thread.submit(log_in_by_hand, self, saved).result()
            state: dict[str, Any] = json.loads(saved.read_text())
            return state
        jar = CookieJar()
        opener = build_opener(HTTPCookieProcessor(jar))
        with opener.open(f"{self.url}/login", urlencode(LOGIN_FORM).encode(), timeout=TIMEOUT_S):
            return {"cookies": [_as_saved(cookie.name, cookie.value) for cookie in jar if not cookie.secure]}


def log_in_by_hand(app: ChatApp, path: Path) -> None:
    """Log in on the app's own page, in a real browser, and save the profile; an empty one if there is no login."""
    if not app.kind.logged_in:
        path.write_text(json.dumps({"cookies": [], "origins": []}))
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), proxy={"server": NOWHERE, "bypass": "127.0.0.1"}
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)  # ms; on a busy machine such a page takes long to draw itself
        page.goto(f"{app.url}{app.kind.login_page}")
        page.locator("input:not([type=password])").first.fill(LOGIN_FORM["username"])
        page.fill("input[type=password]", LOGIN_FORM["password"])
        page.press("input[type=password]", "Enter")
        page.wait_for_selector(app.kind.logged_in)
        saved = path.with_suffix(".part")
        page.context.storage_state(path=saved)
        saved.replace(path)
        browser.close()


def _as_saved(name: str, value: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "domain": "127.0.0.1",
        "path": "/",
        "expires": -1,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }


@contextmanager
def chat_app(name: str, folder: Path, *, host: str = "127.0.0.1") -> Iterator[ChatApp]:
    """Run an app of KINDS with its files in `folder`."""
    app = ChatApp(name, folder, host=host)
    try:
        app.start()
        yield app
    finally:
        app.kill()
