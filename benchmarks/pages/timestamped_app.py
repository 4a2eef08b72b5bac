"""Run the chat apps of this benchmark, and read the times of prompts and tokens that they record."""

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
class AnswerTimes:
    """When an app received a prompt, and when it sent each token of the answer, by number; time.monotonic()."""

    prompt_at: float
    token_at: Mapping[int, float]


@dataclass
class TimestampedApp(ChatApp):
    """A chat app that records times."""

    scripts: Path = field(default=APPS)
    _taken: int = 0

    @property
    def address(self) -> str:
        """Return the URL of the chat page."""
        return f"{self.url}/chat" if self.name == "demo" else f"{self.url}/"

    def site(self) -> Site:
        """Return the site file's content, with this app's address."""
        path = SITES_DIR / f"{self.name}.toml"
        return parse_site(path.read_text(encoding="utf-8"), path.name, url=self.address)

    def answer_times(self, prompt: str) -> AnswerTimes:
        """Wait until the next answer is complete, and return its times. Raise ValueError if its prompt is another."""
        self._wait(lambda: any("over" in entry for entry in self._next()))
        (first, *rest) = self._next()
        self._taken += 1
        if first["prompt"] != hashlib.sha256(prompt.encode()).hexdigest():
            raise ValueError(f"{self.name} received another prompt than was sent")
        return AnswerTimes(first["at"], {entry["token"]: entry["at"] for entry in rest if "token" in entry})

    def _next(self) -> list[dict[str, Any]]:
        """Return the ledger from the first prompt on that was not read yet."""
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
def timestamped_app(name: str, folder: Path) -> Iterator[TimestampedApp]:
    """Run an app while the context lasts, with its files in `folder`."""
    app = TimestampedApp(name, folder)
    try:
        app.start()
        yield app
    finally:
        app.kill()
