"""The sites of this benchmark as processes, and what each notes of its prompts and tokens."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser.site.load import SITES_DIR, Site, parse_site
from tests.sites.chat_app import ROOT, ChatApp

SITES = ("demo", "chainlit", "gradio")
APPS = Path(__file__).with_name("apps")


@dataclass(frozen=True)
class Notes:
    """What an app noted of one answer, by time.monotonic(): when it had the prompt, and when each token left it."""

    prompt_at: float
    token_at: Mapping[int, float]


@dataclass
class StampedApp(ChatApp):
    """One of the sites, with an app that notes times."""

    scripts: Path = field(default=APPS)
    _taken: int = 0

    @property
    def address(self) -> str:
        return f"{self.url}/chat" if self.name == "demo" else f"{self.url}/"

    def site(self) -> Site:
        """What the site file says, at this app's address."""
        path = SITES_DIR / f"{self.name}.toml"
        return parse_site(path.read_text(encoding="utf-8"), path.name, url=self.address)

    def notes(self, prompt: str) -> Notes:
        """What was noted of the next prompt, once its answer is over. Raises ValueError if that is another one."""
        self._wait(lambda: any("over" in entry for entry in self._next()))
        (first, *rest) = self._next()
        self._taken += 1
        if first["prompt"] != hashlib.sha256(prompt.encode()).hexdigest():
            raise ValueError(f"{self.name} did not get the prompt as it was sent")
        return Notes(first["at"], {entry["token"]: entry["at"] for entry in rest if "token" in entry})

    def _next(self) -> list[dict[str, Any]]:
        """The entries from the first prompt on that was not taken yet."""
        entries = self.entries()
        starts = [number for number, entry in enumerate(entries) if "prompt" in entry]
        return entries[starts[self._taken] :] if len(starts) > self._taken else []

    def _command(self) -> list[str | Path]:
        if self.name == "demo":
            return [sys.executable, "-m", "benchmarks.pages.apps.demo_app"]
        return super()._command()

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(ROOT if self.name == "demo" else APPS)}


@contextmanager
def stamped_app(name: str, folder: Path) -> Iterator[StampedApp]:
    """Run a site's app with its files in `folder`."""
    app = StampedApp(name, folder)
    try:
        app.start()
        yield app
    finally:
        app.kill()
