"""The steps of a prompt: an empty conversation, the model, the input, the send."""

from __future__ import annotations

from contextlib import suppress

from playwright.async_api import Error

from browser.check import page_facts
from browser.check.answer_task import AnswerTask
from browser.check.context import CheckContext
from browser.check.outcome import StepFailed, StepResult
from browser.check.plain_text import plain
from browser.errors import BrowserError, PageBroken, PromptRejected, SiteUnreachable
from browser.page.completion import Completion
from browser.page.locate import locate
from browser.page.sent_prompt import SentPromptWatch
from browser.site.schema import Action, Actions, SentPrompt
from browser.timeouts import within

SEND_SHOWS_TIMEOUT_S = 5.0


async def run_actions(context: CheckContext, actions: Actions, *, place: str = "", model: str = "") -> None:
    """Do steps one by one; `place` is the key of their list in the site file.

    Raises StepFailed, which says what the failing one's selector finds, and where it stands.
    """
    for at, step in enumerate(actions):
        try:
            await context.tab.run((step,), model=model)
        except PageBroken as error:
            keys = (f"{place}.{at}.{step.verb}", place) if place else ()
            hints, is_away = await _explain(context, step), isinstance(error, SiteUnreachable)
            raise StepFailed(str(error), *hints, keys=keys, site_is_away=is_away) from None


async def _explain(context: CheckContext, step: Action) -> list[str]:
    return await page_facts.action(context.tab.page, step, context.site.input.selector)


async def fresh_chat(context: CheckContext) -> StepResult:
    """Open an empty conversation."""
    site, tab = context.site, context.tab
    await run_actions(context, site.fresh_chat.actions, place="fresh_chat.actions")
    try:
        await tab.wait_fresh()
    except PageBroken as error:
        why = await page_facts.why_not_fresh(tab)
        raise StepFailed(str(error), *why.hints, keys=why.keys) from None
    if not await context.capture.wait_connected(tab.page):
        keys = ("capture.network.url", "capture.network.ready_frames")
        text = "open, but no websocket sent what capture.network.ready_frames waits for"
        return StepResult(text, "warn", keys=keys)
    return StepResult(f"an empty conversation is open ({_steps(site.fresh_chat.actions)})")


def _steps(actions: Actions) -> str:
    return f"{len(actions)} step{'' if len(actions) == 1 else 's'}"


async def choose_models(context: CheckContext) -> StepResult:
    """Choose each of the models, the one that is asked last."""
    asked = context.model
    others = [model for model in context.site.model_choices if model is not asked]
    for model in (*others, asked):
        try:
            place = f"models.{context.site.model_choices.index(model)}.choose"
            await run_actions(context, model.choose, place=place, model=model.name)
        except StepFailed as error:
            text, is_away = f"model {model.name}: {error}", error.site_is_away
            raise StepFailed(text, *error.hints, keys=error.keys, site_is_away=is_away) from None
    names = ", ".join(context.site.models)
    if not any(model.choose for model in context.site.model_choices):
        return StepResult(f"{names}: nothing to choose", "skip")
    return StepResult(f"chosen one after the other: {names}; the prompt goes to {asked.name}")


def new_completion(context: CheckContext) -> Completion:
    """Return a prompt to come. Nothing takes down that it was submitted: the check never sends it again."""
    return Completion(
        tab=context.tab,
        capture=context.capture,
        settings=context.plan.settings,
        mark_submitted=lambda: None,
        compares_sent=True,
    )


async def fill(context: CheckContext) -> StepResult:
    """Put the prompt into the input, and read it back."""
    context.completion = new_completion(context)
    prompt, field = context.plan.prompt, context.site.input
    try:
        method = await context.completion.enter(prompt)
    except BrowserError as error:
        hint = f"input.selector {field.selector!r} {await page_facts.found(context.tab.page, field.selector)}"
        if isinstance(error, PromptRejected):
            raise StepFailed(str(error), hint, *error.tried, keys=("input.methods", "input")) from None
        keys = ("input.selector",) if isinstance(error, PageBroken) else ()
        raise StepFailed(str(error), hint, f"tried: {', '.join(field.methods)}", keys=keys) from None
    return StepResult(f"holds exactly the prompt of {len(prompt)} characters, by the method {method!r}")


async def send_is_there(context: CheckContext) -> StepResult:
    """Look for what the first step of the send acts on; nothing is sent, and the input is emptied."""
    step, page = context.site.send.actions[0], context.tab.page
    selector = step.click or (step.press and (step.on or context.site.input.selector))
    if selector:
        timeout_s = min(step.timeout_s, SEND_SHOWS_TIMEOUT_S)
        try:
            shown = locate(page, selector).wait_for(state="visible", timeout=timeout_s * 1000)
            await context.tab.perform(shown, f"looking for {selector!r}", timeout_s)
        except PageBroken as error:
            keys = (f"send.actions.0.{step.verb}", "send.actions")
            raise StepFailed(str(error), *await _explain(context, step), keys=keys) from None
    # Some pages keep a draft, and show it in the next tab.
    with suppress(Error, TimeoutError):
        field = locate(page, context.site.input.selector)
        await within(SEND_SHOWS_TIMEOUT_S, field.fill("", timeout=SEND_SHOWS_TIMEOUT_S * 1000), "check-empty")
    if not selector:
        return StepResult("the first step of the send neither clicks nor presses: not looked at", "skip")
    return StepResult("what sends the prompt shows on the page; nothing was sent")


async def send(context: CheckContext) -> StepResult:
    """Send what the input holds, once its answer can be captured."""
    if context.traffic:
        context.traffic.mark()
    context.log.begin()
    completion = context.completion
    if completion is None:
        raise RuntimeError("nothing was entered")
    actions = context.site.send.actions
    try:
        await completion.send()
    except PageBroken as error:
        hints = [hint for step in actions for hint in await _explain(context, step)]
        raise StepFailed(str(error), *hints) from None
    context.answer_task = AnswerTask(context.tab, completion)
    return StepResult(f"sent ({_steps(actions)})")


async def sent_prompt(context: CheckContext) -> StepResult:
    """Compare what the page sent, or shows as sent, with the prompt. Raises StepFailed."""
    wanted = context.site.send.prompt
    watch = context.completion.sent_prompt if context.completion else None
    if wanted is None or watch is None:
        return StepResult("the file has no send.prompt: what the page makes of the prompt is not looked at", "skip")
    await watch.settled()
    where = "what it shows" if wanted.selector else "what it sent"
    if watch.found is None:
        return StepResult(f"the prompt is not found in {where}", "warn", *await _why_not_found(context, wanted, watch))
    if differs := watch.differs:
        hints = (f"asked: {plain(context.plan.prompt)!r}", f"{where.removeprefix('what it ')}: {plain(watch.found)!r}")
        place = "selector" if wanted.selector else "json" if wanted.json_path else "form" if wanted.form else "url"
        keys = (f"send.prompt.{place}", "input.methods", "input")
        raise StepFailed(f"the page made another prompt of it: {differs.told_of(where)}", *hints, keys=keys)
    return StepResult(f"the prompt is the same in {where}")


async def _why_not_found(
    context: CheckContext, wanted: SentPrompt, watch: SentPromptWatch
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return hints and keys for a prompt that was not found where the file says."""
    if wanted.selector:
        found = await page_facts.found(context.tab.page, wanted.selector)
        return (f"send.prompt.selector {wanted.selector!r} {found}",), ("send.prompt.selector",)
    if watch.is_unreadable:
        hint = "this browser does not tell what a request holds: name the prompt on the page by send.prompt.selector"
        return (hint,), ("send.prompt.url",)
    if watch.requests:
        key = "send.prompt.json" if wanted.json_path else "send.prompt.form"
        return (f"{key} finds no text in the request, or in none of {watch.requests}",), (key,)
    sent = context.traffic.sent() if context.traffic else []
    fits = f"send.prompt.url fits no {wanted.method} request of the page: {wanted.url!r}"
    return (fits, *sent), ("send.prompt.url",)
