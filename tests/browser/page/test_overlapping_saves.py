"""Saves of a session that overlap: what was read later stays, in whatever order the reads end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from browser.page import login_watch
from browser.page.login_watch import SessionKeeper
from browser.page.profile import load_profile
from browser.page.storage import StorageRead
from tests.browser.profiles import write_profile
from tests.support.size import size

URL = "https://chat.example.com"
STEPS = st.lists(
    st.sampled_from(["rotate", "store", "save", "save cookies"]) | st.integers(min_value=0, max_value=9), max_size=30
)
"""What the site and the child do next; a number ends one of the reads that are under way."""


def state_of(cookie: int, stored: int) -> dict[str, Any]:
    return {
        "cookies": [{"name": "s", "value": str(cookie), "domain": "chat.example.com", "path": "/", "expires": 4e9}],
        "origins": [{"origin": URL, "localStorage": [{"name": "t", "value": str(stored)}]}],
    }


def versions(state: Any) -> tuple[int, int]:
    return int(state["cookies"][0]["value"]), int(state["origins"][0]["localStorage"][0]["value"])


class Browser:
    """Holds versions of a cookie and of a stored value. A read sees those of its begin, and ends when it is told to."""

    def __init__(self) -> None:
        self.cookie = self.stored = 0
        self.reads: list[asyncio.Future[None]] = []

    def _read(self) -> tuple[Awaitable[None], dict[str, Any]]:
        ended = asyncio.get_running_loop().create_future()
        self.reads.append(ended)
        return ended, state_of(self.cookie, self.stored)

    async def read_storage(self, *_: object, **__: object) -> StorageRead:
        ended, state = self._read()
        await ended
        return StorageRead(state)

    async def cookies(self) -> list[Any]:
        ended, state = self._read()
        await ended
        return list(state["cookies"])


async def play(steps: list[str | int], folder: Path) -> None:
    browser = Browser()
    profile = load_profile(write_profile(folder / "ada.json", state_of(0, 0)))
    keeper = SessionKeeper(profile, state_of(0, 0), folder, URL)
    context = cast("Any", browser)
    saves: list[asyncio.Task[None]] = []
    begun: list[tuple[bool, int, int]] = []
    newest = (0, 0)
    for step in [*steps, *[0] * len(steps)]:
        match step:
            case "rotate":
                browser.cookie += 1
            case "store":
                browser.stored += 1
            case "save" | "save cookies":
                begun.append((step == "save", browser.cookie, browser.stored))
                call = keeper.save(context) if step == "save" else keeper.save_cookies(context)
                saves.append(asyncio.create_task(call))
                while len(browser.reads) < len(begun):  # noqa: ASYNC110 - of one task, which begins in a few turns
                    await asyncio.sleep(0)
            case int() if begun:
                at = step % len(begun)
                whole, cookie, stored = begun.pop(at)
                browser.reads.pop(at).set_result(None)
                await saves.pop(at)
                newest = max(newest[0], cookie), max(newest[1], stored) if whole else newest[1]
                assert versions(keeper.latest()) == newest
    assert not saves


@settings(max_examples=size(200, 3000))
@given(STEPS)
def test_what_was_read_later_stays(steps: list[str | int]) -> None:
    browser_storage = mock.patch.object(
        login_watch, "read_storage", lambda context, *given, **more: context.read_storage(*given, **more)
    )
    with tempfile.TemporaryDirectory() as folder, browser_storage:
        asyncio.run(play(steps, Path(folder)))
