"""The steps of an answer: its events, its text, its end, what the page shows of it, and stopping one."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from playwright.async_api import Error

from browser.capture import scripts
from browser.capture.capture import dom_wish
from browser.capture.compare import agree
from browser.capture.reading import as_text
from browser.check import asking, looking
from browser.check.outcome import StepFailed, Told, exit_code_of
from browser.check.reading import Reading
from browser.check.stage import Stage
from browser.check.traffic import plain
from browser.errors import BrowserError, PageBroken, PageHung
from browser.site.schema import Dom
from browser.timeouts import within

SHOWS_TIMEOUT_S = 3.0
LOOK_INTERVAL_S = 0.05
_SAMPLES = 3


async def first_event(stage: Stage) -> Told:
    """Wait for the first sign of the answer. What follows says whether it can be read."""
    answer = stage.answer
    arrived = asyncio.create_task(stage.events.arrived.wait(), name="check-first-event")
    await asyncio.wait({arrived, answer.task}, return_when=asyncio.FIRST_COMPLETED)
    arrived.cancel()
    if not stage.events.arrived.is_set():
        await _raise_its_error(stage)
    if stage.events.from_dom and stage.capture.way == "network":
        raise StepFailed("an answer shows on the page, but none of its traffic is caught", *_traffic(stage))
    if stage.capture.way == "dom":
        return Told("the answer shows on the page")
    row = stage.events.rows[0]
    status = f" (status {_status(row)})" if row["kind"] == "open" else ""
    return Told(f"the answer's {'request' if status else 'first event'} is caught{status}")


def _status(row: dict[str, Any]) -> str:
    return "".join(filter(str.isdigit, row["text"]))


async def _raise_its_error(stage: Stage) -> None:
    """Raise StepFailed for what ended the answer."""
    try:
        await stage.answer.task
    except BrowserError as error:
        hints = []
        if stage.answer.shown_error is not None:
            hints.append(f"the page shows: {plain(stage.answer.shown_error)}")
        elif not stage.events.rows:
            hints += _traffic(stage)
        elif error.reason in ("first_token_timeout", "site_error"):
            hints += [*_misfits(stage), *_why_no_text(stage)]
        raise StepFailed(str(error), *hints, code=exit_code_of(error)) from None
    raise StepFailed("the answer ended without any sign of it")


def _traffic(stage: Stage) -> list[str]:
    network = stage.site.capture.network
    if network is None or stage.traffic is None:
        return []
    return [f"capture.network.url is {network.url!r}", *stage.traffic.hints(network)]


def _misfits(stage: Stage) -> list[str]:
    network = stage.site.capture.network
    return stage.traffic.misfits(network) if network and stage.traffic else []


async def first_text(stage: Stage) -> Told:
    try:
        await stage.answer.begun()
    except BrowserError:
        await _raise_its_error(stage)
    if not stage.answer.text:
        raise StepFailed("the answer ended without any text", *_why_no_text(stage))
    return Told("the first text is read")


def _why_no_text(stage: Stage) -> list[str]:
    """Say which expressions found nothing, and show some events."""
    network, events = stage.site.capture.network, stage.events.events
    if network is None or stage.capture.way == "dom":
        return ["capture.dom.answer finds no text"]
    if not events:
        return ["what was caught holds no event", *_samples(stage.events.rows, "text")]
    unused = [
        f"capture.network.{name} finds something in none of {len(events)} events"
        for name in ("start", "text", "whole")
        if getattr(network, name) and not any(name in event["found"] for event in events)
    ]
    return [*unused, *_samples(events, "data")]


def _samples(rows: list[dict[str, Any]], key: str) -> Iterable[str]:
    for row in [row for row in rows if row[key]][:_SAMPLES]:
        name = f"event {row['event']!r}, " if row.get("event") else ""
        yield f"  {name}{key}: {plain(row[key])}"


async def end(stage: Stage) -> Told:
    answer = stage.answer
    try:
        await answer.task
    except BrowserError as error:
        raise StepFailed(str(error), *_why_no_end(stage), code=exit_code_of(error)) from None
    count = len(stage.events.events)
    how = f"{count} events" if stage.capture.way == "network" else "from the page"
    text = f"complete: {len(answer.text)} characters, {how}: {plain(answer.text, 80)!r}"
    if stage.capture.way == "network" and stage.events.from_dom:
        return Told(text, "warn", ("part of its traffic was missed; it was completed from the page itself",))
    return Told(text)


def _why_no_end(stage: Stage) -> list[str]:
    network, rows = stage.site.capture.network, stage.events.rows
    if stage.answer.shown_error is not None:
        return [f"the page shows: {plain(stage.answer.shown_error)}"]
    if network is None or stage.capture.way == "dom":
        return ["capture.dom.done or busy never said that the answer is complete"]
    marks = [f"capture.network.{name}" for name in ("end", "end_data") if getattr(network, name)]
    said = f"{' and '.join(marks)} held for none of {len(stage.events.events)} events; the last of them:"
    if not marks:
        said = "without capture.network.end the answer ends with its request, which goes on; the last events:"
    return [said, *_samples(stage.events.events[-_SAMPLES:] or rows[-_SAMPLES:], "data")]


async def page_text(stage: Stage) -> Told:
    """Hold what was read from the traffic against what the page shows."""
    dom = stage.site.capture.dom
    await stage.answer.close()
    if dom is None:
        return Told("the file has no capture.dom to compare with", "skip")
    if stage.capture.way != "network":
        return Told("that is where it was read", "skip")
    shown = await _shown(stage, dom)
    if shown is None:
        hint = f"capture.dom.answer {dom.answer!r} {await looking.css(stage.tab.page, dom.answer)}"
        raise StepFailed("the answer was read from the traffic, but capture.dom does not find it", hint)
    if agree(stage.answer.text, shown, dom.read):
        return Told("the page shows the same text")
    hints = (f"read:  {plain(stage.answer.text)!r}", f"shown: {plain(shown)!r}")
    laid_out = "" if dom.read == "markdown" else "; if it lays Markdown out: capture.dom.read = 'markdown'"
    return Told(f"the page shows another text{laid_out}", "warn", hints)


async def _shown(stage: Stage, dom: Dom) -> str | None:
    """Return what the page shows of the answer, once it is the text wanted or does not become so in time."""
    deadline = time.monotonic() + SHOWS_TIMEOUT_S
    while True:
        shown: str | None = None
        with suppress(Error, TimeoutError):
            looking_at = stage.tab.page.evaluate(scripts.ANSWER, dom_wish(dom, stage.site))
            found = (await within(SHOWS_TIMEOUT_S, looking_at, "check-shown"))["text"]
            shown = None if found is None else as_text(found, html=dom.read == "markdown")
        is_it = shown is not None and agree(stage.answer.text, shown, dom.read)
        if is_it or time.monotonic() > deadline:
            return shown
        await asyncio.sleep(LOOK_INTERVAL_S)


async def stop(stage: Stage) -> Told:
    """Send a second prompt and stop its answer."""
    site = stage.site
    if not site.stop.actions or not site.stop.answering:
        return Told("the file cannot stop an answer: one that nobody wants runs on", "warn")
    turn = asking.new_turn(stage)
    await turn.choose(stage.model)
    await turn.enter(stage.plan.stop_prompt)
    stage.events.begin()
    await turn.send()
    stage.reading = reading = Reading(stage.tab, turn)
    await reading.begun()
    if not await _sees_answering(stage):
        return Told("the answer ended before it could be stopped; give a longer one by --stop-prompt", "warn")
    await reading.close()
    if turn.complete:
        return Told("the answer ended before it could be stopped; give a longer one by --stop-prompt", "warn")
    try:
        await stage.tab.stop_answer()
    except PageBroken as error:
        hint = f"stop.answering {site.stop.answering!r} {await looking.css(stage.tab.page, site.stop.answering)}"
        raise StepFailed(str(error), hint) from None
    return Told(f"stopped after {len(reading.text)} characters")


async def _sees_answering(stage: Stage) -> bool:
    """See that stop.answering holds; False if the answer ended too soon to tell. Raises StepFailed."""
    marker = stage.site.stop.answering or ""
    for _ in range(int(SHOWS_TIMEOUT_S / LOOK_INTERVAL_S)):
        with suppress(PageHung):
            look = await stage.tab.look()
            if look and look.answering:
                return True
        if stage.answer.task.done():
            return False
        await asyncio.sleep(LOOK_INTERVAL_S)
    hint = f"stop.answering {marker!r} {await looking.css(stage.tab.page, marker)}"
    raise StepFailed("an answer is being written, but stop.answering does not show it", hint)
