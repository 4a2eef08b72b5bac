"""The steps of a prompt: an empty conversation, the model, the input, the send."""

from __future__ import annotations

from browser.check import page_facts
from browser.check.answer_task import AnswerTask
from browser.check.context import CheckContext
from browser.check.outcome import StepFailed, StepResult
from browser.errors import BrowserError, PageBroken, PromptRejected
from browser.page.completion import Completion
from browser.site.schema import Action, Actions


async def run_actions(context: CheckContext, actions: Actions, *, model: str = "") -> None:
    """Do steps one by one. Raises StepFailed, which says what the failing one's selector finds."""
    for step in actions:
        try:
            await context.tab.run((step,), model=model)
        except PageBroken as error:
            raise StepFailed(str(error), *await _explain(context, step)) from None


async def _explain(context: CheckContext, step: Action) -> list[str]:
    return await page_facts.action(context.tab.page, step, context.site.input.selector)


async def fresh_chat(context: CheckContext) -> StepResult:
    """Open an empty conversation."""
    site, tab = context.site, context.tab
    await run_actions(context, site.fresh_chat.actions)
    try:
        await tab.wait_fresh()
    except PageBroken as error:
        raise StepFailed(str(error), *await page_facts.why_not_fresh(tab)) from None
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
            await run_actions(context, model.choose, model=model.name)
        except StepFailed as error:
            raise StepFailed(f"model {model.name}: {error}", *error.hints) from None
    names = ", ".join(context.site.models)
    if not any(model.choose for model in context.site.model_choices):
        return StepResult(f"{names}: nothing to choose", "skip")
    return StepResult(f"chosen one after the other: {names}; the prompt goes to {asked.name}")


def new_completion(context: CheckContext) -> Completion:
    """Return a prompt to come. Nothing takes down that it was submitted: the check never sends it again."""
    return Completion(
        tab=context.tab, capture=context.capture, settings=context.plan.settings, mark_submitted=lambda: None
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
        raise StepFailed(str(error), hint, f"tried: {', '.join(field.methods)}") from None
    return StepResult(f"holds exactly the prompt of {len(prompt)} characters, by the method {method!r}")


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
