"""A prompt's answer as its reader gets it, without a browser."""

from __future__ import annotations

from typing import Any, cast

from browser.capture.findings import Done, Finding, Text
from browser.capture.frames import TURN_FRAMES
from browser.page.completion import Completion
from browser.settings import BrowserSettings
from tests.support.turns import each_turn


class OneFrame:
    """An answer that is all in one frame."""

    async def next(self) -> list[Finding]:
        return [*(Text("token") for _ in range(10_000)), Done()]


async def test_other_tasks_get_turns_while_one_large_frame_is_read() -> None:
    nothing = cast("Any", None)
    completion = Completion(tab=nothing, capture=nothing, settings=BrowserSettings(), mark_submitted=lambda: None)
    completion._answer = cast("Any", OneFrame())
    turns: list[None] = []
    async with each_turn(lambda: turns.append(None)):
        pieces = [piece async for piece in completion.read()]
    assert len(pieces) == 10_000
    assert len(turns) >= 10_000 // TURN_FRAMES - 1
