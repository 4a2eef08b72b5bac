"""What is said of an answer that cannot be read on: whether a part was lost, or what rewrote it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from playwright.async_api import Page

from browser.capture.answer import Answer
from browser.capture.frames import Feed, Frame, FrameKind
from browser.errors import CaptureGap
from browser.site.schema import Network


async def gap(*frames: Frame, **expressions: str) -> str:
    """Read frames of an answer that the site file gives no second way to read; return the error's message."""
    answer = Answer(cast("Page", None), Feed(b"0123456789abcdef"), None)
    answer.read_network(Network.model_validate({"kind": "jsonl", "url": "*", "text": "data.text", **expressions}))
    for frame in (Frame(FrameKind.OPEN, 1, b'{"status":200}'), *frames):
        answer.feed.put(frame)
    for _ in frames:
        await answer.next()
    with pytest.raises(CaptureGap) as caught:
        await answer.next()
    return str(caught.value)


def line(**data: Any) -> Frame:
    return Frame(FrameKind.CHUNK, 1, f"{json.dumps(data)}\n".encode())


async def test_a_hole_in_the_frames_is_a_part_that_was_lost() -> None:
    assert await gap(line(text="a"), Frame(FrameKind.GAP)) == "part of the answer was lost on its way from the page"


async def test_text_that_the_traffic_rewrites_is_said_to_be_rewritten() -> None:
    message = await gap(line(text="one"), line(all="two"), whole="data.all")
    assert message.startswith("the site's traffic rewrote text of the answer that was passed on already (site file: ")


async def test_a_change_that_does_not_fit_its_document_is_named() -> None:
    document = {"document": "data.doc", "changes": "data.patch", "whole": "document.t"}
    message = await gap(line(doc={"t": "a"}), line(patch=[["append", "/nowhere", "b"]]), **document)
    assert message.startswith("a change in the site's traffic does not fit")
    assert message.endswith("(site file: capture.network.changes)")
