"""A prompt's answer as its reader gets it, without a browser."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from browser.capture.findings import Done, Finding, Text
from browser.capture.frames import TURN_FRAMES
from browser.page.completion import Completion
from browser.settings import BrowserSettings


class OneFrame:
    """An answer that is all in one frame."""

    async def next(self) -> list[Finding]:
        return [*(Text("token") for _ in range(10_000)), Done()]


async def test_other_tasks_get_turns_while_one_large_frame_is_read() -> None:
    nothing = cast("Any", None)
    completion = Completion(tab=nothing, capture=nothing, settings=BrowserSettings(), mark_submitted=lambda: None)
    completion._answer = cast("Any", OneFrame())
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    pieces = [piece async for piece in completion.read()]
    task.cancel()
    assert len(pieces) == 10_000
    assert turns >= 10_000 // TURN_FRAMES - 1
