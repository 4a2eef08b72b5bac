"""`launch_camoufox.py` without a browser: the real host and its real servers, over pages that only count.

    python -m tests.api.fake_pages --stream-port N --host FD ...

A page has one model, which has the name of its login. It answers any prompt piece by piece and never ends, except that
`lose` makes it a page whose browser is lost after its first piece. Where $FAKE_PAGES_DIR has a file `close_blocks_s`,
closing a page holds the process's event loop for so many seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import launch_camoufox
from api_utils import child, host
from browser.capture.findings import Reasoning
from browser.page.images import Image
from contract.output import flush_output
from tests.api.scripted_page import ScriptedConversation, ScriptedPage

PIECE_S = 0.04
LOSE = "lose"


class FakeProcess:
    """A browser that is there for as long as it is wanted."""

    def kill(self) -> None:
        """There is nothing to kill."""

    async def wait_lost(self) -> Literal["browser_lost", "driver_lost"]:
        await asyncio.Event().wait()
        raise AssertionError


class FakeBrowser:
    """What `Host` needs of a `BrowserHost`."""

    def __init__(self, *, engine: str, **_: Any) -> None:
        self.engine, self.claim, self.process = engine, None, FakeProcess()

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to close."""


class FakePage(ScriptedPage):
    """A page that answers for ever."""

    def __init__(self, *, profile: Path, **_: Any) -> None:
        super().__init__(pause_s=PIECE_S)
        self._model = profile.stem

    @property
    def models(self) -> tuple[str, ...]:
        return (self._model,)

    def converse(self, request_id: str, model: str) -> ScriptedConversation:
        return EndlessConversation(self, request_id, model)

    async def close(self) -> None:
        file = Path(os.environ["FAKE_PAGES_DIR"]) / "close_blocks_s"
        if file.exists():
            time.sleep(float(file.read_text()))  # noqa: ASYNC251 - that is what it is for
        await super().close()

    async def abandon(self) -> None:
        await self.close()


class EndlessConversation(ScriptedConversation):
    async def ask(self, prompt: str, images: Sequence[Image] = ()) -> AsyncGenerator[str | Reasoning]:
        page = self._page
        while True:
            await asyncio.sleep(page.pause_s)
            yield "piece "
            if LOSE in prompt:
                page.lost.set()


def main() -> int:
    with mock.patch.object(host, "BrowserHost", FakeBrowser), mock.patch.object(child, "ChatPage", FakePage):
        return launch_camoufox.main()


if __name__ == "__main__":
    code = main()
    flush_output()
    sys.exit(code)
