"""The steps of an answer: its events, its text, its end, what the page shows of it, and stopping one."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from browser.capture.compare import agree, as_text
from browser.capture.dom_poll import dom_query, look
from browser.check import diagnosis, page_facts, steps_prompt
from browser.check.answer_task import AnswerTask
from browser.check.context import CheckContext
from browser.check.diagnosis import Diagnosis
from browser.check.outcome import Exit, StepFailed, StepResult, exit_code_of
from browser.check.plain_text import plain
from browser.errors import BrowserError, CaptureGap, PageBroken, PageHung
from browser.site.schema import Network

SHOWS_TIMEOUT_S = 3.0
ERROR_SHOWS_TIMEOUT_S = 1.0
LOOK_INTERVAL_S = 0.05
_NO_TEXT_ON_PAGE = Diagnosis(("capture.dom.answer finds no text",), ("capture.dom.answer",))
_UNENDED = Diagnosis(
    ("capture.dom.done or busy never said that the answer is complete",), ("capture.dom.done", "capture.dom.busy")
)


async def first_event(context: CheckContext) -> StepResult:
    """Wait for the first sign of the answer. What follows says whether it can be read."""
    answer, log = context.answer, context.log
    arrived = asyncio.create_task(log.arrived.wait(), name="check-first-event")
    await asyncio.wait({arrived, answer.task}, return_when=asyncio.FIRST_COMPLETED)
    arrived.cancel()
    if not log.arrived.is_set():
        await _raise_its_error(context)
    if context.capture.mode == "dom":
        return StepResult("the answer shows on the page")
    if log.from_dom:
        why = _uncaught(context)
        raise StepFailed("an answer shows on the page, but none of its traffic is caught", *why.hints, keys=why.keys)
    row = log.rows[0]
    if row["kind"] != "open":
        return StepResult("the answer's first event is caught")
    status = "".join(filter(str.isdigit, row["text"]))
    return StepResult(f"the answer's request is caught (status {status})")


async def first_text(context: CheckContext) -> StepResult:
    """Wait for the first text of the answer."""
    answer = context.answer
    try:
        await answer.begun()
    except BrowserError:
        await _raise_its_error(context)
    if answer.text:
        return StepResult("the first text is read")
    why = await _why(context)
    raise StepFailed("the answer ended without any text", *why.hints, keys=why.keys)


async def end(context: CheckContext) -> StepResult:
    """Wait for the answer's end. Warn of what went another way than the file says."""
    result = await _end(context)
    wanted, traffic = context.site.send.request, context.traffic
    if wanted is None or traffic is None or traffic.has_sent(wanted):
        return result
    fits = f"send.request fits no {wanted.method} request of the page: {wanted.url!r}"
    hints = (fits, *traffic.sent())
    return StepResult(result.text, "warn", (*result.hints, *hints), (*result.keys, "send.request.url"))


async def _end(context: CheckContext) -> StepResult:
    answer, log, network = context.answer, context.log, context.site.capture.network
    try:
        await answer.task
    except BrowserError:
        await _raise_its_error(context)
    by_network = context.capture.mode == "network" and network is not None
    how = f"{len(log.events)} events" if by_network else "from the page"
    beside = f", {len(answer.reasoning)} of reasoning" if answer.reasoning else ""
    text = f"complete: {len(answer.text)} characters{beside}, {how}: {plain(answer.text, 80)!r}"
    if not by_network or network is None:
        return StepResult(text)
    if log.from_dom:
        hint = "part of its traffic was missed; it was completed from the page itself"
        why = diagnosis.of_fallback(network, log.events)
        return StepResult(text, "warn", (hint, *why.hints), why.keys)
    idle = diagnosis.of_success(network, log.events)
    return StepResult(text, "warn" if idle.keys else "ok", idle.hints, idle.keys)


async def _raise_its_error(context: CheckContext) -> None:
    """Raise StepFailed for what ended the answer, with what can be said of the reason."""
    try:
        await context.answer.task
    except BrowserError as error:
        code = exit_code_of(error)
        # A login that ended and a quota are no mistakes of the site file's.
        why = await _why(context, error) if code is Exit.FAILED else Diagnosis()
        raise StepFailed(str(error), *why.hints, keys=why.keys, code=code) from None
    raise StepFailed("the answer ended without any sign of it")


def _of_gap(context: CheckContext) -> Diagnosis:
    """Name the keys of an answer that could not be read on, though nothing is wrong with its end."""
    if context.site.capture.verify and not context.log.from_dom:
        return Diagnosis((), ("capture.verify", "capture.dom.answer", "capture.dom.read"))
    keys = ("capture.dom.stream", "capture.dom.answer", "capture.dom.read", "capture.dom")
    return Diagnosis((), keys if context.site.capture.dom else ("capture.network",))


async def _why(context: CheckContext, error: BrowserError | None = None) -> Diagnosis:
    """Say why the answer has no text, or no end; `error` is what ended it."""
    answer, log, network = context.answer, context.log, context.site.capture.network
    if context.site.capture.dom and context.site.capture.dom.error:
        # The traffic may have ended before the page shows the error that explains it.
        with suppress(TimeoutError):
            async with asyncio.timeout(ERROR_SHOWS_TIMEOUT_S):
                await answer.error_shown.wait()
    by_network = network if context.capture.mode == "network" else None
    if isinstance(error, CaptureGap) and not diagnosis.is_broken(log.events):
        return _of_gap(context)
    if answer.shown_error is not None:
        shown = Diagnosis((f"the page shows: {plain(answer.shown_error)}",))
        of_traffic = diagnosis.of_failure(by_network, log.events, error_shown=True) if by_network else Diagnosis()
        # What the page shows is no fault of the keys that the answer is read by.
        return shown + (of_traffic if of_traffic.keys else Diagnosis((), ("capture.dom.error", "refusals")))
    if by_network:
        return _why_by_network(context, by_network) if log.rows else _uncaught(context) + _NO_TEXT_ON_PAGE
    return _UNENDED if answer.text else _NO_TEXT_ON_PAGE


def _why_by_network(context: CheckContext, network: Network) -> Diagnosis:
    log = context.log
    refusal = tuple(f"  text: {plain(row['text'])}" for row in log.rows if row.get("unread") == "refusal")
    if refusal:
        return Diagnosis(refusal, ("refusals",))
    if context.traffic and (mismatch := context.traffic.mismatch(network)):
        return mismatch + Diagnosis(tuple(diagnosis.samples(log.events)))
    if log.from_dom:  # the page took over from the traffic, and did not come to an end either
        return diagnosis.of_fallback(network, log.events) + _UNENDED
    return diagnosis.of_failure(network, log.events)


def _uncaught(context: CheckContext) -> Diagnosis:
    """Say what the page asked for instead of what the site file expects."""
    network, traffic = context.site.capture.network, context.traffic
    if network is None or traffic is None:
        return Diagnosis()
    why = traffic.mismatch(network)
    if not why:
        why = Diagnosis(tuple(traffic.requests(network)), ("capture.network.url",))
    return Diagnosis((f"capture.network.url is {network.url!r}",)) + why


async def page_text(context: CheckContext) -> StepResult:
    """Compare what was read from the traffic with what the page shows."""
    dom, read = context.site.capture.dom, context.answer.text
    await context.answer.close()
    if dom is None:
        return StepResult("the file has no capture.dom to compare with", "skip")
    if context.capture.mode != "network":
        return StepResult("that is where it was read", "skip")
    deadline = time.monotonic() + SHOWS_TIMEOUT_S
    while True:
        seen = await look(context.tab.page, dom_query(dom, context.site))
        found = seen["text"]
        shown = None if found is None else as_text(found, html=dom.read == "markdown")
        if shown is not None and agree(read, shown, dom.read):
            if seen["reasoning"] and not context.answer.reasoning:
                unread = "the same text; the page shows reasoning, of which capture.network.reasoning finds nothing"
                return StepResult(unread, "warn", keys=("capture.network.reasoning",))
            return StepResult("the page shows the same text")
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(LOOK_INTERVAL_S)
    if shown is None:
        hint = f"capture.dom.answer {dom.answer!r} {await page_facts.css(context.tab.page, dom.answer)}"
        raise StepFailed("the answer was read from the traffic, but capture.dom does not find it", hint)
    hints = (f"read:  {plain(read)!r}", f"shown: {plain(shown)!r}")
    laid_out = "" if dom.read == "markdown" else "; if it lays Markdown out: capture.dom.read = 'markdown'"
    # Cut short, it ended too early; else either of both may be read wrongly.
    suspects = ("end",) if shown.startswith(read) else ("text", "whole")
    keys = (*(f"capture.network.{key}" for key in suspects), "capture.dom.answer", "capture.dom.read")
    return StepResult(f"the page shows another text{laid_out}", "warn", hints, keys)


async def stop(context: CheckContext) -> StepResult:
    """Send a second prompt and stop its answer."""
    site = context.site
    if not site.stop.actions or not site.stop.answering:
        return StepResult("the file cannot stop an answer: one that nobody wants runs on", "warn")
    answer = await _send_another(context, context.plan.stop_prompt)
    completion = answer.completion
    ended = StepResult("the answer ended before it could be stopped; give a longer one by --stop-prompt", "warn")
    if not await _sees_answering(context, site.stop.answering):
        text = "the answer ended, and stop.answering did not show meanwhile; if it was short, give --stop-prompt"
        hint = f"stop.answering {site.stop.answering!r} {await page_facts.css(context.tab.page, site.stop.answering)}"
        return StepResult(text, "warn", (hint,), ("stop.answering",))
    await answer.close()
    if completion.complete:
        return ended
    try:
        await context.tab.stop_answer()
    except PageBroken as error:
        facts = [await page_facts.action(context.tab.page, step, site.input.selector) for step in site.stop.actions]
        hint = f"stop.answering {site.stop.answering!r} {await page_facts.css(context.tab.page, site.stop.answering)}"
        hints = (hint, *(fact for of_step in facts for fact in of_step))
        raise StepFailed(str(error), *hints, keys=("stop.actions", "stop.answering")) from None
    return StepResult(f"stopped after {len(answer.text)} characters")


async def _send_another(context: CheckContext, prompt: str) -> AnswerTask:
    """Send a second prompt and wait for its answer. What fails is named by its own keys. Raises StepFailed."""
    completion = steps_prompt.new_completion(context)
    keys: tuple[str, ...] = ("models",)
    try:
        await completion.choose(context.model)
        keys = ("input",)
        await completion.enter(prompt)
        context.log.begin()
        keys = ("send",)
        await completion.send()
    except BrowserError as error:
        raise StepFailed(f"the second prompt: {error}", keys=keys, code=exit_code_of(error)) from None
    context.answer_task = answer = AnswerTask(context.tab, completion)
    try:
        # From the page, text may come at the end alone: of one paragraph, or with capture.dom.stream = false.
        await answer.begun(context.log.arrived if context.capture.mode == "dom" else None)
    except BrowserError:
        await _raise_its_error(context)
    return answer


async def _sees_answering(context: CheckContext, marker: str) -> bool:
    """See that stop.answering holds; False if the answer ended too soon to tell. Raises StepFailed."""
    for _ in range(int(SHOWS_TIMEOUT_S / LOOK_INTERVAL_S)):
        with suppress(PageHung):
            seen = await context.tab.look()
            if seen and seen.answering:
                return True
        if context.answer.task.done():
            return False
        await asyncio.sleep(LOOK_INTERVAL_S)
    hint = f"stop.answering {marker!r} {await page_facts.css(context.tab.page, marker)}"
    raise StepFailed("an answer is being written, but stop.answering does not show it", hint, keys=("stop.answering",))
